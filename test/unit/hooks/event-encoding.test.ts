import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { WarpEvent } from "../../../src/events/events.ts";
import {
  BeforeRelayRequestSchema,
  Direction,
  EventSchema,
  Origin,
  Outcome,
  SelectRouteRequestSchema,
} from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import {
  encodeEnvelope,
  encodeEvent,
  encodeGap,
  encodeRouteQuestion,
  kindOf,
  MAX_EVENT_OCTETS,
} from "../../../src/hooks/event-encoding.ts";
import { WireWriter } from "../../../src/hooks/wire.ts";
import fc from "../../support/property.ts";
import { address, envelope, SESSION } from "../filter/fixtures.ts";
import { comm, conn, notice, REPLY, transaction } from "./events.ts";

const SOURCE = { proxy: "mx-out-1", worker: 3, epoch: "01ARZ3NDEKTSV4RRFFQ69G5FAX" };
const ID = Buffer.from("01ARZ3NDEKTSV4RRFFQ69G5FAY");

function encoded(event: WarpEvent, sequence = 7): Buffer {
  const writer = new WireWriter(16);
  encodeEvent(writer, event, ID, sequence, SOURCE);
  return Buffer.from(writer.view());
}
const decoded = (event: WarpEvent, sequence?: number) => fromBinary(EventSchema, encoded(event, sequence));

test("a line of the dialogue arrives with every field", () => {
  const event = decoded(comm());
  assert.deepEqual([event.id, event.sequence, event.connectionId], [ID.toString(), 7n, SESSION.connectionId]);
  assert.deepEqual([event.occurredAt?.seconds, event.occurredAt?.nanos], [1_790_000_000n, 123_250_000]);
  assert.ok(event.kind.case === "afterComm");
  const { $typeName: _, ...fields } = event.kind.value;
  assert.deepEqual(
    { ...fields, data: Buffer.from(fields.data).toString() },
    {
      direction: Direction.CLIENT_TO_SERVER,
      data: "MAIL FROM:<alice@example.org>",
      truncated: true,
      transactionId: "01ARZ3NDEKTSV4RRFFQ69G5FAW",
      leg: 2,
      redacted: true,
      origin: Origin.HOOK,
      tls: true,
      code: "tls_connected",
    },
  );
});

test("every direction and outcome has its number", () => {
  const numbers = {
    ">|": Direction.CLIENT_TO_PROXY,
    "|>": Direction.PROXY_TO_SERVER,
    "|<": Direction.SERVER_TO_PROXY,
    "<|": Direction.PROXY_TO_CLIENT,
    "->": Direction.CLIENT_TO_SERVER,
    "<-": Direction.SERVER_TO_CLIENT,
    "--": Direction.PROXY,
  } as const;
  for (const [direction, number] of Object.entries(numbers)) {
    const { kind } = decoded(comm({ direction: direction as keyof typeof numbers }));
    assert.equal(kind.case === "afterComm" && kind.value.direction, number);
  }
  const outcomes = [
    "accepted",
    "deferred",
    "refused",
    "filtered",
    "discarded",
    "abandoned",
    "unknown",
  ] as const;
  for (const outcome of outcomes) {
    const { kind } = decoded(transaction({ outcome }));
    assert.equal(
      kind.case === "afterTransaction" && kind.value.outcome,
      Outcome[outcome.toUpperCase() as keyof typeof Outcome],
    );
  }
});

test("a transaction arrives with recipients, replies, filters and timing", () => {
  const { kind } = decoded(transaction());
  assert.ok(kind.case === "afterTransaction");
  const { value } = kind;
  assert.deepEqual(
    value.recipients.map((recipient) => [
      recipient.address?.address,
      recipient.rcptReply?.latency,
      recipient.finalReply?.code,
    ]),
    [
      ["bob@example.net", undefined, 451],
      ["carol@example.net", value.recipients[1]?.rcptReply?.latency, undefined],
    ],
  );
  assert.deepEqual(
    [value.finalReply?.latency?.seconds, value.finalReply?.latency?.nanos, value.finalReply?.replyClass],
    [1n, 234_567_800, "greylisted"],
  );
  assert.equal(Buffer.from(value.finalReply?.text ?? []).toString("latin1"), REPLY.text.toString("latin1"));
  assert.deepEqual([value.messageOctets, value.bdat, value.recipientsOmitted], [5_000_000_000n, true, 3]);
  assert.deepEqual([value.session?.source?.proxy, value.session?.authUser], ["mx-out-1", "jörg"]);
  assert.deepEqual(
    [value.session?.upstreamTls?.reason, value.session?.destination?.port],
    ["self-signed", 25],
  );
  const filter = value.filters[0];
  assert.deepEqual(
    [filter?.score, filter?.tags, filter?.note, filter?.shadow, filter?.duration?.nanos, filter?.reply?.hook],
    [-4.25, ["a", "b"], "why", true, 0, "spam"],
  );
  assert.deepEqual(
    [value.timing?.elapseMs, value.timing?.tls?.seconds, value.timing?.ehlo],
    [-2n, 61n, undefined],
  );
});

