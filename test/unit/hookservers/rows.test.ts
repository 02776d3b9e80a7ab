import assert from "node:assert/strict";
import { test } from "node:test";
import { Direction, Origin, Outcome } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { lineOf } from "../../../src/hookservers/lines.ts";
import { eventId, type Item, rowsOf } from "../../../src/hookservers/rows.ts";
import { type TableName, tableNamed, tables } from "../../../src/hookservers/schema.ts";
import * as made from "../../integration/sinks/events.ts";

const source = made.makeSource();
function rowOf(
  table: TableName,
  event: ReturnType<typeof made.makeEvent>,
  index = 0,
): Record<string, unknown> {
  const item: Item = { event, source, receivedMs: 0 };
  const rows = rowsOf([item]).get(table)!;
  const { columns } = tableNamed(table);
  assert.equal(rows[index]!.length, columns.length);
  return Object.fromEntries(columns.map(({ name }, at) => [name, rows[index]![at]]));
}

test("puts the original's columns first, under the original's names", () => {
  assert.deepEqual(
    tableNamed("connections")
      .columns.slice(0, 5)
      .map(({ name }) => name),
    ["id", "mail_from", "mail_to", "occurred_at", "elapse"],
  );
  assert.deepEqual(
    tableNamed("communications")
      .columns.slice(0, 5)
      .map(({ name }) => name),
    ["id", "connection_id", "direction", "data", "occurred_at"],
  );
});

test("has each column once, and indexes and keys over columns that are there", () => {
  for (const { name, columns, indexes, primaryKey } of tables) {
    const names = columns.map((column) => column.name);
    assert.equal(new Set(names).size, names.length, name);
    for (const column of [...primaryKey, ...indexes.flatMap((index) => index.columns)]) {
      assert.ok(names.includes(column), `${name}.${column}`);
    }
  }
});

test("writes a line of the dialogue as the original does", () => {
  const event = made.makeEvent(7, made.comm("250-a\r\n250 b", Direction.SERVER_TO_CLIENT));
  const row = rowOf("communications", event);
  assert.equal(row.id, event.id);
  assert.equal(row.connection_id, event.connectionId);
  assert.equal(row.direction, "<-");
  assert.equal(row.data, "250-a\\r\\n250 b");
  assert.equal(row.data_raw, null);
  assert.equal(row.occurred_at, "2026-03-01T12:34:56.123000");
  assert.equal(row.sequence, 7n);
});

test("has a symbol for each direction", () => {
  const symbols = [1, 2, 3, 4, 5, 6, 7].map(
    (direction) =>
      rowOf("communications", made.makeEvent(1, made.comm("x", direction as Direction))).direction,
  );
  assert.deepEqual(symbols, [">|", "|>", "|<", "<|", "->", "<-", "--"]);
});

test("keeps the octets beside text that does not give them back, or that MySQL's text can't hold", () => {
  const octets = Buffer.from([0x41, 0x00, 0xff]);
  assert.deepEqual(rowOf("communications", made.makeEvent(1, made.comm(octets))).data_raw, octets);
  const long = Buffer.alloc(65_536, "é");
  assert.deepEqual(rowOf("communications", made.makeEvent(1, made.comm(long))).data_raw, long);
  assert.equal(rowOf("communications", made.makeEvent(1, made.comm("a".repeat(65_535)))).data_raw, null);
});

test("writes a connection as the original does, with <> for the null sender and unknown for none", () => {
  const row = rowOf(
    "connections",
    made.makeEvent(1, made.conn("alice@example.local", ["bob@example.test", "carol@example.test"])),
  );
  assert.equal(row.id, "01HKQ2N5J0CONNECT10N000001");
  assert.equal(row.mail_from, "alice@example.local");
  assert.equal(row.mail_to, "bob@example.test");
  assert.equal(row.elapse, 20n);
  assert.equal(row.client_ip, "192.0.2.7");
  assert.equal(row.source_ip, "203.0.113.10");
  assert.equal(row.tls_verified, 0);
  assert.equal(row.duration_ms, 45);
  assert.equal(rowOf("connections", made.makeEvent(1, made.conn(""))).mail_from, "<>");
  const none = made.makeEvent(1, { case: "afterConn", value: { elapseMs: -1n } });
  assert.equal(rowOf("connections", none).mail_from, "unknown");
  assert.equal(rowOf("connections", none).mail_to, "unknown");
  assert.equal(rowOf("connections", none).elapse, -1n);
});

