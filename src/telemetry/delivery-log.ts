/**
 * The line that a postmaster greps: one per recipient and final answer, at level info, made from AfterTransaction.
 * A recipient who got no answer (the client left, or the destination said nothing) has a line without `reply`.
 */
import { endpointText } from "../events/endpoint.ts";
import type {
  AfterTransaction,
  EventKind,
  EventSink,
  Outcome,
  ReplyFacts,
  TlsFacts,
  WarpEvent,
} from "../events/events.ts";
import type { LogFields } from "../events/telemetry.ts";
import { escapeOctets } from "./escape.ts";
import { fieldsText, type Log } from "./log.ts";

const LONGEST_REPLY = 1000;

/** An EventSink that logs deliveries. */
export class DeliveryLog implements EventSink {
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  wants(kind: EventKind): boolean {
    return kind === "after_transaction" && this.#log.enabled("info");
  }

  emit(event: WarpEvent): void {
    if (event.kind !== "after_transaction") return;
    const common = fieldsText(commonFields(event));
    for (const { address, rcptReply, finalReply } of event.recipients)
      this.#line(
        outcomeOf(event, rcptReply, finalReply),
        common + fieldsText(replyFields(finalReply, address.address)),
      );
    if (event.recipients.length === 0) {
      const reply = event.finalReply ?? event.mailReply;
      if (reply !== undefined && reply.code >= 400)
        this.#line(event.outcome, common + fieldsText(replyFields(reply)));
    }
    for (const { count, rcptReply, finalReply } of event.omittedAnswers) {
      const omitted = fieldsText({ recipients_omitted: count });
      this.#line(
        outcomeOf(event, rcptReply, finalReply),
        common + fieldsText(replyFields(finalReply)) + omitted,
      );
    }
  }

  #line(outcome: Outcome, fields: string): void {
    this.#log.writeText("info", "delivery", outcome, fields);
  }
}

/** What became of the message for one recipient: RCPT may have refused him, also by warp itself, while others got it. */
function outcomeOf(
  { outcome }: AfterTransaction,
  rcptReply: ReplyFacts | undefined,
  finalReply: ReplyFacts | undefined,
): Outcome {
  const isRefused = rcptReply !== undefined && rcptReply.code >= 400;
  const reply = isRefused ? rcptReply : finalReply;
  if (reply === undefined || reply.code < 400) return outcome;
  if (!isRefused && reply.origin !== "upstream") return outcome;
  return reply.code < 500 ? "deferred" : "refused";
}

function commonFields(event: AfterTransaction): LogFields {
  const { session } = event;
  const { route } = session;
  return {
    conn: event.connectionId,
    tx: event.transactionId,
    client: session.client.ip,
    dest:
      session.destination === undefined
        ? undefined
        : endpointText(session.destination.ip, session.destination.port),
    source_ip: route.sourceIp || undefined,
    pool: route.pool || undefined,
    rule: route.rule || undefined,
    provider: session.provider || undefined,
    auth_user: session.authUser || undefined,
    from: event.mailFrom.address || "<>",
    tls: tlsText(session.upstreamTls),
    octets: event.messageOctets,
    message_id: event.messageId.length === 0 ? undefined : escapeOctets(event.messageId),
  };
}

function replyFields(reply: ReplyFacts | undefined, to?: string): LogFields {
  if (reply === undefined) return { to };
  return {
    to,
    reply: replyText(reply.text),
    reply_code: reply.code,
    class: reply.replyClass || undefined,
    origin: reply.origin,
    hook: reply.hook || undefined,
    ms: reply.latencyMs === undefined ? undefined : Math.round(reply.latencyMs),
  };
}

/** "TLSv1.3 verified", "TLSv1.3", or "none". */
function tlsText(tls: TlsFacts | undefined): string {
  if (tls === undefined || !tls.encrypted) return "none";
  return tls.verified ? `${tls.version} verified` : tls.version;
}

/** The whole reply in one line: its lines joined by a blank. */
function replyText(text: Buffer): string {
  const line = escapeOctets(text).replaceAll("\\r\\n", " ");
  return line.length > LONGEST_REPLY ? `${line.slice(0, LONGEST_REPLY)}…` : line;
}
