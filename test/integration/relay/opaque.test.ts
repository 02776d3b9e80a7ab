/** Traffic that is no SMTP dialogue passes untouched, with events about the connection only; or is refused. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { folder, freePort, Warp } from "../process/warp.ts";
import { listen, RawClient } from "./peers.ts";

describe("an opaque port", { timeout: 60_000 }, () => {
  it("is relayed octet for octet, half-close included, and only the connection is on record", async (test) => {
    const destination = await listen((socket) => {
      const hash = createHash("sha256");
      socket.on("data", (chunk) => hash.update(chunk));
      socket.on("end", () => socket.end(hash.digest("hex")));
    });
    test.after(() => destination.close());
    const { port, warp } = await start(test, destination.port, `[${destination.port}]`, ["--verbose"]);
    const octets = randomBytes(3_000_000);
    const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    client.end(octets);
    const answer: Buffer[] = [];
    for await (const chunk of client) answer.push(chunk as Buffer);
    assert.equal(Buffer.concat(answer).toString(), createHash("sha256").update(octets).digest("hex"));
    await warp.line(/connections closed/);
    assert.equal(
      warp.lines.some((line) => / (->|<-) /.test(line)),
      false,
    );
  });

  it("is refused with 421 4.3.5 where the operator says so", async (test) => {
    const destination = await listen((socket) => socket.end());
    test.after(() => destination.close());
    const dir = folder(test);
    const port = await freePort();
    const config = join(dir, "warp.yaml");
    writeFileSync(
      config,
      `listen: ["127.0.0.1:${port}"]\ncapture: { mode: fixed, destination: "127.0.0.1:465", ports: [465], opaque_ports: refuse }\n`,
    );
    const warp = await Warp.start(["--config", config]);
    test.after(() => warp.stop("SIGKILL"));
    assert.match(await new RawClient(port).reply(), /^421 4\.3\.5 /);
  });
});

async function start(
  test: { after(run: () => unknown): void },
  destination: number,
  opaque: string,
  flags: readonly string[],
): Promise<{ port: number; warp: Warp }> {
  const port = await freePort();
  const config = join(folder(test), "warp.yaml");
  writeFileSync(
    config,
    `listen: ["127.0.0.1:${port}"]\ncapture: { mode: fixed, destination: "127.0.0.1:${destination}", ports: [25, ${destination}], opaque_ports: ${opaque} }\n`,
  );
  const warp = await Warp.start(["--config", config, ...flags]);
  test.after(() => warp.stop("SIGKILL"));
  return { port, warp };
}
