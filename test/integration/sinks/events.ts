/** Events as a proxy would send them, for the tests and benchmarks of sinks. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ulid } from "ulid";
import {
  Direction,
  type Event,
  EventSchema,
  Origin,
  Outcome,
  type Source,
  SourceSchema,
} from "../../../src/gen/warp/hook/v1/hook_pb.ts";

export const at = Date.parse("2026-03-01T12:34:56.123Z");

export function makeSource(worker = 0, epoch = ulid()): Source {
  return create(SourceSchema, { proxy: "mx-out-1", worker, epoch });
}

export function makeEvent(
  sequence: number | bigint,
  kind: MessageInitShape<typeof EventSchema>["kind"],
  more: { connectionId?: string; id?: string; atMs?: number } = {},
): Event {
  return create(EventSchema, {
    id: more.id ?? ulid(),
    sequence: BigInt(sequence),
    occurredAt: timestampFromMs(more.atMs ?? at),
    connectionId: more.connectionId ?? "01HKQ2N5J0CONNECT10N000001",
    kind: kind!,
  });
}

export function comm(data: string | Uint8Array, direction: Direction = Direction.CLIENT_TO_SERVER) {
  return {
    case: "afterComm" as const,
    value: {
      direction,
      data: typeof data === "string" ? Buffer.from(data) : data,
      transactionId: "01HKQ2N5J0TRANSACT10N00001",
      leg: 1,
      origin: direction === Direction.SERVER_TO_CLIENT ? Origin.UPSTREAM : Origin.UNSPECIFIED,
    },
  };
}

const session = {
  connectionId: "01HKQ2N5J0CONNECT10N000001",
  client: { ip: "192.0.2.7", port: 40_000 },
  destination: { ip: "198.51.100.9", port: 25 },
  helo: Buffer.from("mail.example.local"),
  esmtp: true,
  upstreamTls: {
    encrypted: true,
    version: "TLSv1.3",
    cipher: "TLS_AES_256_GCM_SHA384",
    peerName: "mx.example.test",
    verified: false,
    reason: "self-signed",
    policy: "may",
  },
  route: { sourceIp: "203.0.113.10", pool: "shared", rule: "default", tier: "neutral" },
  greeting: Buffer.from("220 mx.example.test ESMTP"),
  provider: "example.test",
};

export function address(text: string, raw = `<${text}>`) {
  return { address: text, raw: Buffer.from(raw) };
}

export function conn(from = "alice@example.local", to: readonly string[] = ["bob@example.test"]) {
  return {
    case: "afterConn" as const,
    value: {
      session,
      mailFrom: address(from),
      mailTo: to.map((each) => address(each)),
      elapseMs: 20n,
      transactions: 1,
      legs: 1,
      octetsIn: 4096n,
      octetsOut: 512n,
      duration: { seconds: 0n, nanos: 45_000_000 },
      closedBy: "client",
    },
  };
}

export function reply(code: number, text: string, replyClass = "accepted", origin: Origin = Origin.UPSTREAM) {
  const enhancedCode = /^\d{3}[ -](\d\.\d+\.\d+)/.exec(text)?.[1] ?? "";
  return {
    code,
    enhancedCode,
    text: Buffer.from(text),
    origin,
    replyClass,
    latency: { seconds: 0n, nanos: 3_500_000 },
    hook: origin === Origin.HOOK ? "rspamd" : "",
  };
}

export function transaction(
  recipients: readonly { to: string; reply: ReturnType<typeof reply> }[] = [
    { to: "bob@example.test", reply: reply(250, "250 2.0.0 Ok: queued") },
  ],
  outcome: Outcome = Outcome.ACCEPTED,
) {
  return {
    case: "afterTransaction" as const,
    value: {
      transactionId: "01HKQ2N5J0TRANSACT10N00001",
      session,
      mailFrom: address("alice@example.local", "<alice@example.local> SIZE=4096"),
      recipients: recipients.map(({ to, reply: finalReply }) => ({
        address: address(to),
        rcptReply: reply(250, "250 2.1.5 Ok"),
        finalReply,
      })),
      mailReply: reply(250, "250 2.1.0 Ok"),
      dataReply: reply(354, "354 End data with <CR><LF>.<CR><LF>"),
      finalReply: recipients[0]?.reply ?? reply(250, "250 2.0.0 Ok: queued"),
      messageOctets: 4096n,
      timing: {
        connect: { seconds: 0n, nanos: 1_250_000 },
        mail: { seconds: 0n, nanos: 2_000_000 },
        endOfData: { seconds: 1n, nanos: 500_000_000 },
        elapseMs: 20n,
      },
      outcome,
      messageId: Buffer.from("<20260301.1@example.local>"),
    },
  };
}

/** What a real session gives: `count` connections of 12 events each, sequences from `first`. */
export function sessions(count: number, first = 1): Event[] {
  const events: Event[] = [];
  let sequence = first;
  for (let index = 0; index < count; index += 1) {
    const more = { connectionId: ulid(), atMs: at + index };
    const lines: [string, Direction][] = [
      ["220 mx.example.test ESMTP", Direction.SERVER_TO_CLIENT],
      ["EHLO mail.example.local", Direction.CLIENT_TO_SERVER],
      ["250-mx.example.test\r\n250-PIPELINING\r\n250 8BITMIME", Direction.SERVER_TO_CLIENT],
      [`MAIL FROM:<sender${index}@example.local>`, Direction.CLIENT_TO_SERVER],
      ["250 2.1.0 Ok", Direction.SERVER_TO_CLIENT],
      ["RCPT TO:<bob@example.test>", Direction.CLIENT_TO_SERVER],
      ["250 2.1.5 Ok", Direction.SERVER_TO_CLIENT],
      ["DATA", Direction.CLIENT_TO_SERVER],
      ["354 End data", Direction.SERVER_TO_CLIENT],
      ["250 2.0.0 Ok: queued", Direction.SERVER_TO_CLIENT],
    ];
    for (const [data, direction] of lines) events.push(makeEvent(sequence++, comm(data, direction), more));
    events.push(makeEvent(sequence++, transaction(), more));
    events.push(makeEvent(sequence++, conn(`sender${index}@example.local`), more));
  }
  return events;
}
/** How many events `sessions` makes of one connection. */
export const eventsPerSession = 12;
