import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { Direction, Origin } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { type SqliteSettings, SqliteSink } from "../../../src/hookservers/sqlite.ts";
import { columnsOf, userVersion } from "../../../src/hookservers/sqlite-schema.ts";
import * as made from "../../integration/sinks/events.ts";

async function database(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "warp-sqlite-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return join(path, "warp.db");
}
function context(env = {}, now: () => number = Date.now) {
  return { env, log: () => {}, now };
}
function open(t: TestContext, settings: SqliteSettings, now?: () => number): SqliteSink {
  const sink = SqliteSink.open(settings, context({}, now));
  t.after(() => sink.close());
  return sink;
}
function count(path: string, table: string): number {
  const reader = new DatabaseSync(path, { readOnly: true });
  try {
    return Number(reader.prepare(`select count(*) n from ${table}`).get()!.n);
  } finally {
    reader.close();
  }
}
const source = made.makeSource();

test("says what is missing in the original's words, and takes SQLITE_DSN before DSN", async (t) => {
  assert.throws(() => SqliteSink.open({}, context()), {
    message: "missing dsn for sqlite, please set `DSN`",
  });
  const path = await database(t);
  const sink = SqliteSink.open({}, context({ DSN: "/nowhere/x.db", SQLITE_DSN: path }));
  await sink.close();
});

test("names the database that cannot be opened, and refuses a DSN of MySQL", () => {
  assert.throws(
    () => SqliteSink.open({ dsn: "/nowhere/x.db" }, context()),
    /^SettingError: sqlite: \/nowhere\/x\.db: /,
  );
  assert.throws(() => SqliteSink.open({ dsn: "u:p@tcp(h:1)/d" }, context()), /set `SQLITE_DSN`/);
});

test("opens :memory: and file: URIs", async (t) => {
  const path = await database(t);
  for (const dsn of [":memory:", `file:${path}`]) {
    const sink = SqliteSink.open({ dsn }, context());
    await sink.store({ source, events: made.sessions(1) });
    await sink.close();
  }
  assert.equal(count(path, "communications"), 10);
});

test("stores a session in the original's two tables and in ours", async (t) => {
  const path = await database(t);
  const sink = open(t, { dsn: path });
  await sink.store({ source, events: made.sessions(3) });
  const counts = ["connections", "communications", "transactions", "recipients"].map((table) =>
    count(path, table),
  );
  assert.deepEqual(counts, [3, 30, 3, 3]);
});

test("stores the same event once, however often it is sent", async (t) => {
  const path = await database(t);
  const sink = open(t, { dsn: path });
  const events = made.sessions(2);
  await Promise.all([sink.store({ source, events }), sink.store({ source, events })]);
  await sink.store({ source, events });
  assert.equal(count(path, "communications"), 20);
  assert.equal(count(path, "recipients"), 2);
});

test("keeps hostile data exactly, in text or in the octets beside it", async (t) => {
  const path = await database(t);
  const sink = open(t, { dsn: path });
  const hostile = [
    Buffer.from(`"quotes" 'and' \`ticks\`'); DROP TABLE communications; --`),
    Buffer.from([0x61, 0x00, 0x62]),
    Buffer.from([0xff, 0xfe, 0x80]),
    Buffer.from("emoji 😀 \\x00 \\n literal"),
    Buffer.alloc(1_000_000, "X-Header: long\r\n"),
  ];
  const events = hostile.map((data, index) => made.makeEvent(index + 1, made.comm(data)));
  await sink.store({ source, events });
  const reader = new DatabaseSync(path, { readOnly: true });
  t.after(() => reader.close());
  const rows = reader.prepare("select data, data_raw from communications order by sequence").all();
  assert.equal(rows[0]!.data, hostile[0]!.toString());
  assert.equal(rows[1]!.data, "a\\x00b");
  assert.deepEqual(Buffer.from(rows[1]!.data_raw as Uint8Array), hostile[1]);
  assert.equal(rows[2]!.data, "\\xff\\xfe\\x80");
  assert.deepEqual(Buffer.from(rows[2]!.data_raw as Uint8Array), hostile[2]);
  assert.deepEqual(Buffer.from(rows[3]!.data_raw as Uint8Array), hostile[3]);
  assert.equal(rows[4]!.data, hostile[4]!.toString().replaceAll("\r\n", "\\r\\n"));
});

/** As the original makes and fills it. */
function fillAsOriginal(path: string): void {
  const old = new DatabaseSync(path);
  old.exec(`create table connections (id text primary key, mail_from text, mail_to text,
              occurred_at datetime default CURRENT_TIMESTAMP, elapse integer);
            create table communications (id text primary key, connection_id text, direction text, data text,
              occurred_at datetime default CURRENT_TIMESTAMP);
            insert into connections values
              ('01H8A0000000000000000000C1', 'alice@example.local', 'bob@example.test', '2023-08-16T14:48:00.1', 20);
            insert into communications values
              ('01H8A0000000000000000000M1', '01H8A0000000000000000000C1', '->', 'EHLO a\\r\\n', '2023-08-16T14:48:00.05'),
              ('01H8A0000000000000000000M2', '01H8A0000000000000000000C1', '<-', '250 "b"', '2023-08-16T14:48:00.06');`);
  old.close();
}

