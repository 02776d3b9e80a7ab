/** The running proxy: what `/metrics` says after mail went through, against what was sent. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { createTransport } from "nodemailer";
import { SMTPServer } from "smtp-server";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "warp-metrics-"));
const ends: (() => Promise<void>)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
  rmSync(folder, { recursive: true });
});

/** Takes mail, but none to nobody@. */
async function destination(): Promise<number> {
  const server = new SMTPServer({
    authOptional: true,
    logger: false,
    onRcptTo: ({ address }, _session, done) => {
      if (!address.startsWith("nobody@")) return done();
      return done(Object.assign(new Error("5.1.1 no such user"), { responseCode: 550 }));
    },
    onData: (stream, _session, done) => {
      stream.resume();
      stream.once("end", () => done(null, "queued"));
    },
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  ends.push(() => new Promise<void>((resolve) => server.close(() => resolve())));
  return (server.server.address() as AddressInfo).port;
}

interface Running {
  readonly child: ChildProcess;
  readonly port: number;
  readonly metrics: string;
}
async function warp(workers: number): Promise<Running> {
  const config = join(folder, `${workers}.yaml`);
  const settings = {
    listen: ["127.0.0.1:0"],
    workers,
    capture: { destination: `127.0.0.1:${await destination()}` },
    metrics: { listen: "127.0.0.1:0" },
  };
  writeFileSync(config, JSON.stringify(settings));
  const child = spawn(process.execPath, [MAIN, "--config", config], { stdio: ["ignore", "pipe", "pipe"] });
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  ends.push(async () => {
    child.kill("SIGTERM");
    await closed;
  });
  let log = "";
  const metrics = new Promise<string>((resolve, reject) => {
    createInterface(child.stderr!).on("line", (line) => {
      log += `${line}\n`;
      const url = /metrics at (http:[^\s"]+)/.exec(line)?.[1];
      if (url !== undefined) resolve(url);
    });
    void closed.then(() => reject(new Error(`warp ended: ${log}`)));
  });
  const port = new Promise<number>((resolve) => {
    createInterface(child.stdout!).on("line", (line) => {
      const said = /^warp listens to 127\.0\.0\.1:(\d+)$/.exec(line)?.[1];
      if (said !== undefined) resolve(Number(said));
    });
  });
  return {
    child,
    metrics: await metrics,
    port: await Promise.race([port, closed.then(() => assert.fail(log))]),
  };
}

/** Name with labels → value. */
async function scrape(url: string): Promise<Map<string, number>> {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(" ")),
      Number(line.slice(line.lastIndexOf(" ") + 1)),
    ]),
  );
}
/** Sum of a metric over all labels that match. */
function sum(samples: ReadonlyMap<string, number>, name: string, ...labels: string[]): number {
  let total = 0;
  for (const [key, value] of samples) {
    const isIt = key === name || key.startsWith(`${name}{`);
    if (isIt && labels.every((label) => key.includes(label))) total += value;
  }
  return total;
}
/** Scrapes until the proxy has seen every session and leg end: a client's QUIT is not the end of ours. */
async function settled(url: string, sessions: number): Promise<ReadonlyMap<string, number>> {
  for (;;) {
    const samples = await scrape(url);
    if (sum(samples, "warp_sessions_total") >= sessions && sum(samples, "warp_sessions_active") === 0)
      return samples;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const MESSAGES = 12;
const REFUSED = 5;

for (const workers of [1, 2]) {
  describe(`metrics of ${workers === 1 ? "one process" : `${workers} workers`}`, { timeout: 60_000 }, () => {
    it("say what was sent", async () => {
      const running = await warp(workers);
      const health = (path: string) => fetch(new URL(path, running.metrics)).then(({ status }) => status);
      assert.deepEqual([await health("/healthz"), await health("/readyz")], [200, 200]);
      let octets = 0;
      for (let index = 0; index < MESSAGES + REFUSED; index++) {
        // A connection of its own for each, so that every worker may get some.
        const transport = createTransport({ host: "127.0.0.1", port: running.port, ignoreTLS: true });
        const isRefused = index >= MESSAGES;
        const raw = `Subject: ${index}\r\n\r\n${"x".repeat(index * 100)}\r\n`;
        const to = isRefused ? "nobody@example.org" : "bob@example.org";
        const sent = transport.sendMail({ envelope: { from: "alice@example.net", to }, raw });
        if (isRefused) await assert.rejects(sent, /no such user/);
        else {
          await sent;
          octets += raw.length;
        }
        transport.close();
      }
      const samples = await settled(running.metrics, MESSAGES + REFUSED);
      const expected: [number, string, ...string[]][] = [
        [MESSAGES + REFUSED, "warp_sessions_total", 'result="served"'],
        [MESSAGES + REFUSED, "warp_session_duration_seconds_count"],
        [MESSAGES + REFUSED, "warp_legs_total", 'reason="connect"', 'result="connected"'],
        [MESSAGES + REFUSED, "warp_dial_seconds_count", 'family="4"'],
        [MESSAGES, "warp_transactions_total", 'outcome="accepted"'],
        [MESSAGES + REFUSED, "warp_transactions_total"],
        [MESSAGES, "warp_replies_total", 'stage="end_of_data"', 'class="accepted"', 'origin="upstream"'],
        [MESSAGES, "warp_replies_total", 'stage="rcpt"', 'class="accepted"'],
        [MESSAGES, "warp_replies_total", 'stage="data"', 'class="accepted"'],
        [REFUSED, "warp_replies_total", 'stage="rcpt"', 'class="unknown-recipient"'],
        [MESSAGES, "warp_message_octets_count"],
        [octets, "warp_message_octets_sum"],
        [MESSAGES, "warp_stage_seconds_count", 'stage="end_of_data"'],
        [MESSAGES + REFUSED, "warp_tls_handshakes_total", 'side="upstream"', 'result="ok"'],
        [0, "warp_own_replies_total"],
        [0, "warp_protocol_violations_total"],
        [workers, "warp_workers"],
      ];
      for (const [value, name, ...labels] of expected)
        assert.equal(sum(samples, name, ...labels), value, `${name} ${labels.join()}`);
      assert.ok(sum(samples, "warp_octets_total", 'direction="in"') > octets);
      assert.equal([...samples.keys()].filter((key) => key.startsWith("warp_build_info")).length, 1);
    });
  });
}
