/**
 * Events as JSON lines: the original's keys first, in its order, then ours; a key without a value is left out. In JSON CR
 * and LF are written `\r` and `\n`, so an ordinary line looks as the original's does, and a JSON parser gives back the
 * octets themselves. Octets that are not UTF-8 appear as `\xHH` (in JSON: `\\xHH`), and `data_base64` then has them all.
 */
import type {
  Address,
  AfterComm,
  AfterConn,
  AfterTransaction,
  Reply,
  Session,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { filterFields, type Item } from "./rows.ts";
import { decodeMarked, marked } from "./text.ts";
import {
  directionWord,
  microseconds,
  milliseconds,
  originWord,
  outcomeWord,
  secondsTime,
  utcTime,
} from "./words.ts";

type Fields = Record<string, unknown>;

/** One line with its newline; undefined for an event of a kind that this version does not know. */
export function lineOf(item: Item): string | undefined {
  const fields = fieldsOf(item);
  return fields === undefined ? undefined : `${JSON.stringify(fields)}\n`;
}

function fieldsOf(item: Item): Fields | undefined {
  const { kind } = item.event;
  switch (kind.case) {
    case "afterComm":
      return commFields(item, kind.value);
    case "afterConn":
      return { ...head(item, "conn"), ...connFields(kind.value), ...tail(item) };
    case "afterTransaction":
      return { ...head(item, "transaction"), ...transactionFields(kind.value), ...tail(item) };
    case "gap":
      return {
        ...head(item, "gap"),
        first_sequence: Number(kind.value.firstSequence),
        count: Number(kind.value.count),
        reason: kind.value.reason,
        ...tail(item),
      };
    case "notice":
      return {
        ...head(item, "notice"),
        code: kind.value.code,
        text: kind.value.text,
        fields: kind.value.fields,
        ...tail(item),
      };
    default:
      return undefined;
  }
}

function head({ event, receivedMs }: Item, type: string): Fields {
  return {
    type,
    occurred_at: secondsTime(microseconds(event.occurredAt, receivedMs)),
    connection_id: event.connectionId,
  };
}

function tail({ event, source, receivedMs }: Item): Fields {
  return {
    id: event.id,
    time: utcTime(microseconds(event.occurredAt, receivedMs)),
    proxy: some(source?.proxy),
    worker: source?.worker,
    epoch: some(source?.epoch),
    sequence: Number(event.sequence),
  };
}

/** With head and tail in place: by far the most lines are these, and an object that is not put together is made faster. */
function commFields({ event, source, receivedMs }: Item, comm: AfterComm): Fields {
  const micros = microseconds(event.occurredAt, receivedMs);
  const { text, exact } = marked(comm.data);
  return {
    type: "comm",
    occurred_at: secondsTime(micros),
    connection_id: event.connectionId,
    direction: directionWord(comm.direction),
    data: text,
    data_base64: exact ? undefined : base64(comm.data),
    transaction_id: some(comm.transactionId),
    leg: some(comm.leg),
    origin: some(originWord(comm.origin)),
    tls: some(comm.tls),
    code: some(comm.code),
    truncated: some(comm.truncated),
    redacted: some(comm.redacted),
    id: event.id,
    time: utcTime(micros),
    proxy: some(source?.proxy),
    worker: source?.worker,
    epoch: some(source?.epoch),
    sequence: Number(event.sequence),
  };
}

function connFields(conn: AfterConn): Fields {
  return {
    from: addressWord(conn.mailFrom),
    to: addressWord(conn.mailTo[0]),
    elapse: `${conn.elapseMs} msec`,
    recipients: conn.mailTo.length > 1 ? conn.mailTo.map(addressWord) : undefined,
    transactions: conn.transactions,
    legs: conn.legs,
    octets_in: Number(conn.octetsIn),
    octets_out: Number(conn.octetsOut),
    duration_ms: milliseconds(conn.duration),
    closed_by: some(conn.closedBy),
    close_reason: some(decodeMarked(conn.closeReason)),
    ...sessionFields(conn.session),
    greeting: some(decodeMarked(conn.session?.greeting ?? empty)),
  };
}

function transactionFields(transaction: AfterTransaction): Fields {
  return {
    transaction_id: transaction.transactionId,
    from: addressWord(transaction.mailFrom),
    from_raw: some(rawWord(transaction.mailFrom)),
    outcome: outcomeWord(transaction.outcome),
    message_octets: Number(transaction.messageOctets),
    message_id: some(decodeMarked(transaction.messageId)),
    bdat: some(transaction.bdat),
    recipients: transaction.recipients.map(({ address, rcptReply, finalReply }) => ({
      to: addressWord(address),
      to_raw: some(rawWord(address)),
      ...replyFields(finalReply),
      rcpt: replyOrNothing(rcptReply),
    })),
    recipients_omitted: some(transaction.recipientsOmitted),
    mail: replyOrNothing(transaction.mailReply),
    data: replyOrNothing(transaction.dataReply),
    final: replyOrNothing(transaction.finalReply),
    filters: transaction.filters.length > 0 ? transaction.filters.map(filterFields) : undefined,
    timing: timingFields(transaction),
    ...sessionFields(transaction.session),
  };
}

function timingFields({ timing }: AfterTransaction): Fields | undefined {
  if (timing === undefined) return undefined;
  return {
    connect_ms: milliseconds(timing.connect),
    greeting_ms: milliseconds(timing.greeting),
    ehlo_ms: milliseconds(timing.ehlo),
    tls_ms: milliseconds(timing.tls),
    mail_ms: milliseconds(timing.mail),
    rcpt_ms: milliseconds(timing.rcpt),
    data_ms: milliseconds(timing.data),
    end_of_data_ms: milliseconds(timing.endOfData),
    filter_ms: milliseconds(timing.filter),
    elapse_ms: Number(timing.elapseMs),
  };
}

function sessionFields(session: Session | undefined): Fields {
  if (session === undefined) return {};
  const { client, destination, route, upstreamTls: tls } = session;
  return {
    client: client && hostAndPort(client),
    destination: destination && hostAndPort(destination),
    helo: some(decodeMarked(session.helo)),
    auth_user: some(session.authUser),
    source_ip: some(route?.sourceIp),
    pool: some(route?.pool),
    rule: some(route?.rule),
    tier: some(route?.tier),
    provider: some(session.provider),
    upstream_tls: tls && {
      version: some(tls.version),
      cipher: some(tls.cipher),
      peer_name: some(tls.peerName),
      verified: tls.verified,
      reason: some(tls.reason),
      policy: some(tls.policy),
    },
    downstream_tls: some(session.downstreamTls?.version),
  };
}

function replyOrNothing(reply: Reply | undefined): Fields | undefined {
  return reply === undefined ? undefined : replyFields(reply);
}
function replyFields(reply: Reply | undefined): Fields {
  if (reply === undefined) return {};
  const { text, exact } = marked(reply.text);
  return {
    code: reply.code,
    enhanced_code: some(reply.enhancedCode),
    reply: text,
    reply_base64: exact ? undefined : base64(reply.text),
    origin: some(originWord(reply.origin)),
    class: some(reply.replyClass),
    hook: some(reply.hook),
    ms: milliseconds(reply.latency),
  };
}

function hostAndPort({ ip, port }: { ip: string; port: number }): string {
  return (ip.includes(":") ? ["[", ip, "]:", port] : [ip, ":", port]).join("");
}
/** Bare, `<>` for the null sender, `unknown` (the original's word) where none was seen. In JSON nothing need be escaped. */
function addressWord(address: Address | undefined): string {
  return address === undefined ? "unknown" : address.address === "" ? "<>" : address.address;
}
function rawWord(address: Address | undefined): string {
  return decodeMarked(address?.raw ?? empty);
}
function base64(octets: Uint8Array): string {
  return Buffer.from(octets).toString("base64");
}

const empty = new Uint8Array();
/** Undefined, which JSON leaves out, for what says nothing: the empty string, 0 and false. */
function some<T>(value: T): T | undefined {
  return value || undefined;
}
