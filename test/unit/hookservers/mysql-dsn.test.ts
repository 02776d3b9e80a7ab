import assert from "node:assert/strict";
import { test } from "node:test";
import { describeTarget, type MysqlTarget, parseMysqlDsn } from "../../../src/hookservers/mysql-dsn.ts";
import fc from "../../support/property.ts";

const base: MysqlTarget = {
  user: "warp",
  password: "secret",
  database: "warp",
  socketPath: undefined,
  host: "127.0.0.1",
  port: 3306,
  tls: "off",
  connectTimeoutMs: 10_000,
};

const good: readonly [dsn: string, target: Partial<MysqlTarget>][] = [
  ["warp:secret@tcp(127.0.0.1:3306)/warp", {}],
  ["warp:secret@tcp(127.0.0.1)/warp", {}],
  ["warp:secret@tcp/warp", {}],
  ["warp:secret@/warp", {}],
  [
    "warp:secret@tcp(db.example:3307)/warp?parseTime=true&charset=utf8mb4&loc=Asia%2FTokyo",
    { host: "db.example", port: 3307 },
  ],
  ["warp:secret@tcp([::1]:3306)/warp", { host: "::1" }],
  ["warp:secret@tcp([2001:db8::1])/warp", { host: "2001:db8::1" }],
  [
    "warp:secret@unix(/run/mysqld/mysqld.sock)/warp",
    { socketPath: "/run/mysqld/mysqld.sock", host: "", port: 0 },
  ],
  ["warp@tcp(127.0.0.1:3306)/warp", { password: "" }],
  ["warp:p@ss:w/rd?x@tcp(127.0.0.1:3306)/warp", { password: "p@ss:w/rd?x" }],
  ["warp:secret@tcp(127.0.0.1:3306)/a%2Db?tls=true", { database: "a-b", tls: "verified" }],
  [
    "warp:secret@tcp(127.0.0.1:3306)/warp?tls=skip-verify&timeout=1.5s",
    { tls: "unverified", connectTimeoutMs: 1500 },
  ],
  [
    "warp:secret@tcp(127.0.0.1:3306)/warp?tls=preferred&timeout=30s",
    { tls: "preferred", connectTimeoutMs: 30_000 },
  ],
  [
    "warp:secret@TCP(127.0.0.1:3306)/warp?tls=TRUE&timeout=1m30s",
    { tls: "verified", connectTimeoutMs: 90_000 },
  ],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tls=1&timeout=500us", { tls: "verified", connectTimeoutMs: 1 }],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tls=0&timeout=1h.5s", { connectTimeoutMs: 3_600_500 }],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tls=Skip-Verify&timeout=0", { tls: "unverified" }],
  ["mysql://warp:secret@127.0.0.1/warp", {}],
  [
    "mysql://warp:s%40c%2Fret@db.example:3307/warp?tls=true",
    { password: "s@c/ret", host: "db.example", port: 3307, tls: "verified" },
  ],
  ["mariadb://warp:secret@[::1]:3306/warp", { host: "::1" }],
  [
    "mysql://warp:secret@localhost/warp?socket=/run/mysqld/mysqld.sock",
    { socketPath: "/run/mysqld/mysqld.sock", host: "localhost" },
  ],
];
for (const [dsn, target] of good) {
  test(`reads ${dsn}`, () => assert.deepEqual(parseMysqlDsn(dsn), { ...base, ...target }));
}

const bad: readonly [dsn: string, says: RegExp][] = [
  ["warp", /no \/database/],
  ["/var/lib/warp.db", /has no address/],
  ["warp:secret/warp", /has no address/],
  ["warp:secret@tcp(127.0.0.1:3306)/", /names no database/],
  ["warp:secret@tcp(127.0.0.1:70000)/warp", /is no address/],
  ["warp:secret@tcp(::1:3306)/warp", /IPv6 in brackets/],
  ["warp:secret@udp(127.0.0.1)/warp", /tcp or unix/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tsl=true", /"tsl" is no parameter/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tls=maybe", /tls is "maybe"/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?timeout=5", /timeout is "5"/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?timeout=1m30", /timeout is "1m30"/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?timeout=", /timeout is ""/],
  ["warp:secret@tcp(127.0.0.1:3306)/warp?tls=tRuE", /tls is "tRuE"/],
  ["warp:secret@tcp(127.0.0.1:3306)/w%zz", /%25/],
  ["mysql://warp:secret@host:99999/warp", /cannot be read/],
];
for (const [dsn, says] of bad) {
  test(`refuses ${dsn} and says why, without the password`, () => {
    assert.throws(
      () => parseMysqlDsn(dsn),
      (error: Error) => says.test(error.message) && !error.message.includes("secret"),
    );
  });
}

test("takes any password in a Go DSN", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (password) => {
      const target = parseMysqlDsn(`u:${password}@tcp(h:1)/d`);
      assert.equal(target.password, password);
      assert.equal(describeTarget(target), "d at h:1");
    }),
  );
});
