/** What `warp hook-check` sends: messages, envelopes and events, all recognisable as a check's (proxy `hook-check`). */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ulid } from "ulid";
import {
  Direction,
  type EnvelopeSchema,
  EventSchema,
  Origin,
  Outcome,
  type SessionSchema,
  type SourceSchema,
} from "../../gen/warp/hook/v1/hook_pb.ts";

export type EventInit = MessageInitShape<typeof EventSchema>;
/** An envelope's fields, without the marks of a whole message. */
export type EnvelopeFields = Omit<MessageInitShape<typeof EnvelopeSchema>, "$typeName" | "$unknown">;

export const SMALL = Buffer.from(
  "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: A check of this hook\r\n" +
    "Message-ID: <hook-check@example.org>\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n\r\nNothing to see here.\r\n",
);
export const EMPTY = Buffer.alloc(0);
/** 8-bit header and body, NUL-free, with lines that look like an end of data. */
export const ODD = Buffer.concat([
  Buffer.from("Subject: d\xe9j\xe0 vu\r\nX-Long: ", "latin1"),
  Buffer.alloc(900, "x"),
  Buffer.from("\r\n\r\n"),
  Buffer.from(
    Array.from({ length: 255 }, (_, octet) => octet + 1).filter((octet) => octet !== 10 && octet !== 13),
  ),
  Buffer.from("\r\n.\r\n..\r\n.QUIT\r\n"),
]);
/** No empty line: a header section is all there is. */
export const HEADER_ONLY = Buffer.from("From: <alice@example.org>\r\nSubject: no body\r\n");

/** A message of about that many octets: a text part and lines of base64. */
export function large(octets: number): Buffer {
  const head = Buffer.from(
    "From: <alice@example.org>\r\nTo: <bob@example.net>\r\nSubject: A large message\r\n\r\n",
  );
  const line = Buffer.from(`${"QUFB".repeat(19)}\r\n`);
  return Buffer.concat([head, Buffer.alloc(Math.max(0, octets - head.length), line)]);
}

export function envelope(message: Uint8Array, more: EnvelopeFields = {}): EnvelopeFields {
  const address = (text: string, verb: string) => ({ address: text, raw: Buffer.from(`${verb}<${text}>`) });
  return {
    transactionId: ulid(),
    session: session(),
    mailFrom: address("alice@example.org", ""),
    recipients: [address("bob@example.net", ""), address("carol@example.net", "")],
    messageOctets: BigInt(message.length),
    timeLeft: { seconds: 30n },
    eightBit: true,
    discardAllowed: false,
    ...more,
  };
}

export function session(): Omit<MessageInitShape<typeof SessionSchema>, "$typeName" | "$unknown"> {
  return {
    connectionId: ulid(),
    client: { ip: "192.0.2.10", port: 40_000 },
    destination: { ip: "198.51.100.25", port: 25 },
    helo: Buffer.from("client.example.org"),
    esmtp: true,
    upstreamTls: { encrypted: true, version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384", policy: "may" },
    greeting: Buffer.from("220 mx.example.net ESMTP"),
    source: { proxy: "hook-check", worker: 0, epoch: ulid() },
  };
}

export function source(): MessageInitShape<typeof SourceSchema> {
  return { proxy: "hook-check", worker: 0, epoch: ulid() };
}

/** Events `first` to `first + count - 1`, of all kinds in turn, with octets that are no UTF-8. */
export function events(first: number, count: number): EventInit[] {
  return Array.from({ length: count }, (_, index) => ({
    id: ulid(),
    sequence: BigInt(first + index),
    occurredAt: timestampFromMs(Date.now()),
    connectionId: ulid(),
    kind: KINDS[index % KINDS.length]!(),
  }));
}

type Kind = NonNullable<EventInit["kind"]>;
const reply = (code: number, text: string) => ({ code, text: Buffer.from(text), origin: Origin.UPSTREAM });
const alice = { address: "alice@example.org", raw: Buffer.from("<alice@example.org>") };
const bob = { address: "b\\xf6b@example.net", raw: Buffer.from("<b\xf6b@example.net>", "latin1") };

const KINDS: readonly (() => Kind)[] = [
  () => ({
    case: "afterComm",
    value: { direction: Direction.CLIENT_TO_SERVER, data: Buffer.from("EHLO b\xfcro", "latin1"), leg: 1 },
  }),
  () => ({
    case: "afterComm",
    value: {
      direction: Direction.SERVER_TO_CLIENT,
      data: Buffer.from("250-mx.example.net\r\n250 SIZE 1000"),
      leg: 1,
      origin: Origin.UPSTREAM,
    },
  }),
  () => ({
    case: "afterTransaction",
    value: {
      transactionId: ulid(),
      session: session(),
      mailFrom: alice,
      recipients: [{ address: bob, rcptReply: reply(250, "250 ok"), finalReply: reply(250, "250 queued") }],
      finalReply: reply(250, "250 queued"),
      messageOctets: 1234n,
      timing: { connect: { nanos: 5_000_000 }, elapseMs: 20n },
      outcome: Outcome.ACCEPTED,
    },
  }),
  () => ({
    case: "afterConn",
    value: {
      session: session(),
      mailFrom: alice,
      mailTo: [bob],
      elapseMs: -2n,
      transactions: 1,
      legs: 1,
      closedBy: "client",
    },
  }),
];

export function gap(sequence: number): EventInit {
  return {
    id: ulid(),
    sequence: BigInt(sequence),
    kind: { case: "gap", value: { firstSequence: 1n, count: 3n, reason: "a check" } },
  };
}
export function notice(sequence: number): EventInit {
  return {
    id: ulid(),
    sequence: BigInt(sequence),
    kind: { case: "notice", value: { code: "hook_check", text: "a check", fields: { a: "b" } } },
  };
}
/** A kind of a later version of the protocol: field 99 of Event, which this server's code does not know. */
export function unknownKind(sequence: number): EventInit {
  const event = create(EventSchema, { id: ulid(), sequence: BigInt(sequence) });
  event.$unknown = [{ no: 99, wireType: WireType.LengthDelimited, data: new Uint8Array([1, 0]) }];
  return event;
}
export function largeComm(sequence: number): EventInit {
  return {
    id: ulid(),
    sequence: BigInt(sequence),
    kind: {
      case: "afterComm",
      value: { direction: Direction.SERVER_TO_CLIENT, data: Buffer.alloc(65_536, "x"), truncated: true },
    },
  };
}
