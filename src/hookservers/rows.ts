/**
 * From events to the rows of `schema.ts`. Pure. Text is in the visible form of `text.ts`; where that loses octets the
 * `_raw` column beside it has them. The original's habits on its two tables: bare addresses, `unknown` where no sender or
 * recipient was seen, elapse -1 (never connected) and -2 (no 354). Ours: `<>` for the null sender.
 */
import { createHash } from "node:crypto";
import type {
  Address,
  AfterComm,
  AfterConn,
  AfterTransaction,
  Event,
  FilterOutcome,
  Recipient,
  Reply,
  Session,
  Source,
} from "../gen/warp/hook/v1/hook_pb.ts";
import type { Row, TableName, Value } from "./schema.ts";
import { visible, visibleText } from "./text.ts";
import { directionWord, microseconds, milliseconds, originWord, outcomeWord, sqlTime } from "./words.ts";

/** One event on its way into a sink. */
export interface Item {
  readonly event: Event;
  readonly source: Source | undefined;
  readonly receivedMs: number;
}

export type Rows = Map<TableName, Row[]>;

/** The rows of `items`, per table. */
export function rowsOf(items: Iterable<Item>): Rows {
  const rows: Rows = new Map();
  const add = (table: TableName, row: Row) => {
    const list = rows.get(table);
    if (list === undefined) rows.set(table, [row]);
    else list.push(row);
  };
  for (const item of items) addRows(item, add);
  return rows;
}

function addRows(item: Item, add: (table: TableName, row: Row) => void): void {
  const { event } = item;
  const id = eventId(item);
  const at = sqlTime(microseconds(event.occurredAt, item.receivedMs));
  const { kind } = event;
  if (kind.case === "afterComm") add("communications", communication(event, id, at, kind.value));
  else if (kind.case === "afterConn") add("connections", connection(item, id, at, kind.value));
  else if (kind.case === "afterTransaction") {
    add("transactions", transaction(item, id, at, kind.value));
    kind.value.recipients.forEach((recipient, position) => {
      add("recipients", recipientRow(event, id, at, kind.value, recipient, position));
    });
  } else if (kind.case === "gap") {
    const { reason, firstSequence, count } = kind.value;
    const fields = JSON.stringify({ first_sequence: String(firstSequence), count: String(count) });
    add("notices", notice(item, id, at, "gap", "gap", reason, fields));
  } else if (kind.case === "notice") {
    const { code, text, fields } = kind.value;
    add("notices", notice(item, id, at, "notice", code, text, JSON.stringify(fields)));
  }
}

/** The event's id; one that is none by the protocol (1 to 26 characters) is replaced by a digest, so that it stays unique. */
export function eventId({ event, source }: Item): string {
  if (event.id.length > 0 && event.id.length <= 26) return event.id;
  const name = event.id || `${source?.proxy} ${source?.worker} ${source?.epoch} ${event.sequence}`;
  return `X${createHash("sha256").update(name).digest("hex").slice(0, 25)}`;
}

function communication(event: Event, id: string, at: string, comm: AfterComm): Row {
  const data = visible(comm.data);
  return [
    id,
    event.connectionId,
    directionWord(comm.direction),
    data.text,
    at,
    orNull(comm.transactionId),
    comm.leg,
    orNull(originWord(comm.origin)),
    flag(comm.tls),
    orNull(comm.code),
    flag(comm.truncated),
    flag(comm.redacted),
    signed(event.sequence),
    // Also where MySQL's `text` cannot hold it all.
    data.exact && (data.text.length <= 16_383 || Buffer.byteLength(data.text) <= 65_535) ? null : comm.data,
  ];
}

function connection(item: Item, id: string, at: string, conn: AfterConn): Row {
  const { session } = conn;
  const upstream = session?.upstreamTls;
  return [
    // The original's key. A client that names no connection must not make all of them one row.
    item.event.connectionId || id,
    senderWord(conn.mailFrom),
    conn.mailTo[0] === undefined ? "unknown" : addressText(conn.mailTo[0]),
    at,
    conn.elapseMs,
    id,
    orNull(item.source?.proxy ?? ""),
    ...endpoint(session?.client),
    ...endpoint(session?.destination),
    ...route(session),
    text(session?.helo),
    shown(session?.authUser),
    orNull(upstream?.version ?? ""),
    orNull(upstream?.cipher ?? ""),
    shown(upstream?.peerName),
    upstream === undefined ? null : flag(upstream.verified),
    shown(upstream?.reason),
    orNull(upstream?.policy ?? ""),
    orNull(session?.downstreamTls?.version ?? ""),
    text(session?.greeting),
    conn.transactions,
    conn.legs,
    signed(conn.octetsIn),
    signed(conn.octetsOut),
    milliseconds(conn.duration) ?? null,
    orNull(conn.closedBy),
    text(conn.closeReason),
  ];
}

