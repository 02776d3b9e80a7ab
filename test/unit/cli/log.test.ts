import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { LogDatabase } from "../../../src/cli/log/database.ts";
import { dialogueText } from "../../../src/cli/log/text.ts";
import { Direction, Outcome } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { SqliteSink } from "../../../src/hookservers/sqlite.ts";
import * as made from "../../integration/sinks/events.ts";

const program = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
const source = made.makeSource();

async function database(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "warp-log-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, "warp.db");
}
async function filled(t: TestContext) {
  const path = await database(t);
  const sink = SqliteSink.open({ dsn: path }, { env: {}, log: () => {}, now: Date.now });
  t.after(() => sink.close());
  const answer = (index: number) =>
    index % 3 === 0 ? made.reply(550, "550 5.7.1 Go\r\naway", "blocked-ip") : made.reply(250, "250 2.0.0 Ok");
  const events = Array.from({ length: 9 }, (_, index) =>
    made.makeEvent(
      index + 1,
      made.transaction([{ to: `r${index}@Dest${index % 2}.test`, reply: answer(index) }], Outcome.ACCEPTED),
      {
        atMs: made.at + index * 60_000,
        connectionId: `01CONN000000000000000000C${index}`,
      },
    ),
  );
  await sink.store({ source, events });
  return { path, sink };
}
function warpLog(
  path: string,
  ...argv: string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, "log", "--dsn", path, ...argv], (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}
const recipients = (stdout: string) =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).rcpt_to);

test("lists the last answers, oldest first, one line each", async (t) => {
  const { path } = await filled(t);
  const { stdout, status } = await warpLog(path, "--limit", "2");
  assert.equal(status, 0);
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, 2);
  assert.equal(
    lines[1],
    "2026-03-01 12:42:56.123 01CONN000000000000000000C8 alice@example.local → r8@Dest0.test 250 2.0.0 accepted " +
      'from 203.0.113.10 TLSv1.3 20 ms <20260301.1@example.local> "250 2.0.0 Ok"',
  );
});

test("filters by sender, recipient, domain, code, class and time", async (t) => {
  const { path } = await filled(t);
  const ask = async (...argv: string[]) => recipients((await warpLog(path, "--json", ...argv)).stdout);
  assert.deepEqual(await ask("--code", "5"), ["r0@Dest0.test", "r3@Dest1.test", "r6@Dest0.test"]);
  assert.deepEqual(await ask("--code", "550", "--to", "@DEST1.test"), ["r3@Dest1.test"]);
  assert.deepEqual(await ask("--class", "blocked-ip", "--limit", "1"), ["r6@Dest0.test"]);
  for (const address of ["r4@Dest0.test", "R4@DEST0.TEST"])
    assert.deepEqual(await ask("--to", address), ["r4@Dest0.test"]);
  assert.equal((await warpLog(path, "--to", "4@Dest0.test")).stdout, "");
  assert.deepEqual(await ask("--since", "2026-03-01T12:36", "--until", "2026-03-01 12:38"), [
    "r2@Dest0.test",
    "r3@Dest1.test",
  ]);
  assert.deepEqual(await ask("--since", "2026-03-01 14:42:30.5+02:00"), ["r8@Dest0.test"]);
  assert.deepEqual(await ask("--since", "2026-03-01", "--until", "2026-03-02", "--limit", "1"), [
    "r8@Dest0.test",
  ]);
  assert.deepEqual(await ask("--from", "@example.local", "--limit", "1"), ["r8@Dest0.test"]);
  assert.equal((await warpLog(path, "--from", "@elsewhere.test")).stdout, "");
});

test("says what is wrong with its options, and with the database", async (t) => {
  const { path } = await filled(t);
  assert.equal((await warpLog(path, "--code", "9")).status, 2);
  for (const since of ["soon", "5", "march 1", "2026-02-30", "2026-03-01T12"])
    assert.equal((await warpLog(path, "--since", since)).status, 2, since);
  assert.match((await warpLog(`${path}.not`)).stderr, /is not there/);
  new DatabaseSync(`${path}.empty`).close();
  const { status, stderr } = await warpLog(`${path}.empty`);
  assert.equal(status, 1);
  assert.match(stderr, /it has no tables of warp/);
});

