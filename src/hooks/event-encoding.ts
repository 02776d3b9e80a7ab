/**
 * Events as protobuf (`warp.hook.v1.Event`), straight into a buffer: encoded once, then shared by every observer and the
 * journal. The fields come in the order of their numbers, so that the kind of an encoded event is found behind the four
 * that all have.
 */
import type {
  AddressFacts,
  AfterComm,
  AfterConn,
  AfterTransaction,
  Direction,
  Endpoint,
  EventKind,
  FilterOutcome,
  Notice,
  Origin,
  Outcome,
  RecipientFacts,
  ReplyFacts,
  RouteFacts,
  SessionFacts,
  Timing,
  TlsFacts,
  WarpEvent,
} from "../events/events.ts";
import type { WireWriter } from "./wire.ts";

/** `Source` of the protocol. */
export interface SourceFacts {
  readonly proxy: string;
  readonly worker: number;
  readonly epoch: string;
}
export interface GapFacts {
  readonly firstSequence: number;
  readonly count: number;
  readonly reason: string;
}

/** An event larger than this is cut: a batch has at most 1 MiB. */
export const MAX_EVENT_OCTETS = 900_000;

/** Writes an Event at the end of `writer`. `id`: a ULID's octets. `sequence` up to 2^53. */
export function encodeEvent(
  writer: WireWriter,
  event: WarpEvent,
  id: Uint8Array,
  sequence: number,
  source: SourceFacts,
): void {
  head(writer, id, sequence, event.at, event.connectionId);
  const at = writer.begin(FIELD_OF_KIND[event.kind]);
  switch (event.kind) {
    case "after_comm":
      afterComm(writer, event);
      break;
    case "after_transaction":
      afterTransaction(writer, event, source);
      break;
    case "after_conn":
      afterConn(writer, event, source);
      break;
    case "notice":
      notice(writer, event);
  }
  writer.end(at);
}

export function encodeGap(
  writer: WireWriter,
  gap: GapFacts,
  id: Uint8Array,
  sequence: number,
  at: number,
): void {
  head(writer, id, sequence, at, "");
  const start = writer.begin(FIELD_OF_KIND.gap);
  writer.uint(1, gap.firstSequence);
  writer.uint(2, gap.count);
  writer.string(3, gap.reason);
  writer.end(start);
}

const FIELD_OF_KIND: Readonly<Record<EventKind | "gap", number>> = {
  after_comm: 10,
  after_transaction: 11,
  after_conn: 12,
  gap: 13,
  notice: 14,
};
const KIND_OF_FIELD = new Map<number, EventKind | "gap">(
  Object.entries(FIELD_OF_KIND).map(([kind, field]) => [field, kind as EventKind | "gap"]),
);

/** The kind of the encoded event that lies in `octets` (without tag and length in front); undefined where it is none. */
export function kindOf(octets: Uint8Array, start = 0, end = octets.length): EventKind | "gap" | undefined {
  for (let at = start; at < end; ) {
    const tag = octets[at++] as number;
    // The kinds' fields have tags of one octet, and so have those before them.
    if (tag >> 3 >= 10) return KIND_OF_FIELD.get(tag >> 3);
    let value = 0;
    let scale = 1;
    let octet: number;
    do {
      octet = octets[at++] as number;
      value += (octet & 127) * scale;
      scale *= 128;
    } while (octet > 127);
    if ((tag & 7) === 2) at += value;
  }
  return undefined;
}

function head(writer: WireWriter, id: Uint8Array, sequence: number, at: number, connectionId: string): void {
  writer.bytes(1, id);
  writer.uint(2, sequence);
  writer.timestamp(3, at);
  writer.ascii(4, connectionId);
}

const DIRECTION: Readonly<Record<Direction, number>> = {
  ">|": 1,
  "|>": 2,
  "|<": 3,
  "<|": 4,
  "->": 5,
  "<-": 6,
  "--": 7,
};
const ORIGIN: Readonly<Record<Origin, number>> = { upstream: 1, warp: 2, hook: 3 };
const OUTCOME: Readonly<Record<Outcome, number>> = {
  accepted: 1,
  deferred: 2,
  refused: 3,
  filtered: 4,
  discarded: 5,
  abandoned: 6,
  unknown: 7,
};

