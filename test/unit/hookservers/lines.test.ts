import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Direction, EventSchema } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { lineOf } from "../../../src/hookservers/lines.ts";
import * as made from "../../integration/sinks/events.ts";
import fc from "../../support/property.ts";

const source = made.makeSource();
function line(event: ReturnType<typeof made.makeEvent>): string {
  return lineOf({ event, source, receivedMs: 0 })!;
}

test("begins a comm line with the original's keys, in its order and form", () => {
  const event = made.makeEvent(1, made.comm("hello", Direction.PROXY), { connectionId: "C" });
  assert.ok(
    line(event).startsWith(
      '{"type":"comm","occurred_at":"2026-03-01T12:34:56Z","connection_id":"C","direction":"--","data":"hello"',
    ),
  );
});

test("begins a conn line with the original's keys, elapse with its unit", () => {
  const event = made.makeEvent(1, made.conn(), { connectionId: "C" });
  assert.ok(
    line(event).startsWith(
      '{"type":"conn","occurred_at":"2026-03-01T12:34:56Z","connection_id":"C",' +
        '"from":"alice@example.local","to":"bob@example.test","elapse":"20 msec"',
    ),
  );
});

test("writes CR LF as the original's four characters, which JSON reads as CR LF", () => {
  const text = line(made.makeEvent(1, made.comm("250-a\r\n250 b")));
  assert.ok(text.includes('"data":"250-a\\r\\n250 b"'));
  assert.equal(JSON.parse(text).data, "250-a\r\n250 b");
});

test("writes id, source and sequence behind the rest, and leaves out what says nothing", () => {
  const event = made.makeEvent(42, made.comm("x"));
  const fields = JSON.parse(line(event));
  assert.equal(fields.id, event.id);
  assert.equal(fields.epoch, source.epoch);
  assert.equal(fields.worker, 0);
  assert.equal(fields.sequence, 42);
  assert.equal(fields.time, "2026-03-01T12:34:56.123000Z");
  assert.ok(!("redacted" in fields) && !("code" in fields));
});

test("writes a transaction with each recipient's answer and the timings of the stages", () => {
  const fields = JSON.parse(
    line(
      made.makeEvent(
        1,
        made.transaction([
          { to: "bob@example.test", reply: made.reply(451, "451 4.7.1 Later", "greylisted") },
        ]),
      ),
    ),
  );
  assert.equal(fields.type, "transaction");
  assert.equal(fields.from, "alice@example.local");
  assert.equal(fields.recipients[0].to, "bob@example.test");
  assert.equal(fields.recipients[0].code, 451);
  assert.equal(fields.recipients[0].class, "greylisted");
  assert.equal(fields.recipients[0].ms, 3.5);
  assert.equal(fields.timing.connect_ms, 1.25);
  assert.ok(!("tls_ms" in fields.timing));
  assert.equal(fields.upstream_tls.version, "TLSv1.3");
});

test("is one line of valid JSON for any octets, which it gives back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (data) => {
      const text = line(made.makeEvent(1, made.comm(data)));
      assert.equal(text.indexOf("\n"), text.length - 1);
      const fields = JSON.parse(text);
      const back =
        fields.data_base64 === undefined
          ? Buffer.from(fields.data)
          : Buffer.from(fields.data_base64, "base64");
      assert.deepEqual(back, Buffer.from(data));
    }),
  );
});

test("marks octets that are not UTF-8", () => {
  const fields = JSON.parse(line(made.makeEvent(1, made.comm(Buffer.from([0x61, 0xff, 0x00])))));
  assert.equal(fields.data, "a\\xff\0");
  assert.equal(fields.data_base64, "Yf8A");
});

test("has nothing to say of a kind that it does not know", () => {
  const event = create(EventSchema, { id: "x", sequence: 1n });
  assert.equal(lineOf({ event, source, receivedMs: 0 }), undefined);
});
