/**
 * Real mail through the real proxy into all four sinks at once. WARP_TEST_MESSAGES says how many messages (default 1,000);
 * exact counts, unique ids, also when sinks are killed in the middle.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, type TestContext, test } from "node:test";
import type { RowDataPacket } from "mysql2/promise";
import { startHook } from "./hook-process.ts";
import { type Mariadb, missingMariadb, startMariadb } from "./mariadb.ts";
import { missingPostfix, type Running, sendMail, startDestination, startProxy } from "./proxy-process.ts";

const messages = Number(process.env.WARP_TEST_MESSAGES ?? 1000);
const missing = missingPostfix() ?? missingMariadb();
const tables = ["connections", "communications", "transactions", "recipients"] as const;

describe("mail through the proxy", {
  skip: missing !== undefined && process.env.CI !== "true" ? missing : false,
}, () => {
  let mariadb: Mariadb;
  let destination: Running;
  let slack: Awaited<ReturnType<typeof slackApi>>;
  before(async () => {
    mariadb = await startMariadb();
    destination = await startDestination();
    slack = await slackApi();
  });
  after(async () => {
    await slack?.close();
    await destination?.end("SIGKILL");
    await mariadb?.remove();
  });

  async function setUp(t: TestContext) {
    const folder = await mkdtemp(join(tmpdir(), "warp-end-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const admin = await mariadb.connect();
    await admin.query("DROP DATABASE IF EXISTS warp");
    await admin.query("CREATE DATABASE warp");
    await admin.end();
    const env = {
      MYSQL_DSN: mariadb.dsn,
      SQLITE_DSN: join(folder, "warp.db"),
      FILE_PATH: join(folder, "warp.json"),
      SLACK_TOKEN: "xoxb-test",
      SLACK_CHANNEL: "C1",
    };
    return { folder, env };
  }

  /** All three durable sinks have the same, and as many as were sent. Gives lines per message. */
  async function check({ env }: Awaited<ReturnType<typeof setUp>>): Promise<void> {
    const lines = (await readFile(env.FILE_PATH, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const ids = new Set(lines.map(({ id }) => id));
    assert.equal(ids.size, lines.length);
    const types = Object.groupBy(lines, ({ type }) => type);
    assert.equal(types.gap, undefined);
    assert.equal(types.conn!.length, messages);
    assert.equal(types.transaction!.length, messages);
    assert.ok(types.transaction!.every(({ outcome }) => outcome === "accepted"));
    assert.ok(
      types.conn!.every(({ from, to }) => from === "alice@example.local" && to === "bob@example.test"),
    );
    const counts = [messages, types.comm!.length, messages, messages];

    const sqlite = new DatabaseSync(env.SQLITE_DSN, { readOnly: true });
    const inSqlite = tables.map((table) =>
      Number(sqlite.prepare(`select count(*) n from ${table}`).get()!.n),
    );
    const known = sqlite.prepare("select id from communications").all();
    sqlite.close();
    assert.deepEqual(inSqlite, counts);
    assert.ok(known.every(({ id }) => ids.has(id)));

    const admin = await mariadb.connect("warp");
    const inMysql = [];
    for (const table of tables) {
      const [[row]] = await admin.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${table}`);
      inMysql.push(Number(row!.n));
    }
    await admin.end();
    assert.deepEqual(inMysql, counts);
  }

  test(`${messages} messages are in file, sqlite and mysql exactly once, and Slack was told`, async (t) => {
    const place = await setUp(t);
    const hook = await startHook(
      "file,sqlite,mysql,slack",
      `unix:${place.folder}/s`,
      ["--slack-url", slack.url],
      place.env,
    );
    t.after(() => hook.end("SIGKILL"));
    const proxy = await startProxy(destination, ["--observer", `sinks=${hook.address}`]);
    t.after(() => proxy.end("SIGKILL"));
    await sendMail(proxy, messages);
    await caughtUp(place);
    assert.deepEqual(await proxy.end(), [0, null]);
    t.diagnostic(
      proxy.log
        .filter((line) => !line.includes('"level":"info"'))
        .slice(-5)
        .join("\n"),
    );
    assert.deepEqual(await hook.end("SIGTERM"), [0, null]);
    await check(place);
    assert.ok(slack.texts.some((text) => text.includes("`alice@example.local` => `bob@example.test` (")));
  });

  test("the sinks are complete and have nothing twice when they and the database are killed in the middle", async (t) => {
    const place = await setUp(t);
    const start = () => startHook("file,sqlite,mysql", `unix:${place.folder}/s`, [], place.env);
    let hook = await start();
    t.after(() => hook.end("SIGKILL"));
    const proxy = await startProxy(destination, [
      "--observer",
      `sinks=${hook.address}`,
      "--journal",
      join(place.folder, "j"),
    ]);
    t.after(() => proxy.end("SIGKILL"));
    const sending = sendMail(proxy, messages);
    await until(() => lineCount(place.env.FILE_PATH, messages * 2));
    await hook.end("SIGKILL");
    hook = await start();
    await until(() => lineCount(place.env.FILE_PATH, messages * 5));
    await mariadb.kill();
    await mariadb.start();
    await sending;
    await caughtUp(place);
    assert.deepEqual(await proxy.end(), [0, null]);
    t.diagnostic(
      proxy.log
        .filter((line) => !line.includes('"level":"info"'))
        .slice(-5)
        .join("\n"),
    );
    assert.deepEqual(await hook.end("SIGTERM"), [0, null]);
    await check(place);
  });

  test("--plugins stores what the proxy saw, also of a child that was killed, and stops with it", async (t) => {
    const place = await setUp(t);
    const proxy = await startProxy(destination, ["--plugins", "sqlite,file,mysql"], place.env);
    t.after(() => proxy.end("SIGKILL"));
    const sending = sendMail(proxy, messages);
    await until(() => lineCount(place.env.FILE_PATH, messages));
    process.kill(await childOf(proxy), "SIGKILL");
    await sending;
    await caughtUp(place);
    const child = await childOf(proxy);
    assert.deepEqual(await proxy.end(), [0, null]);
    t.diagnostic(
      proxy.log
        .filter((line) => !line.includes('"level":"info"'))
        .slice(-5)
        .join("\n"),
    );
    assert.throws(() => process.kill(child, 0), { code: "ESRCH" });
    await check(place);
  });

  test("a proxy that is killed leaves neither its plugins nor their socket behind", async (t) => {
    const place = await setUp(t);
    const temporary = join(place.folder, "tmp");
    await mkdir(temporary);
    const proxy = await startProxy(destination, ["--plugins", "file"], { ...place.env, TMPDIR: temporary });
    t.after(() => proxy.end("SIGKILL"));
    const child = await childOf(proxy);
    await proxy.end("SIGKILL");
    await until(async () => !existsSync(`/proc/${child}`));
    assert.deepEqual(await readdir(temporary), []);
  });

  test("--plugins without a setting ends the start with the original's sentence", async () => {
    await assert.rejects(startProxy(destination, ["--plugins", "file"], { FILE_PATH: "" }), {
      message: /missing path for file, please set `FILE_PATH`/,
    });
  });
});

/** A stop waits for the last events, but not for minutes of them on a busy machine. */
async function caughtUp({ env }: { readonly env: { readonly SQLITE_DSN: string } }): Promise<void> {
  const reader = new DatabaseSync(env.SQLITE_DSN, { readOnly: true });
  const count = reader.prepare("select count(*) n from connections");
  try {
    await until(async () => Number(count.get()!.n) >= messages);
  } finally {
    reader.close();
  }
}

/** The process of the plugins: the proxy's child that runs `warp hook`. */
async function childOf(proxy: Running): Promise<number> {
  let found: number | undefined;
  await until(async () => {
    const children = await readFile(`/proc/${proxy.child.pid}/task/${proxy.child.pid}/children`, "utf8");
    for (const pid of children
      .trim()
      .split(" ")
      .filter((text) => text !== "")) {
      const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (words.includes("\0--supervised")) found = Number(pid);
    }
    return found !== undefined;
  });
  return found!;
}

async function lineCount(path: string, least: number): Promise<boolean> {
  return (await readFile(path, "latin1").catch(() => "")).split("\n").length > least;
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 120_000; !(await isTrue()); ) {
    if (Date.now() > end) throw new Error("never came true");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function slackApi() {
  const texts: string[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const text = new URLSearchParams(body).get("text");
    if (text !== null) texts.push(text);
    response.setHeader("content-type", "application/json");
    response.end('{"ok":true}');
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    texts,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