function afterComm(writer: WireWriter, event: AfterComm): void {
  writer.uint(1, DIRECTION[event.direction]);
  writer.bytes(2, event.data);
  writer.bool(3, event.truncated);
  writer.ascii(4, event.transactionId);
  writer.uint(5, event.leg);
  writer.bool(6, event.redacted);
  writer.uint(7, ORIGIN[event.origin]);
  writer.bool(8, event.tls);
  writer.string(9, event.code);
}

function afterTransaction(writer: WireWriter, event: AfterTransaction, source: SourceFacts): void {
  writer.ascii(1, event.transactionId);
  sessionField(writer, 2, event.session, source);
  addressField(writer, 3, event.mailFrom);
  const room = writer.size + MAX_EVENT_OCTETS * 0.8;
  let recorded = 0;
  for (; recorded < event.recipients.length && writer.size < room; recorded++) {
    recipientField(writer, 4, event.recipients[recorded] as RecipientFacts);
  }
  replyField(writer, 5, event.mailReply);
  replyField(writer, 6, event.dataReply);
  replyField(writer, 7, event.finalReply);
  writer.uint(8, event.messageOctets);
  for (const outcome of event.filters) outcomeField(writer, 9, outcome);
  timingField(writer, 10, event.timing);
  writer.uint(11, OUTCOME[event.outcome]);
  writer.bool(12, event.bdat);
  writer.uint(13, event.recipientsOmitted + event.recipients.length - recorded);
  writer.bytes(14, event.messageId);
}

function afterConn(writer: WireWriter, event: AfterConn, source: SourceFacts): void {
  sessionField(writer, 1, event.session, source);
  addressField(writer, 2, event.mailFrom);
  const room = writer.size + MAX_EVENT_OCTETS * 0.8;
  for (const address of event.mailTo) {
    if (writer.size > room) break;
    addressField(writer, 3, address);
  }
  writer.int(4, event.elapseMs);
  writer.uint(5, event.transactions);
  writer.uint(6, event.legs);
  writer.uint(7, event.octetsIn);
  writer.uint(8, event.octetsOut);
  writer.duration(9, event.durationMs);
  writer.string(10, event.closedBy);
  writer.bytes(11, Buffer.from(event.closeReason, "utf8"));
}

function notice(writer: WireWriter, event: Notice): void {
  writer.string(1, event.code);
  writer.string(2, event.text);
  for (const [key, value] of Object.entries(event.fields)) {
    const at = writer.begin(3);
    writer.string(1, key);
    writer.string(2, value);
    writer.end(at);
  }
}

function sessionField(writer: WireWriter, field: number, session: SessionFacts, source: SourceFacts): void {
  const at = writer.begin(field);
  writer.ascii(1, session.connectionId);
  endpointField(writer, 2, session.client);
  if (session.destination !== undefined) endpointField(writer, 3, session.destination);
  writer.bytes(4, session.helo);
  writer.bool(5, session.esmtp);
  tlsField(writer, 6, session.downstreamTls);
  tlsField(writer, 7, session.upstreamTls);
  writer.string(8, session.authUser);
  routeField(writer, 9, session.route);
  sourceField(writer, 10, source);
  writer.bytes(11, session.greeting);
  writer.string(12, session.provider);
  writer.end(at);
}

export function sourceField(writer: WireWriter, field: number, source: SourceFacts): void {
  const at = writer.begin(field);
  writer.string(1, source.proxy);
  writer.uint(2, source.worker);
  writer.ascii(3, source.epoch);
  writer.end(at);
}

function endpointField(writer: WireWriter, field: number, endpoint: Endpoint): void {
  const at = writer.begin(field);
  writer.string(1, endpoint.ip);
  writer.uint(2, endpoint.port);
  writer.end(at);
}

function tlsField(writer: WireWriter, field: number, tls: TlsFacts | undefined): void {
  if (tls === undefined) return;
  const at = writer.begin(field);
  writer.bool(1, tls.encrypted);
  writer.string(2, tls.version);
  writer.string(3, tls.cipher);
  writer.string(4, tls.peerName);
  writer.bool(5, tls.verified);
  writer.string(6, tls.reason);
  writer.string(7, tls.policy);
  writer.end(at);
}

function routeField(writer: WireWriter, field: number, route: RouteFacts): void {
  const at = writer.begin(field);
  writer.string(1, route.sourceIp);
  writer.string(2, route.pool);
  writer.string(3, route.rule);
  writer.string(4, route.tier);
  writer.bool(5, route.pinned);
  writer.end(at);
}

function addressField(writer: WireWriter, field: number, address: AddressFacts | undefined): void {
  if (address === undefined) return;
  const at = writer.begin(field);
  writer.string(1, address.address);
  writer.bytes(2, address.raw);
  writer.end(at);
}