test("goes on in a database of the original without touching its rows", async (t) => {
  const path = await database(t);
  fillAsOriginal(path);
  const original = [
    "select id, mail_from, mail_to, occurred_at, elapse from connections where occurred_at < '2024' order by id",
    "select id, connection_id, direction, data, occurred_at from communications where occurred_at < '2024' order by id",
  ];
  const read = (sql: string) => {
    const reader = new DatabaseSync(path, { readOnly: true });
    const rows = reader.prepare(sql).all();
    reader.close();
    return rows;
  };
  const before = original.map(read);
  const sink = open(t, { dsn: path });
  await sink.store({ source, events: made.sessions(1) });
  assert.deepEqual(original.map(read), before);
  assert.equal(count(path, "connections"), 2);
  const joined = read(`select c.mail_from, m.direction, m.data from connections c
    join communications m on m.connection_id = c.id where m.direction = '->' order by m.occurred_at, m.id`);
  assert.equal(joined[0]!.data, "EHLO a\\r\\n");
  assert.equal(joined.length, 5);
});

test("brings any older set of columns up to date, once, and leaves a newer version alone", async (t) => {
  const path = await database(t);
  fillAsOriginal(path);
  await SqliteSink.open({ dsn: path }, context()).close();
  const db = new DatabaseSync(path);
  t.after(() => db.close());
  assert.equal(userVersion(db), 1);
  assert.ok(columnsOf(db, "connections").has("source_ip"));
  db.exec("alter table transactions drop column filters; pragma user_version = 0");
  await SqliteSink.open({ dsn: path }, context()).close();
  assert.ok(columnsOf(db, "transactions").has("filters"));
  db.exec("pragma user_version = 99");
  assert.throws(() => SqliteSink.open({ dsn: path }, context()), /made by a newer warp/);
});

test("uses its indexes for the questions people ask", async (t) => {
  const path = await database(t);
  await SqliteSink.open({ dsn: path }, context()).close();
  const db = new DatabaseSync(path, { readOnly: true });
  t.after(() => db.close());
  for (const [table, where] of [
    ["transactions", "mail_from = 'a@b' and occurred_at > '2026'"],
    ["transactions", "sender_domain = 'b' and occurred_at > '2026'"],
    ["transactions", "occurred_at > '2026'"],
    ["transactions", "connection_id = 'x'"],
    ["recipients", "domain = 'b' and occurred_at > '2026'"],
    ["recipients", "address = 'a@b'"],
    ["communications", "connection_id = 'x'"],
    ["connections", "occurred_at > '2026'"],
  ]) {
    const [step] = db.prepare(`explain query plan select * from ${table} where ${where}`).all();
    assert.match(String(step!.detail), /USING INDEX/, `${table}: ${where}`);
  }
});

test("deletes what is older than --keep in bites, and nothing else, while it stores", async (t) => {
  const path = await database(t);
  fillAsOriginal(path);
  let now = made.at;
  const sink = open(t, { dsn: path, keepMs: 86_400_000 }, () => now);
  await sink.store({ source, events: made.sessions(100) });
  const gone = async (table: string, left: number) => {
    for (let turn = 0; count(path, table) !== left; turn += 1) {
      assert.ok(turn < 500, `${table} still has ${count(path, table)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  await gone("communications", 1000);
  assert.equal(count(path, "connections"), 100);
  await sink.close();
  now += 86_400_000 + 1000;
  const later = open(t, { dsn: path, keepMs: 86_400_000 }, () => now);
  const fresh = made.sessions(1, 5000).map((event) => ({
    ...event,
    occurredAt: { ...event.occurredAt!, seconds: BigInt(Math.floor(now / 1000)) },
  }));
  await later.store({ source, events: fresh });
  await gone("communications", 10);
  assert.deepEqual(
    ["connections", "transactions", "recipients"].map((table) => count(path, table)),
    [1, 1, 1],
  );
});

test("fails a batch while another process holds the database, and stores it afterwards", async (t) => {
  const path = await database(t);
  const sink = open(t, { dsn: path });
  const other = new DatabaseSync(path);
  t.after(() => other.close());
  other.exec("begin immediate");
  const events = [
    made.makeEvent(1, made.comm("x", Direction.PROXY)),
    made.makeEvent(
      2,
      made.transaction([{ to: "a@b", reply: made.reply(550, "550 no", "other", Origin.HOOK) }]),
    ),
  ];
  await assert.rejects(sink.store({ source, events }), /SinkError: cannot write .*database is locked/);
  other.exec("rollback");
  await sink.store({ source, events });
  assert.equal(count(path, "communications"), 1);
});