test("shows a connection's dialogue with arrows and timings, safe for a terminal", async (t) => {
  const { path, sink } = await filled(t);
  const connectionId = "01SHOW0000000000000000000S";
  const lines: [string, Direction, number][] = [
    ["220 mx ESMTP", Direction.SERVER_TO_CLIENT, 0],
    ["EHLO a", Direction.CLIENT_TO_PROXY, 2],
    ["250-mx\r\n250 8BITMIME\x1b[2J", Direction.PROXY_TO_CLIENT, 5],
    ["connections closed", Direction.PROXY, 7],
  ];
  await sink.store({
    source,
    events: lines.map(([data, direction, ms], index) =>
      made.makeEvent(100 + index, made.comm(data, direction), { connectionId, atMs: made.at + ms }),
    ),
  });
  const { stdout } = await warpLog(path, "show", "01SHOW");
  assert.equal(
    stdout,
    [
      `id: ${connectionId}`,
      "",
      "       0.0 <- 220 mx ESMTP",
      "       2.0 >| EHLO a",
      "       5.0 <| 250-mx",
      "              250 8BITMIME\\x1b[2J",
      "       7.0 -- connections closed",
      "",
    ].join("\n"),
  );
  const many = await warpLog(path, "show", "01");
  assert.equal(many.status, 1);
  assert.equal((await warpLog(path, "show", "02")).stderr, "warp log: no connection begins with 02\n");
});

test("follows what is written meanwhile, each once", async (t) => {
  const { path, sink } = await filled(t);
  const child: ChildProcess = spawn(
    process.execPath,
    [program, "log", "--dsn", path, "--follow", "--json", "--limit", "1"],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  assert.equal(JSON.parse((await lines.next()).value!).rcpt_to, "r8@Dest0.test");
  for (const index of [20, 21]) {
    const late = made.transaction([{ to: `late${index}@dest.test`, reply: made.reply(250, "250 ok") }]);
    await sink.store({ source, events: [made.makeEvent(index, late, { atMs: made.at - 60_000 })] });
    assert.equal(JSON.parse((await lines.next()).value!).rcpt_to, `late${index}@dest.test`);
  }
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("reads a database that only the original has written, and one that was gone on with", async (t) => {
  const path = await database(t);
  const old = new DatabaseSync(path);
  old.exec(`create table connections (id text primary key, mail_from text, mail_to text, occurred_at datetime, elapse integer);
    create table communications (id text primary key, connection_id text, direction text, data text, occurred_at datetime);
    insert into connections values ('01OLD', 'alice@example.local', 'bob@example.test', '2023-08-16T14:48:00.1', 20);
    insert into communications values ('b', '01OLD', '<-', '250-a\\r\\n250 b', '2023-08-16T14:48:00.26'),
      ('a', '01OLD', '->', 'EHLO a', '2023-08-16T14:48:00.25')`);
  old.close();
  for (const turn of [1, 2]) {
    const { stdout } = await warpLog(path, "--to", "@example.test", "--until", "2024-01-01");
    assert.equal(
      stdout,
      "2023-08-16 14:48:00.1 01OLD alice@example.local → bob@example.test - 20 ms\n",
      `turn ${turn}`,
    );
    const reader = new LogDatabase(path);
    const shown = dialogueText(reader.dialogue("01OLD"));
    reader.close();
    assert.match(shown, / {7}0\.0 -> EHLO a\n {6}10\.0 <- 250-a\n {14}250 b\n$/);
    const sink = SqliteSink.open({ dsn: path }, { env: {}, log: () => {}, now: Date.now });
    await sink.store({ source, events: made.sessions(1) });
    await sink.close();
  }
});

test("a direction that somebody else wrote into the database drives no terminal either", () => {
  const nothing = { data_raw: null, leg: null, tls: null, redacted: null, truncated: null };
  const line = { occurred_at: "2026-03-01T12:00:00.000Z", direction: "\x1b[2J", data: "x", ...nothing };
  assert.equal(dialogueText({ connection: {}, lines: [line], entries: [] }), "\n       0.0 \\x1b[2J x\n");
});