test("writes a transaction with a row for each recipient", () => {
  const event = made.makeEvent(
    3,
    made.transaction(
      [
        { to: "bob@Example.TEST", reply: made.reply(250, "250 2.0.0 Ok") },
        { to: "eve@example.org", reply: made.reply(550, "550 5.7.1 No", "blocked-ip", Origin.UPSTREAM) },
      ],
      Outcome.ACCEPTED,
    ),
  );
  const row = rowOf("transactions", event);
  assert.equal(row.mail_from, "alice@example.local");
  assert.equal(row.sender_domain, "example.local");
  assert.equal(row.outcome, "accepted");
  assert.equal(row.recipients, 2);
  assert.equal(row.recipients_accepted, 1);
  assert.equal(row.code, 250);
  assert.equal(row.connect_ms, 1.25);
  assert.equal(row.end_of_data_ms, 1500);
  assert.equal(row.tls_ms, null);
  const second = rowOf("recipients", event, 1);
  assert.equal(second.event_id, event.id);
  assert.equal(second.position, 1);
  assert.equal(second.domain, "example.org");
  assert.equal(second.code, 550);
  assert.equal(second.enhanced_code, "5.7.1");
  assert.equal(second.class, "blocked-ip");
  assert.equal(second.reply_ms, 3.5);
  assert.equal(rowOf("recipients", event, 0).domain, "example.test");
});

test("shows an address's octets that are not UTF-8", () => {
  const octets = (text: string) => Buffer.from(text, "latin1");
  const address = (raw: string, text: string) => ({ address: text, raw: octets(raw) });
  for (const [raw, text, shown, domain] of [
    ["<\xff\xfe@x.example>", "\\xff\\xfe@x.example", "\\xff\\xfe@x.example", "x.example"],
    [" <@r.example:a\xe2\x82@X\xc3> SIZE=5", "a\\xe2\\x82@X\\xc3", "a\\xe2\\x82@X\\xc3", "x\\xc3"],
    ["<a\xef\xbf\xbd@x.example>", "a\ufffd@x.example", "a\ufffd@x.example", "x.example"],
    ["<\xff@x> ORCPT=\xff", "\ufffd@x", "\ufffd@x", "x"],
  ] as const) {
    const transaction = made.transaction([]);
    const event = made.makeEvent(1, {
      case: "afterTransaction",
      value: { ...transaction.value, mailFrom: address(raw, text) },
    });
    const row = rowOf("transactions", event);
    assert.deepEqual([row.mail_from, row.sender_domain], [shown, domain]);
    const line = JSON.parse(lineOf({ event, source, receivedMs: 0 }) ?? "");
    assert.equal(line.from, shown);
  }
});

test("writes gaps and notices", () => {
  const gap = made.makeEvent(9, { case: "gap", value: { firstSequence: 3n, count: 5n, reason: "full" } });
  assert.deepEqual(
    [rowOf("notices", gap).kind, rowOf("notices", gap).fields],
    ["gap", '{"first_sequence":"3","count":"5"}'],
  );
  const notice = made.makeEvent(9, {
    case: "notice",
    value: { code: "ip_blocked", text: "t", fields: { ip: "x" } },
  });
  assert.deepEqual([rowOf("notices", notice).kind, rowOf("notices", notice).code], ["notice", "ip_blocked"]);
});

test("makes a unique id where a client gives none or one that is too long", () => {
  const item = (sequence: number, id: string): Item => ({
    event: made.makeEvent(sequence, made.comm("x"), { id }),
    source,
    receivedMs: 0,
  });
  assert.notEqual(eventId(item(1, "")), eventId(item(2, "")));
  assert.equal(eventId(item(1, "")), eventId(item(1, "")));
  assert.equal(eventId(item(1, "a".repeat(27))).length, 26);
});

test("writes a number that no database holds as the largest that it does", () => {
  const event = made.makeEvent(2n ** 64n - 1n, made.comm("x"));
  assert.equal(rowOf("communications", event).sequence, 2n ** 63n - 1n);
});