function transaction(item: Item, id: string, at: string, transaction: AfterTransaction): Row {
  const { session, timing, finalReply } = transaction;
  const sender = senderWord(transaction.mailFrom);
  return [
    id,
    orNull(transaction.transactionId),
    orNull(item.event.connectionId),
    at,
    orNull(item.source?.proxy ?? ""),
    sender,
    raw(transaction.mailFrom),
    domainOf(transaction.mailFrom),
    outcomeWord(transaction.outcome),
    transaction.recipients.length + transaction.recipientsOmitted,
    transaction.recipientsOmitted,
    transaction.recipients.filter((recipient) => isAccepted(recipient)).length,
    signed(transaction.messageOctets),
    text(transaction.messageId),
    flag(transaction.bdat),
    endpoint(session?.client)[0],
    ...endpoint(session?.destination),
    ...route(session),
    shown(session?.authUser),
    text(session?.helo),
    orNull(session?.upstreamTls?.version ?? ""),
    session?.upstreamTls === undefined ? null : flag(session.upstreamTls.verified),
    ...codeAndText(transaction.mailReply),
    ...codeAndText(transaction.dataReply),
    ...fullReply(finalReply),
    ...[
      timing?.connect,
      timing?.greeting,
      timing?.ehlo,
      timing?.tls,
      timing?.mail,
      timing?.rcpt,
      timing?.data,
      timing?.endOfData,
      timing?.filter,
    ].map((duration) => milliseconds(duration) ?? null),
    timing?.elapseMs ?? null,
    transaction.filters.length === 0 ? null : JSON.stringify(transaction.filters.map(filterFields)),
  ];
}

function recipientRow(
  event: Event,
  id: string,
  at: string,
  transaction: AfterTransaction,
  recipient: Recipient,
  position: number,
): Row {
  const { address, rcptReply, finalReply } = recipient;
  return [
    id,
    position,
    orNull(transaction.transactionId),
    orNull(event.connectionId),
    at,
    address === undefined ? null : addressText(address),
    raw(address),
    domainOf(address),
    rcptReply?.code ?? null,
    orNull(rcptReply?.enhancedCode ?? ""),
    text(rcptReply?.text),
    milliseconds(rcptReply?.latency) ?? null,
    ...fullReply(finalReply),
    milliseconds(finalReply?.latency) ?? null,
  ];
}

function notice(
  item: Item,
  id: string,
  at: string,
  kind: string,
  code: string,
  words: string,
  fields: string,
): Row {
  const proxy = orNull(item.source?.proxy ?? "");
  return [id, orNull(item.event.connectionId), at, proxy, kind, code, visibleText(words).text, fields];
}

/** What the sinks tell of a filter's outcome, in columns and keys of the same names. */
export function filterFields(outcome: FilterOutcome): Record<string, unknown> {
  return {
    hook: outcome.hook,
    verdict: outcome.verdict,
    score: outcome.score,
    ...(outcome.tags.length > 0 && { tags: outcome.tags }),
    ...(outcome.failure !== "" && { failure: outcome.failure, on_failure: outcome.onFailure }),
    ...(outcome.duration !== undefined && { ms: milliseconds(outcome.duration) }),
    ...(outcome.shadow && { shadow: true }),
    ...(outcome.reply !== undefined && { reply: visible(outcome.reply.text).text }),
  };
}

/** The bare address, `<>` for the null sender. */
export function addressText(address: Address): string {
  return address.address === "" ? "<>" : visibleText(address.address).text;
}
/** The original's `mail_from`: `unknown` where none was seen. */
export function senderWord(address: Address | undefined): string {
  return address === undefined ? "unknown" : addressText(address);
}
/** Lower-cased domain, or null. */
export function domainOf(address: Address | undefined): string | null {
  const at = address?.address.lastIndexOf("@") ?? -1;
  if (address === undefined || at < 0) return null;
  return orNull(visibleText(address.address.slice(at + 1).toLowerCase()).text);
}
export function isAccepted(recipient: Recipient): boolean {
  const code = recipient.finalReply?.code ?? 0;
  return code >= 200 && code < 300;
}

function fullReply(reply: Reply | undefined): Value[] {
  return [
    reply?.code ?? null,
    orNull(reply?.enhancedCode ?? ""),
    text(reply?.text),
    orNull(reply === undefined ? "" : originWord(reply.origin)),
    orNull(reply?.replyClass ?? ""),
    orNull(reply?.hook ?? ""),
  ];
}
function codeAndText(reply: Reply | undefined): Value[] {
  return [reply?.code ?? null, text(reply?.text)];
}
function endpoint(value: { ip: string; port: number } | undefined): [Value, Value] {
  return value === undefined ? [null, null] : [orNull(value.ip), value.port];
}
function route(session: Session | undefined): Value[] {
  const chosen = session?.route;
  const words = [chosen?.sourceIp, chosen?.pool, chosen?.rule, chosen?.tier, session?.provider];
  return words.map((word) => shown(word));
}
/** The octets after the colon, where the address alone does not give them back. */
function raw(address: Address | undefined): Value {
  return address === undefined || address.raw.length === 0 ? null : address.raw;
}
function text(octets: Uint8Array | undefined): Value {
  return octets === undefined || octets.length === 0 ? null : visible(octets).text;
}
function shown(word: string | undefined): Value {
  return word === undefined || word === "" ? null : visibleText(word).text;
}
function orNull(word: string): string | null {
  return word === "" ? null : word;
}
/** The protocol's unsigned 64 bits in the databases' signed ones; what does not fit is the largest that does. */
function signed(value: bigint): bigint {
  return value > largest ? largest : value;
}
const largest = 2n ** 63n - 1n;
function flag(value: boolean): number {
  return value ? 1 : 0;
}