function replyField(writer: WireWriter, field: number, reply: ReplyFacts | undefined): void {
  if (reply === undefined) return;
  const at = writer.begin(field);
  writer.uint(1, reply.code);
  writer.string(2, reply.enhancedCode);
  writer.bytes(3, reply.text);
  writer.uint(4, ORIGIN[reply.origin]);
  writer.string(5, reply.replyClass);
  writer.duration(6, reply.latencyMs);
  writer.string(7, reply.hook);
  writer.end(at);
}

function recipientField(writer: WireWriter, field: number, recipient: RecipientFacts): void {
  const at = writer.begin(field);
  addressField(writer, 1, recipient.address);
  replyField(writer, 2, recipient.rcptReply);
  replyField(writer, 3, recipient.finalReply);
  writer.end(at);
}

function outcomeField(writer: WireWriter, field: number, outcome: FilterOutcome): void {
  const at = writer.begin(field);
  writer.string(1, outcome.hook);
  writer.string(2, outcome.verdict);
  writer.double(3, outcome.score);
  for (const tag of outcome.tags) writer.string(4, tag === "" ? " " : tag);
  writer.string(5, outcome.failure);
  writer.string(6, outcome.onFailure);
  writer.duration(7, outcome.durationMs);
  writer.bool(8, outcome.shadow);
  replyField(writer, 9, outcome.reply);
  writer.string(10, outcome.note);
  writer.end(at);
}

function timingField(writer: WireWriter, field: number, timing: Timing): void {
  const at = writer.begin(field);
  writer.duration(1, timing.connectMs);
  writer.duration(2, timing.greetingMs);
  writer.duration(3, timing.ehloMs);
  writer.duration(4, timing.tlsMs);
  writer.duration(5, timing.mailMs);
  writer.duration(6, timing.rcptMs);
  writer.duration(7, timing.dataMs);
  writer.duration(8, timing.endOfDataMs);
  writer.duration(9, timing.filterMs);
  writer.int(10, timing.elapseMs);
  writer.end(at);
}

/** `Envelope` of BeforeRelay, into a `BeforeRelayRequest`. */
export interface EnvelopeFacts {
  readonly transactionId: string;
  readonly session: SessionFacts;
  readonly mailFrom: AddressFacts;
  readonly recipients: readonly AddressFacts[];
  readonly messageOctets: number;
  readonly truncated: boolean;
  readonly headerOnly: boolean;
  readonly earlier: readonly FilterOutcome[];
  readonly timeLeftMs: number;
  readonly smtputf8: boolean;
  readonly eightBit: boolean;
  readonly discardAllowed: boolean;
  readonly maxOctets: number | undefined;
}

export function encodeEnvelope(writer: WireWriter, envelope: EnvelopeFacts, source: SourceFacts): void {
  const at = writer.begin(1);
  writer.ascii(1, envelope.transactionId);
  sessionField(writer, 2, envelope.session, source);
  addressField(writer, 3, envelope.mailFrom);
  for (const recipient of envelope.recipients) addressField(writer, 4, recipient);
  writer.uint(5, envelope.messageOctets);
  writer.bool(6, envelope.truncated);
  writer.bool(7, envelope.headerOnly);
  for (const outcome of envelope.earlier) outcomeField(writer, 8, outcome);
  writer.duration(9, envelope.timeLeftMs);
  writer.bool(10, envelope.smtputf8);
  writer.bool(11, envelope.eightBit);
  writer.bool(12, envelope.discardAllowed);
  writer.uint(13, envelope.maxOctets ?? 0);
  writer.end(at);
}

/** `SelectRouteRequest`. */
export function encodeRouteQuestion(
  writer: WireWriter,
  question: {
    readonly transactionId: string;
    readonly session: SessionFacts;
    readonly mailFrom: AddressFacts;
    readonly recipient: AddressFacts | undefined;
    readonly sender: string;
    readonly score: number;
    readonly tier: string;
    readonly pools: readonly string[];
  },
  source: SourceFacts,
): void {
  writer.ascii(1, question.transactionId);
  sessionField(writer, 2, question.session, source);
  addressField(writer, 3, question.mailFrom);
  addressField(writer, 4, question.recipient);
  writer.string(5, question.sender);
  writer.double(6, question.score);
  writer.string(7, question.tier);
  for (const pool of question.pools) writer.string(8, pool);
}
