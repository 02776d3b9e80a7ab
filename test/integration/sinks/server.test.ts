import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { registerKind } from "../../../src/hookservers/registry.ts";
import { serveKinds } from "../../../src/hookservers/server.ts";
import { type Batch, type Sink, SinkError } from "../../../src/hookservers/sink.ts";
import { makeSource, sessions } from "./events.ts";
import { program, startHook } from "./hook-process.ts";
import { sendAll } from "./observer.ts";

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "warp-server-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}
function memorySink(durable: boolean, failures: number): Sink & { readonly batches: Batch[] } {
  const batches: Batch[] = [];
  let left = failures;
  return {
    name: durable ? "durable" : "hopeful",
    durable,
    batches,
    store: async (batch) => {
      batches.push(batch);
      if (left-- > 0) throw new SinkError("no room");
    },
    close: async () => {},
  };
}

test("acknowledges when every durable sink has stored, and never waits for one of best effort", async (t) => {
  const [first, second, hopeful] = [memorySink(true, 0), memorySink(true, 2), memorySink(false, 1e9)];
  registerKind("test-first", async () => ({ sink: first }));
  registerKind("test-second", async () => ({ sink: second }));
  registerKind("test-hopeful", async () => ({ sink: { ...hopeful, store: () => new Promise(() => {}) } }));
  const log: string[] = [];
  const server = await serveKinds({
    kinds: ["test-first", "test-second", "test-hopeful"],
    listen: `unix:${await folder(t)}/s`,
    settings: {},
    context: { env: {}, log: (line) => void log.push(line), now: Date.now },
  });
  t.after(() => server.close());
  const streams = await sendAll(sessions(2), { address: server.address, source: makeSource() });
  assert.equal(streams, 3);
  assert.equal(second.batches.length, 3);
  assert.equal(first.batches.length, 3);
  assert.deepEqual(log, ["Observe: no room", "Observe: no room"]);
});

test("a Slack that answers nothing holds no other sink up", async (t) => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  t.after(() => {
    silent.closeAllConnections();
    silent.close();
  });
  await new Promise((resolve) => silent.once("listening", resolve));
  const path = await folder(t);
  const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/api/`;
  const server = await startHook(
    "slack,file",
    `unix:${path}/s`,
    ["--slack-url", url, "--file-path", join(path, "f")],
    {
      SLACK_TOKEN: "xoxb-test",
      SLACK_CHANNEL: "C1",
    },
  );
  t.after(() => server.end("SIGKILL"));
  await sendAll(sessions(500), { address: server.address, source: makeSource() });
  assert.deepEqual(await server.end("SIGTERM"), [0, null]);
  assert.equal((await readFile(join(path, "f"), "utf8")).split("\n").length - 1, 6000);
});

test("stops in bounded time while the database answers nothing, and has acknowledged nothing", async (t) => {
  const sockets = new Set<Socket>();
  const silent = createTcpServer((socket) => void sockets.add(socket)).listen(0, "127.0.0.1");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  await new Promise((resolve) => silent.once("listening", resolve));
  const { port } = silent.address() as AddressInfo;
  const path = await folder(t);
  const slow = `u:p@tcp(127.0.0.1:${port})/warp?timeout=1h`;
  const starting = spawn(process.execPath, [
    program,
    "hook",
    "mysql",
    "--listen",
    `unix:${path}/s`,
    "--mysql-dsn",
    slow,
  ]);
  t.after(() => starting.kill("SIGKILL"));
  while (sockets.size === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  starting.kill("SIGTERM");
  assert.deepEqual(await once(starting, "exit"), [0, null]);
  const dsn = `u:p@tcp(127.0.0.1:${port})/warp?timeout=500ms`;
  const server = await startHook("mysql", `unix:${path}/s`, ["--mysql-dsn", dsn]);
  t.after(() => server.end("SIGKILL"));
  const away = new AbortController();
  let acked = 0n;
  const sending = sendAll(sessions(1), {
    address: server.address,
    source: makeSource(),
    signal: away.signal,
    onAck: (sequence) => {
      acked = sequence;
    },
  });
  while (sockets.size < 4) await new Promise((resolve) => setTimeout(resolve, 20));
  const began = performance.now();
  const ended = server.end("SIGTERM");
  away.abort();
  await assert.rejects(sending);
  assert.deepEqual(await ended, [0, null]);
  assert.ok(performance.now() - began < 15_000);
  assert.equal(acked, 0n);
});

test("opens files anew for SIGHUP, listens on TCP, and stops for SIGTERM with what it got", async (t) => {
  const path = await folder(t);
  const file = join(path, "f");
  const server = await startHook("file", "127.0.0.1:0", ["--file-path", file]);
  t.after(() => server.end("SIGKILL"));
  const source = makeSource();
  await sendAll(sessions(1), { address: server.address, source });
  await rename(file, `${file}.1`);
  server.child.kill("SIGHUP");
  while (!server.log.some((line) => line.includes("again")))
    await new Promise((resolve) => setTimeout(resolve, 10));
  await sendAll(sessions(1, 13), { address: server.address, source });
  assert.deepEqual(await server.end("SIGTERM"), [0, null]);
  for (const name of [`${file}.1`, file])
    assert.equal((await readFile(name, "utf8")).split("\n").length - 1, 12);
});

test("takes its settings from the configuration, and options before it", async (t) => {
  const path = await folder(t);
  const config = join(path, "warp.yaml");
  await writeFile(config, `file: { path: ${join(path, "a")}, rotate_size: 1KiB, rotate_keep: 2 }\n`);
  const server = await startHook("file,sqlite", `unix:${path}/s`, [
    ...["--config", config, "--sqlite-dsn", join(path, "b.db"), "--rotate-keep", "1"],
  ]);
  t.after(() => server.end("SIGKILL"));
  await sendAll(sessions(20), { address: server.address, source: makeSource(), batch: 16 });
  assert.deepEqual(await server.end("SIGTERM"), [0, null]);
  const aside = (await readdir(path)).filter((name) => /^a\.\d/.test(name));
  assert.equal(aside.length, 1);
  assert.ok((await stat(join(path, "b.db"))).size > 0);
});

test("says in one line which setting is missing or wrong, and ends with status 1", async (t) => {
  const path = await folder(t);
  const cases: [kinds: string, argv: string[], says: string][] = [
    ["file", [], "missing path for file, please set `FILE_PATH`"],
    ["file,sqlite", ["--file-path", join(path, "f")], "missing dsn for sqlite, please set `DSN`"],
    [
      "mysql",
      ["--mysql-dsn", "u:secret@tcp(h)/d?tls=x"],
      'the dsn for mysql is wrong: tls is "x": it should be true, false, skip-verify or preferred',
    ],
    ["slack", [], "missing SLACK_TOKEN, please set `SLACK_TOKEN`"],
  ];
  for (const [kinds, argv, says] of cases) {
    await assert.rejects(startHook(kinds, `unix:${path}/s`, argv), { message: `warp hook ended: ${says}` });
  }
});
