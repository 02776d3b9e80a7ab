/** kill -9 of hook servers and of the database while events stream in: complete afterwards, and nothing twice. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, type TestContext, test } from "node:test";
import type { RowDataPacket } from "mysql2/promise";
import { eventsPerSession, makeSource, sessions } from "./events.ts";
import { type HookProcess, startHook } from "./hook-process.ts";
import { type Mariadb, missingMariadb, startMariadb } from "./mariadb.ts";
import { sendAll } from "./observer.ts";

const connections = 1000;

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "warp-crash-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Sends two workers' sessions; kills and restarts the server at a quarter, half and three quarters of the first one's. */
async function sendWithKills(
  t: TestContext,
  start: () => Promise<HookProcess>,
  meanwhile: () => Promise<void> = async () => {},
): Promise<number> {
  let server = await start();
  t.after(() => server.end("SIGKILL"));
  const events = sessions(connections);
  const quarters = [1, 2, 3].map((quarter) => BigInt(Math.floor((events.length * quarter) / 4)));
  let restarting: Promise<void> = Promise.resolve();
  let kills = 0;
  const onAck = (acked: bigint) => {
    if (kills >= quarters.length || acked < quarters[kills]!) return;
    kills += 1;
    restarting = restarting.then(async () => {
      await server.end("SIGKILL");
      server = await start();
      await meanwhile();
    });
  };
  await Promise.all([
    sendAll(events, { address: server.address, source: makeSource(0), onAck }),
    sendAll(sessions(connections), { address: server.address, source: makeSource(1) }),
  ]);
  await restarting;
  assert.equal(kills, 3);
  assert.deepEqual(await server.end("SIGTERM"), [0, null]);
  return 2 * connections;
}

async function checkFile(path: string, total: number): Promise<void> {
  const lines = (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(new Set(lines.map(({ id }) => id)).size, lines.length);
  const types = Object.groupBy(lines, ({ type }) => type);
  assert.deepEqual(
    [types.comm!.length, types.transaction!.length, types.conn!.length],
    [total * (eventsPerSession - 2), total, total],
  );
}
function checkSqlite(path: string, total: number): void {
  const database = new DatabaseSync(path, { readOnly: true });
  const count = (table: string) => Number(database.prepare(`select count(*) n from ${table}`).get()!.n);
  const counts = ["communications", "transactions", "recipients", "connections"].map(count);
  assert.equal(database.prepare("pragma integrity_check").get()!.integrity_check, "ok");
  database.close();
  assert.deepEqual(counts, [total * (eventsPerSession - 2), total, total, total]);
}
async function checkMysql(server: Mariadb, total: number): Promise<void> {
  const connection = await server.connect("warp");
  const counts = [];
  for (const table of ["communications", "transactions", "recipients", "connections"]) {
    const [[row]] = await connection.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${table}`);
    counts.push(Number(row!.n));
  }
  await connection.end();
  assert.deepEqual(counts, [total * (eventsPerSession - 2), total, total, total]);
}

test("the file sink is complete and has no line twice after three kills", async (t) => {
  const path = await folder(t);
  const file = join(path, "f.json");
  const total = await sendWithKills(t, () => startHook("file", `unix:${path}/s`, ["--file-path", file]));
  await checkFile(file, total);
});

test("the sqlite sink is complete and has no row twice after three kills", async (t) => {
  const path = await folder(t);
  const dsn = join(path, "warp.db");
  const total = await sendWithKills(t, () => startHook("sqlite", `unix:${path}/s`, ["--sqlite-dsn", dsn]));
  checkSqlite(dsn, total);
});

const missing = missingMariadb();
describe("with a MariaDB", {
  skip: missing !== undefined && process.env.CI !== "true" ? missing : false,
}, () => {
  let mariadb: Mariadb;
  before(async () => {
    mariadb = await startMariadb();
  });
  after(() => mariadb?.remove());
  async function empty(): Promise<void> {
    const admin = await mariadb.connect();
    await admin.query("DROP DATABASE IF EXISTS warp");
    await admin.query("CREATE DATABASE warp");
    await admin.end();
  }

  test("the mysql sink is complete and has no row twice after three kills of its own", async (t) => {
    const path = await folder(t);
    await empty();
    const env = { MYSQL_DSN: mariadb.dsn };
    const total = await sendWithKills(t, () => startHook("mysql", `unix:${path}/s`, [], env));
    await checkMysql(mariadb, total);
  });

  test("three sinks in one server are complete after kills of the server and of the database", async (t) => {
    const path = await folder(t);
    await empty();
    const env = {
      MYSQL_DSN: mariadb.dsn,
      SQLITE_DSN: join(path, "warp.db"),
      FILE_PATH: join(path, "f.json"),
    };
    const total = await sendWithKills(
      t,
      () => startHook("file,sqlite,mysql", `unix:${path}/s`, [], env),
      async () => {
        await mariadb.kill();
        await mariadb.start();
      },
    );
    await checkFile(env.FILE_PATH, total);
    checkSqlite(env.SQLITE_DSN, total);
    await checkMysql(mariadb, total);
  });
});
