import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { type PluginDependencies, PluginError, startPlugins } from "../../../src/hooks/plugins.ts";
import { makeSource, sessions } from "./events.ts";
import { sendAll } from "./observer.ts";

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "warp-plugins-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}
function dependencies(directory: string, log: string[] = []): PluginDependencies {
  return { log: (line) => void log.push(line), directory, backoffMs: { first: 50, last: 200 } };
}
const ids = async (path: string) =>
  (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).id as string);

test("starts the kinds behind a socket that only this user can reach, and stops them with all they got", async (t) => {
  const directory = await folder(t);
  const file = { path: join(directory, "f.json") };
  const sqlite = { dsn: join(directory, "warp.db") };
  const plugins = await startPlugins(["file", "sqlite"], { file, sqlite }, dependencies(directory));
  t.after(() => plugins.stop());
  const socket = plugins.address.slice("unix:".length);
  assert.equal((await stat(dirname(socket))).mode & 0o777, 0o700);
  await sendAll(sessions(20), { address: plugins.address, source: makeSource() });
  const { pid } = plugins;
  await plugins.stop();
  assert.throws(() => process.kill(pid!, 0), { code: "ESRCH" });
  assert.ok(!existsSync(dirname(socket)));
  assert.equal((await ids(file.path)).length, 240);
});

test("ends the start with the one line of a missing setting, and leaves nothing behind", async (t) => {
  const directory = await folder(t);
  const missing = ["DSN", "SQLITE_DSN", "FILE_PATH"].map((name) => [name, process.env[name]] as const);
  for (const [name] of missing) delete process.env[name];
  t.after(() => {
    for (const [name, value] of missing) if (value !== undefined) process.env[name] = value;
  });
  const log: string[] = [];
  await assert.rejects(
    startPlugins(["file", "sqlite"], { file: { path: join(directory, "f") } }, dependencies(directory, log)),
    (error) => error instanceof PluginError && error.message === "missing dsn for sqlite, please set `DSN`",
  );
  assert.deepEqual(
    (await readdir(directory)).filter((name) => name.startsWith("warp-")),
    [],
  );
  assert.deepEqual(log, []);
});

test("starts a child again that was killed, and nothing is lost or twice", async (t) => {
  const directory = await folder(t);
  const log: string[] = [];
  const file = { path: join(directory, "f.json") };
  const plugins = await startPlugins(["file"], { file }, dependencies(directory, log));
  t.after(() => plugins.stop());
  const events = sessions(1500);
  let killed = 0;
  await sendAll(events, {
    address: plugins.address,
    source: makeSource(),
    window: 2048,
    onAck: (acked) => {
      if (killed < 2 && acked > BigInt(events.length * (killed + 1)) / 3n) {
        killed += 1;
        process.kill(plugins.pid!, "SIGKILL");
      }
    },
  });
  assert.equal(plugins.restarts, 2);
  assert.match(log[0]!, /^the plugins file ended \(SIGKILL\), starting them again in 50 ms$/);
  await plugins.stop();
  const written = await ids(file.path);
  assert.deepEqual([written.length, new Set(written).size], [events.length, events.length]);
});

test("does not stop for a signal that a service manager sends to everybody, and opens files anew for SIGHUP", async (t) => {
  const directory = await folder(t);
  const file = { path: join(directory, "f.json") };
  const plugins = await startPlugins(["file"], { file }, dependencies(directory));
  t.after(() => plugins.stop());
  process.kill(plugins.pid!, "SIGTERM");
  process.kill(plugins.pid!, "SIGINT");
  const source = makeSource();
  await sendAll(sessions(1), { address: plugins.address, source });
  await rename(file.path, `${file.path}.1`);
  plugins.reopen();
  while (!existsSync(file.path)) await new Promise((resolve) => setTimeout(resolve, 10));
  await sendAll(sessions(1, 100), { address: plugins.address, source });
  await plugins.stop();
  assert.equal(plugins.restarts, 0);
  assert.equal((await ids(`${file.path}.1`)).length, 12);
  assert.equal((await ids(file.path)).length, 12);
});

test("goes on without a child that is still busy, and says so", async (t) => {
  const directory = await folder(t);
  const log: string[] = [];
  const plugins = await startPlugins(
    ["file"],
    { file: { path: join(directory, "f.json") } },
    { ...dependencies(directory, log), startMs: 1 },
  );
  t.after(() => plugins.stop());
  assert.match(log[0]!, /not ready after 1 ms/);
  await sendAll(sessions(1), { address: plugins.address, source: makeSource() });
  await plugins.stop();
});
