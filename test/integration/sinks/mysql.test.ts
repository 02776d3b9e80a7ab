import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Connection, RowDataPacket } from "mysql2/promise";
import { initMysql, MysqlSink } from "../../../src/hookservers/mysql.ts";
import type { SinkContext } from "../../../src/hookservers/sink.ts";
import * as made from "./events.ts";
import { type Mariadb, missingMariadb, startMariadb } from "./mariadb.ts";

const program = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
const missing = missingMariadb();
const skip = missing !== undefined && process.env.CI !== "true" ? missing : false;

describe("the mysql sink on a real MariaDB", { skip }, () => {
  let server: Mariadb;
  let admin: Connection;
  before(async () => {
    server = await startMariadb();
    admin = await server.connect();
  });
  after(async () => {
    admin?.destroy();
    await server?.remove();
  });

  const log: string[] = [];
  const context: SinkContext = { env: {}, log: (line) => void log.push(line), now: Date.now };
  const source = made.makeSource();
  const count = async (database: string, table: string) => {
    const [[row]] = await admin.query<RowDataPacket[]>(
      `SELECT COUNT(*) AS n FROM \`${database}\`.\`${table}\``,
    );
    return Number(row!.n);
  };
  const dsnOf = (database: string) => server.dsn.replace(/warp$/, database);
  async function fresh(database: string): Promise<MysqlSink> {
    await admin.query(`CREATE DATABASE \`${database}\` DEFAULT CHARACTER SET utf8mb4`);
    return MysqlSink.open({ dsn: dsnOf(database), retryMs: 10_000 }, context);
  }

  test("makes database and tables with --init, again and again", async () => {
    for (let turn = 0; turn < 2; turn += 1) {
      assert.match(await initMysql({ dsn: dsnOf("made") }, context), /^made at 127\.0\.0\.1:\d+$/);
    }
    assert.equal(await count("made", "connections"), 0);
    const [rows] = await admin.query<RowDataPacket[]>(
      "SELECT column_name c FROM information_schema.columns WHERE table_schema='made' AND table_name='communications' ORDER BY ordinal_position LIMIT 5",
    );
    assert.deepEqual(
      rows.map(({ c }) => c),
      ["id", "connection_id", "direction", "data", "occurred_at"],
    );
  });

  test("makes them by the command too, which says where", () => {
    const argv = ["hook", "mysql", "--init", "--mysql-dsn", dsnOf("commanded")];
    const { status, stdout } = spawnSync(process.execPath, [program, ...argv], { encoding: "utf8" });
    assert.deepEqual([status, stdout], [0, `the tables are ready: commanded at 127.0.0.1:${server.port}\n`]);
  });

  test("stops the start for a wrong user or database, in one line without the password", async () => {
    const wrong = [
      [`nobody:hush@tcp(127.0.0.1:${server.port})/warp`, /Access denied/],
      [dsnOf("absent"), /Unknown database 'absent'/],
    ] as const;
    for (const [dsn, says] of wrong) {
      await assert.rejects(MysqlSink.open({ dsn }, context), (error: Error) => {
        return error.name === "SettingError" && says.test(error.message) && !/\n|hush/.test(error.message);
      });
    }
    await assert.rejects(MysqlSink.open({}, context), { message: "missing dsn for mysql, please set `DSN`" });
  });

  test("reaches the server by its Unix socket and by a URL", async () => {
    await admin.query("CREATE DATABASE sock");
    for (const dsn of [
      `root@unix(${server.socketPath})/sock`,
      `mysql://root@127.0.0.1:${server.port}/sock?tls=preferred`,
    ]) {
      const sink = await MysqlSink.open({ dsn }, context);
      await sink.store({ source, events: made.sessions(1) });
      await sink.close();
    }
    assert.equal(await count("sock", "communications"), 20);
  });

  test("stores each event once, however often and by however many it is sent", async () => {
    const sink = await fresh("once");
    const other = await MysqlSink.open({ dsn: dsnOf("once") }, context);
    const events = made.sessions(200);
    await Promise.all([sink.store({ source, events }), other.store({ source, events })]);
    await sink.store({ source, events: events.slice(1000) });
    await Promise.all([sink.close(), other.close()]);
    const counts = [];
    for (const table of ["connections", "communications", "transactions", "recipients"])
      counts.push(await count("once", table));
    assert.deepEqual(counts, [200, 2000, 200, 200]);
  });

  test("keeps hostile data exactly, in text or in the octets beside it", async () => {
    const sink = await fresh("hostile");
    const data = [
      Buffer.from(`"quotes" 'and' \\' \`ticks\`'); DROP TABLE communications; -- ?`),
      Buffer.from([0x61, 0x00, 0x62]),
      Buffer.from([0xff, 0xfe, 0x80]),
      Buffer.from("emoji 😀 é \u{10FFFF}"),
      Buffer.alloc(65_536, "é"),
      Buffer.alloc(1_000_000, "X-Header: long 😀\r\n"),
    ];
    const long = `${"x".repeat(600)}@example.local`;
    await sink.store({
      source,
      events: [
        ...data.map((each, index) => made.makeEvent(index + 1, made.comm(each))),
        made.makeEvent(9, made.conn(long)),
      ],
    });
    await sink.close();
    const [rows] = await admin.query<RowDataPacket[]>(
      "SELECT data, data_raw FROM hostile.communications ORDER BY sequence",
    );
    assert.equal(rows.length, data.length);
    assert.equal(rows[0]!.data, data[0]!.toString());
    assert.equal(rows[1]!.data, "a\\x00b");
    assert.equal(rows[3]!.data, data[3]!.toString());
    for (const index of [1, 2, 4, 5]) assert.deepEqual(rows[index]!.data_raw, data[index]);
    assert.ok((data[4]!.toString() as string).startsWith(rows[4]!.data));
    assert.equal(Buffer.byteLength(rows[4]!.data), 65_534);
    const [[connection]] = await admin.query<RowDataPacket[]>("SELECT mail_from FROM hostile.connections");
    assert.equal(connection!.mail_from, long.slice(0, 512));
  });

  test("writes times that any session reads as the same moment", async () => {
    const sink = await fresh("times");
    await sink.store({ source, events: [made.makeEvent(1, made.comm("x"))] });
    await sink.close();
    await admin.query("SET SESSION time_zone = '+09:00'");
    const [[row]] = await admin.query<RowDataPacket[]>(
      "SELECT UNIX_TIMESTAMP(occurred_at) AS u FROM times.communications",
    );
    assert.equal(Number(row!.u) * 1000, made.at);
    await admin.query("SET SESSION time_zone = SYSTEM");
  });

  test("goes on in a database of the original: columns and indexes are added, its rows stay", async () => {
    await admin.query("CREATE DATABASE old DEFAULT CHARACTER SET utf8mb4");
    for (const sql of [
      `CREATE TABLE old.connections (id varchar(26) NOT NULL DEFAULT '', mail_from varchar(512) DEFAULT NULL,
         mail_to varchar(512) DEFAULT NULL, occurred_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), elapse bigint,
         PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
      `CREATE TABLE old.communications (id varchar(26) NOT NULL DEFAULT '', connection_id varchar(26) NOT NULL DEFAULT '',
         direction varchar(2) NOT NULL DEFAULT '', data text, occurred_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
         PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 ROW_FORMAT=COMPACT`,
      "INSERT INTO old.connections VALUES ('01H8A0000000000000000000C1','alice@example.local','bob@example.test','2023-08-16T14:48:00.1',20)",
      "INSERT INTO old.communications VALUES ('01H8A0000000000000000000M1','01H8A0000000000000000000C1','->','EHLO a\\\\r\\\\n','2023-08-16T14:48:00.05')",
    ]) {
      await admin.query(sql);
    }
    const queries = [
      "SELECT id, mail_from, mail_to, occurred_at, elapse FROM old.connections WHERE occurred_at < '2024-01-01'",
      "SELECT id, connection_id, direction, data, occurred_at FROM old.communications WHERE occurred_at < '2024-01-01'",
    ];
    const read = () => Promise.all(queries.map(async (sql) => (await admin.query<RowDataPacket[]>(sql))[0]));
    const before = await read();
    for (let turn = 0; turn < 2; turn += 1) {
      const sink = await MysqlSink.open({ dsn: dsnOf("old") }, context);
      await sink.store({ source, events: made.sessions(1) });
      await sink.close();
    }
    assert.deepEqual(await read(), before);
    assert.deepEqual([await count("old", "connections"), await count("old", "recipients")], [3, 2]);
    const [indexes] = await admin.query<RowDataPacket[]>(
      "SHOW INDEX FROM old.communications WHERE Key_name='communications_connection'",
    );
    assert.equal(indexes.length, 2);
  });

  test("does a transaction again that lost in a deadlock", async () => {
    const sink = await fresh("locked");
    const events = made.sessions(1);
    const [line] = events;
    const other = await server.connect("locked");
    await other.query("BEGIN");
    // Heavier than the sink's transaction, so that the sink is the victim.
    for (let index = 0; index < 100; index += 1) {
      await other.query("INSERT INTO connections (id) VALUES (?)", [`other-${index}`]);
    }
    await other.query("INSERT INTO communications (id, connection_id, direction) VALUES (?, 'x', '--')", [
      line!.id,
    ]);
    const stored = sink.store({ source, events });
    await untilRow(admin, "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'");
    await other.query("INSERT INTO connections (id) VALUES (?)", [line!.connectionId]);
    await other.query("ROLLBACK");
    await other.end();
    await stored;
    await sink.close();
    const [[status]] = await admin.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'");
    assert.equal(Number(status!.Value), 1);
    assert.equal(await count("locked", "communications"), 10);
  });

  test("deletes what is older than --keep, and nothing else, while it stores", async () => {
    await admin.query("CREATE DATABASE keep_test");
    let now = made.at;
    const sink = await MysqlSink.open(
      { dsn: dsnOf("keep_test"), keepMs: 86_400_000 },
      { ...context, now: () => now },
    );
    await sink.store({ source, events: made.sessions(300) });
    await sink.close();
    assert.equal(await count("keep_test", "communications"), 3000);
    now += 86_400_000 + 1000;
    const later = await MysqlSink.open(
      { dsn: dsnOf("keep_test"), keepMs: 86_400_000 },
      { ...context, now: () => now },
    );
    const fresh = made.sessions(1, 9000).map((event) => ({
      ...event,
      occurredAt: { ...event.occurredAt!, seconds: BigInt(Math.floor(now / 1000)) },
    }));
    await later.store({ source, events: fresh });
    await untilRow(admin, "SELECT 1 FROM dual WHERE (SELECT COUNT(*) FROM keep_test.communications) = 10");
    await untilRow(admin, "SELECT 1 FROM dual WHERE (SELECT COUNT(*) FROM keep_test.recipients) = 1");
    await later.close();
    assert.equal(await count("keep_test", "connections"), 1);
  });

  test("acknowledges nothing while the server is away, says so once, and goes on when it is back", async () => {
    const sink = await fresh("away");
    await sink.store({ source, events: made.sessions(1) });
    await server.kill();
    log.length = 0;
    const stored: string[] = [];
    const pending = sink.store({ source, events: made.sessions(50, 100) }).then(() => stored.push("stored"));
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.deepEqual(stored, []);
    await server.start();
    await pending;
    admin = await server.connect();
    assert.equal(await count("away", "connections"), 51);
    assert.equal(
      log.filter((line) => /nothing is acknowledged until it is back/.test(line)).length,
      1,
      log.join("\n"),
    );
    assert.equal(log.filter((line) => /^mysql: away at \S+ is back$/.test(line)).length, 1);
    await sink.close();
  });

  test("gives up a server that answers no more, and stores when it does again", {
    timeout: 60_000,
  }, async () => {
    const sink = await fresh("frozen");
    await sink.store({ source, events: made.sessions(1) });
    server.signal("SIGSTOP");
    const stored = sink.store({ source, events: made.sessions(1, 100) });
    await assert.rejects(stored, /SinkError: frozen at .*: no answer within 15000 ms/);
    server.signal("SIGCONT");
    await sink.store({ source, events: made.sessions(1, 100) });
    await sink.close();
    assert.equal(await count("frozen", "communications"), 20);
  });

  test("starts while the server is away, and gives a batch back in time", async () => {
    await server.kill();
    const sink = await MysqlSink.open({ dsn: dsnOf("away"), retryMs: 500 }, context);
    await assert.rejects(
      sink.store({ source, events: made.sessions(1) }),
      /^SinkError: away at 127\.0\.0\.1:\d+: .*ECONNREFUSED/,
    );
    await server.start();
    admin = await server.connect();
    await sink.store({ source, events: made.sessions(1) });
    await sink.close();
    assert.equal(await count("away", "connections"), 52);
  });
});

async function untilRow(connection: Connection, sql: string): Promise<[RowDataPacket[]]> {
  for (const until = Date.now() + 20_000; ; ) {
    const [rows] = await connection.query<RowDataPacket[]>(sql);
    if (rows.length > 0) return [rows];
    if (Date.now() > until) throw new Error(`never: ${sql}`);
    // innodb_trx is not looked up again for who asks more often than every 100 ms.
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}
