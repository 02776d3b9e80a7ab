// Two real proxies with two workers each, one Redis: every accepted recipient is counted once, whatever happens to Redis.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort, needsRedis, RedisServer } from "./redis-server.ts";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const SENDERS = 7;

/** A destination that takes everything. */
async function destination(): Promise<net.Server> {
  const server = net.createServer({ noDelay: true }, (socket) => {
    let [buffered, inData] = ["", false];
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      buffered += chunk.toString("latin1");
      for (;;) {
        const end = buffered.indexOf(inData ? "\r\n.\r\n" : "\r\n");
        if (end < 0) return;
        const verb = buffered.slice(0, 4).toUpperCase();
        buffered = buffered.slice(end + (inData ? 5 : 2));
        if (inData) socket.write("250 2.0.0 queued\r\n");
        else if (verb === "EHLO") socket.write("250-mx.example\r\n250 PIPELINING\r\n");
        else if (verb === "DATA") socket.write("354 go on\r\n");
        else if (verb === "QUIT") socket.end("221 2.0.0 bye\r\n");
        else socket.write("250 2.0.0 OK\r\n");
        inData = !inData && verb === "DATA";
      }
    });
    socket.write("220 mx.example ESMTP\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

interface Sent {
  /** Messages that were answered with 250. */
  readonly accepted: number;
  /** How long each reply to MAIL took, ms. */
  readonly waits: readonly number[];
}

/** One connection with so many messages. */
async function send(port: number, messages: number, first: number): Promise<Sent> {
  const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
  let buffered = "";
  let wake = () => {};
  socket.on("data", (chunk) => {
    buffered += chunk.toString("latin1");
    wake();
  });
  socket.on("close", () => wake());
  const reply = async (): Promise<string> => {
    for (;;) {
      const match = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(buffered);
      if (match !== null) {
        buffered = buffered.slice(match[0].length);
        return match[0];
      }
      if (socket.closed) throw new Error("the connection was closed");
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const say = (line: string) => {
    socket.write(`${line}\r\n`);
    return reply();
  };
  await reply();
  await say("EHLO client.example");
  const waits: number[] = [];
  let accepted = 0;
  for (let i = first; i < first + messages; i += 1) {
    const began = performance.now();
    await say(`MAIL FROM:<sender-${i % SENDERS}@example.com>`);
    waits.push(performance.now() - began);
    await say("RCPT TO:<bob@destination.example>");
    await say("DATA");
    if ((await say("From: <a@example.com>\r\n\r\nhello\r\n.")).startsWith("250")) accepted += 1;
  }
  await say("QUIT");
  socket.destroy();
  return { accepted, waits };
}

class RunningProxy {
  readonly port: number;
  readonly #child: ChildProcess;
  #errors = "";

  private constructor(port: number, child: ChildProcess) {
    this.port = port;
    this.#child = child;
    child.stderr!.on("data", (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
  }

  static async start(
    folder: string,
    name: string,
    upstream: number,
    redis: RedisServer,
  ): Promise<RunningProxy> {
    const port = await freePort();
    const file = join(folder, `${name}.yaml`);
    const config = `proxy: ${name}
workers: 2
listen: ["127.0.0.1:${port}"]
capture: { destination: "127.0.0.1:${upstream}" }
redis: { url: "${redis.url}" }
reputation: { half_lives: [364d, 365d] }
log: { level: warn }
pools: { shared: { ips: [127.0.0.1] }, penalty: { ips: [127.0.0.66] } }
rules: [{ name: poor, match: { tier: poor }, pool: penalty }, { name: rest, pool: shared }]
`;
    await writeFile(file, config);
    const child = spawn(process.execPath, [main, "--config", file], { stdio: ["ignore", "pipe", "pipe"] });
    const proxy = new RunningProxy(port, child);
    const ended = once(child, "exit").then(() => {
      throw new Error(`the proxy ended: ${proxy.#errors}`);
    });
    await Promise.race([once(createInterface({ input: child.stdout! }), "line"), ended]);
    ended.catch(() => undefined /* it is ended by the test */);
    return proxy;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await gone;
  }
}

describe("two proxies with two workers each", needsRedis, () => {
  it("count every accepted recipient once, with Redis killed and restarted under load, and mail goes on", async () => {
    const folder = await mkdtemp(join(tmpdir(), "warp-proxies-"));
    const redis = await RedisServer.start("--appendonly", "yes", "--appendfsync", "always");
    const upstream = await destination();
    const { port } = upstream.address() as net.AddressInfo;
    const proxies: RunningProxy[] = [];
    const client = redis.client();
    client.on("error", () => undefined);
    try {
      for (const name of ["mx-1", "mx-2"]) proxies.push(await RunningProxy.start(folder, name, port, redis));
      const round = async () => {
        const lanes = proxies.flatMap((proxy) => [0, 1, 2, 3].map((lane) => send(proxy.port, 40, lane)));
        return await Promise.all(lanes);
      };
      const results = [await round()];
      const running = round();
      await redis.kill();
      results.push(await running, await round());
      await redis.run();
      results.push(await round());
      const accepted = results.flat().reduce((sum, { accepted: some }) => sum + some, 0);
      assert.equal(accepted, 4 * 8 * 40, "all mail was delivered");
      const away = results[2]!.flatMap(({ waits }) => waits).sort((a, b) => a - b);
      assert.ok(
        away[Math.floor(away.length * 0.9)]! < 50,
        `waited ${away[Math.floor(away.length * 0.9)]} ms`,
      );
      const counted = async () => {
        let sum = 0;
        for (let i = 0; i < SENDERS; i += 1) {
          sum += Number((await client.hget(`warp:1:s:{mail_from:sender-${i}@example.com}`, "n")) ?? 0);
        }
        return sum;
      };
      const deadline = Date.now() + 15_000;
      while ((await counted()) < accepted && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.equal(await counted(), accepted);
      const fields = await client.hkeys("warp:1:s:{mail_from:sender-0@example.com}");
      assert.equal(fields.filter((field) => field.startsWith("q:")).length, 4, "four workers wrote");
      await Promise.all(proxies.map((proxy) => proxy.stop()));
      assert.equal(await counted(), accepted, "a stop counts nothing twice");
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.stop()));
      client.disconnect();
      upstream.close();
      await redis.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