test("a connection and a notice arrive", () => {
  const { kind } = decoded(conn());
  assert.ok(kind.case === "afterConn");
  assert.equal(kind.value.mailFrom?.address, "");
  assert.deepEqual(
    [kind.value.elapseMs, kind.value.octetsIn, kind.value.mailTo.length, kind.value.closedBy],
    [-1n, 10_000_000_000n, 2, "client"],
  );
  assert.equal(decoded(conn({ mailFrom: undefined })).kind.value !== undefined, true);
  const said = decoded(notice()).kind;
  assert.ok(said.case === "notice");
  assert.deepEqual(said.value.fields, { hook: "spam", cause: "absent" });
});

test("what protobuf-es makes of an event is the same octets", () => {
  const all: WarpEvent[] = [
    comm(),
    comm({ data: Buffer.alloc(70_000, 1), code: "" }),
    transaction(),
    conn(),
    notice({ fields: { one: "1" } }),
  ];
  for (const event of all) {
    const octets = encoded(event);
    assert.deepEqual(Buffer.from(toBinary(EventSchema, fromBinary(EventSchema, octets))), octets, event.kind);
  }
});

test("any line, id and sequence comes back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.maxSafeNat(), fc.string(), (data, sequence, code) => {
      fc.pre(code.isWellFormed());
      const event = decoded(comm({ data: Buffer.from(data), code }), sequence);
      assert.equal(event.sequence, BigInt(sequence));
      assert.ok(event.kind.case === "afterComm");
      assert.deepEqual(Buffer.from(event.kind.value.data), Buffer.from(data));
      assert.equal(event.kind.value.code, code);
    }),
  );
});

test("the kind of an encoded event is found without decoding it", () => {
  assert.equal(kindOf(encoded(comm({ connectionId: "" }), 2 ** 40)), "after_comm");
  assert.equal(kindOf(encoded(transaction())), "after_transaction");
  assert.equal(kindOf(encoded(conn())), "after_conn");
  assert.equal(kindOf(encoded(notice())), "notice");
  const writer = new WireWriter();
  encodeGap(writer, { firstSequence: 5, count: 3, reason: "full" }, ID, 7, Date.now());
  assert.equal(kindOf(writer.view()), "gap");
  assert.equal(kindOf(Buffer.alloc(0)), undefined);
});

test("a gap says what is missing", () => {
  const writer = new WireWriter();
  encodeGap(writer, { firstSequence: 5, count: 3, reason: "full" }, ID, 7, 1000);
  const { sequence, kind } = fromBinary(EventSchema, writer.view());
  assert.ok(kind.case === "gap");
  assert.deepEqual(
    [sequence, kind.value.firstSequence, kind.value.count, kind.value.reason],
    [7n, 5n, 3n, "full"],
  );
});

test("an event that would be larger than a batch is cut, and says how many recipients are left out", () => {
  const raw = Buffer.alloc(2000, "x");
  const recipients = Array.from({ length: 1000 }, () => ({
    address: { address: "x".repeat(900), raw },
    rcptReply: REPLY,
    finalReply: REPLY,
  }));
  const octets = encoded(transaction({ recipients, recipientsOmitted: 2 }));
  assert.ok(octets.length < MAX_EVENT_OCTETS, `${octets.length}`);
  const { kind } = fromBinary(EventSchema, octets);
  assert.ok(kind.case === "afterTransaction");
  assert.equal(kind.value.recipients.length + kind.value.recipientsOmitted, 1002);
  assert.ok(kind.value.recipients.length > 100);
});

test("an envelope is a BeforeRelayRequest, a route question a SelectRouteRequest", () => {
  const writer = new WireWriter();
  const given = {
    ...envelope({ smtputf8: true, maxOctets: 1000 }),
    messageOctets: 12,
    truncated: true,
    headerOnly: true,
    earlier: transaction().filters,
    timeLeftMs: 1500,
    discardAllowed: true,
  };
  encodeEnvelope(writer, given, SOURCE);
  const { part } = fromBinary(BeforeRelayRequestSchema, writer.view());
  assert.ok(part.case === "envelope");
  assert.deepEqual(
    [
      part.value.recipients[0]?.address,
      part.value.timeLeft?.nanos,
      part.value.smtputf8,
      part.value.maxOctets,
    ],
    ["bob@example.net", 500_000_000, true, 1000n],
  );
  assert.equal(part.value.earlier[0]?.hook, "spam");
  writer.clear();
  encodeRouteQuestion(
    writer,
    {
      transactionId: "t",
      session: SESSION,
      mailFrom: address("a@b"),
      recipient: undefined,
      sender: "s",
      score: 0.5,
      tier: "poor",
      pools: ["a", "b"],
    },
    SOURCE,
  );
  const question = fromBinary(SelectRouteRequestSchema, writer.view());
  assert.deepEqual(
    [question.sender, question.score, question.pools, question.recipient],
    ["s", 0.5, ["a", "b"], undefined],
  );
  assert.ok(create(SelectRouteRequestSchema));
});
