/**
 * Events per second into each sink, as a proxy sends them: `npm run bench -- sinks [--quick] [--only file,sqlite,both,mysql]`.
 * Two workers' streams over a Unix socket to `warp hook` as a process of its own; 12 events (a session) per connection. MySQL needs mariadbd here.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventsPerSession, makeSource, sessions } from "../test/integration/sinks/events.ts";
import { startHook } from "../test/integration/sinks/hook-process.ts";
import { missingMariadb, startMariadb } from "../test/integration/sinks/mariadb.ts";
import { sendAll } from "../test/integration/sinks/observer.ts";
import { chosenParts } from "./turns.ts";

const { quick, only } = chosenParts(["file", "sqlite", "both", "mysql"]);
const connections = quick ? 2000 : 5000;

async function measure(
  name: string,
  kinds: string,
  argv: readonly string[],
  env: Record<string, string>,
  folder: string,
) {
  const server = await startHook(kinds, `unix:${folder}/s`, argv, env);
  const streams = [sessions(connections / 2), sessions(connections / 2)];
  const began = performance.now();
  await Promise.all(
    streams.map((events, worker) => sendAll(events, { address: server.address, source: makeSource(worker) })),
  );
  const seconds = (performance.now() - began) / 1000;
  await server.end("SIGTERM");
  const events = streams.flat().length;
  console.log(
    `${name.padEnd(34)} ${Math.round(events / seconds)
      .toString()
      .padStart(8)} events/s ${Math.round(events / seconds / eventsPerSession)
      .toString()
      .padStart(7)} connections/s`,
  );
}

const folder = await mkdtemp(join(tmpdir(), "warp-bench-"));
const withMysql = only.includes("mysql") && missingMariadb() === undefined;
const mariadb = withMysql ? await startMariadb() : undefined;
try {
  const file = (name: string) => join(folder, name);
  const kinds: [string, string, string, readonly string[]][] = [
    ["file", "file, fsync always", "file", ["--file-path", file("a.json")]],
    ["file", "file, fsync never", "file", ["--file-path", file("b.json"), "--fsync", "never"]],
    ["sqlite", "sqlite, synchronous full", "sqlite", ["--sqlite-dsn", file("a.db")]],
    ["both", "file,sqlite", "file,sqlite", ["--file-path", file("c.json"), "--sqlite-dsn", file("b.db")]],
  ];
  for (const [part, name, kind, argv] of kinds)
    if (only.includes(part)) await measure(name, kind, argv, {}, folder);
  if (mariadb !== undefined) {
    await (await mariadb.connect()).query("CREATE DATABASE warp");
    await measure("mysql (MariaDB on this host)", "mysql", [], { MYSQL_DSN: mariadb.dsn }, folder);
  } else if (only.includes("mysql")) console.log(`mysql: not measured, ${missingMariadb()}`);
} finally {
  await mariadb?.remove();
  await rm(folder, { recursive: true, force: true });
}
process.exit(0);
