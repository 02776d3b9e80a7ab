import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openTelemetry, type TelemetrySettings } from "../../../src/telemetry/setup.ts";
import { comm, conn, transaction } from "./events.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-telemetry-"));
after(() => rmSync(folder, { recursive: true }));
let files = 0;

/** What stands on the descriptor after one mail. */
async function written(
  log: TelemetrySettings["log"],
  metrics?: object,
): Promise<{ text: string; metrics: string | undefined }> {
  const file = join(folder, String(++files));
  const fd = openSync(file, "w");
  const opened = openTelemetry({ log, metrics }, { version: "1.2.3", worker: 2, fd });
  for (const event of [comm(), transaction(), conn()]) {
    for (const sink of opened.sinks) if (sink.wants(event.kind)) sink.emit(event);
  }
  opened.telemetry.ownReply(421, "dial");
  const text = await opened.metrics?.text();
  await opened.close();
  closeSync(fd);
  return { text: readFileSync(file, "utf8"), metrics: text };
}

describe("log and metrics of a process", () => {
  it("are the delivery line alone by default", async () => {
    const { text, metrics } = await written({ level: "info", format: "json", verbose: false });
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      lines.map(({ code, worker }) => [code, worker]),
      [["delivery", 2]],
    );
    assert.equal(metrics, undefined);
  });

  it("keep the order of --verbose and log, which share the descriptor", async () => {
    const { text } = await written({ level: "info", format: "json", verbose: true });
    const order = text
      .trim()
      .split("\n")
      .map((line) => (line.startsWith("{") ? "log" : line.split(" ")[3]));
    assert.deepEqual(order, ["->", "log", "--"]);
  });

  it("count where metrics are asked for", async () => {
    const { metrics } = await written({ level: "silent", format: "json", verbose: false }, {});
    assert.match(metrics!, /^warp_transactions_total\{outcome="accepted"\} 1$/m);
    assert.match(metrics!, /^warp_own_replies_total\{code="421",reason="dial"\} 1$/m);
    assert.match(metrics!, /^process_cpu_seconds_total /m);
  });
});
