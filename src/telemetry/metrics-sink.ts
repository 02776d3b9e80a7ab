/** Metrics of mail, made from AfterTransaction; AfterConn says when a connection can be forgotten. */
import type {
  AfterTransaction,
  EventKind,
  EventSink,
  ReplyFacts,
  Timing,
  WarpEvent,
} from "../events/events.ts";
import type { MailMetrics } from "./metric-definitions.ts";

/** Stages that a connection has once; every AfterTransaction of the connection repeats them. */
const CONNECTION_STAGES: readonly (readonly [stage: string, key: keyof Timing])[] = [
  ["connect", "connectMs"],
  ["greeting", "greetingMs"],
  ["ehlo", "ehloMs"],
  ["tls", "tlsMs"],
];
const TRANSACTION_STAGES: readonly (readonly [stage: string, key: keyof Timing])[] = [
  ["mail", "mailMs"],
  ["rcpt", "rcptMs"],
  ["data", "dataMs"],
  ["end_of_data", "endOfDataMs"],
  ["filter", "filterMs"],
];
/** Connections whose stages were counted; beyond this the set begins anew, and a few are counted twice. */
const CONNECTIONS = 100_000;

export class MetricsSink implements EventSink {
  readonly #metrics: MailMetrics;
  readonly #counted = new Set<string>();

  constructor(metrics: MailMetrics) {
    this.#metrics = metrics;
  }

  wants(kind: EventKind): boolean {
    return kind === "after_transaction" || kind === "after_conn";
  }

  emit(event: WarpEvent): void {
    if (event.kind === "after_transaction") this.#transaction(event);
    else if (event.kind === "after_conn") this.#counted.delete(event.connectionId);
  }

  #transaction(event: AfterTransaction): void {
    const provider = this.#metrics.provider.label(event.session.provider);
    this.#metrics.transactions.cell(event.outcome).value++;
    this.#reply("mail", event.mailReply, provider);
    for (const recipient of event.recipients) this.#reply("rcpt", recipient.rcptReply, provider);
    for (const { rcptReply, count } of event.omittedAnswers) this.#reply("rcpt", rcptReply, provider, count);
    this.#reply("data", event.dataReply, provider);
    this.#reply("end_of_data", event.finalReply, provider);
    if (event.messageOctets > 0) this.#metrics.messageOctets.cell().observe(event.messageOctets);
    this.#stages(TRANSACTION_STAGES, event.timing, provider);
    if (this.#counted.has(event.connectionId)) return;
    if (this.#counted.size >= CONNECTIONS) this.#counted.clear();
    this.#counted.add(event.connectionId);
    this.#stages(CONNECTION_STAGES, event.timing, provider);
  }

  #reply(stage: string, reply: ReplyFacts | undefined, provider: string, count = 1): void {
    if (reply === undefined) return;
    this.#metrics.replies.cell(stage, classOf(reply), reply.origin, provider).value += count;
  }

  #stages(stages: typeof CONNECTION_STAGES, timing: Timing, provider: string): void {
    for (const [stage, key] of stages) {
      const ms = timing[key];
      if (ms !== undefined) this.#metrics.stages.cell(stage, provider).observe(ms / 1000);
    }
  }
}

function classOf(reply: ReplyFacts): string {
  if (reply.replyClass !== "") return reply.replyClass;
  return reply.code < 400 ? "accepted" : "other";
}
