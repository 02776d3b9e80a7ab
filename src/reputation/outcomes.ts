/**
 * What one transaction says about its sender: upstream's final answer for each recipient, by class, and the filters'
 * verdicts and scores. Replies that warp made itself never count, nor do answers that are about the receiver, the
 * recipient's mailbox or the source IP. docs/reputation.md has this as a table.
 */
import { classifyReply } from "../deliverability/classify.ts";
import type { ReplyClass } from "../deliverability/reply-classes.ts";
import type { AfterTransaction, FilterOutcome, ReplyFacts } from "../events/events.ts";
import type { Counter, Tally } from "./counts.ts";

/** A filter's score that makes a message spam for sure; half of it is where evidence begins (Rspamd rejects at 15). */
export const DEFAULT_SPAM_SCORE = 15;

/** Counter of a class for 4xx and for 5xx; absent: it says nothing about the sender. */
const COUNTER_OF: Readonly<
  Partial<Record<ReplyClass, readonly [deferred: Counter | undefined, refused: Counter | undefined]>>
> = {
  "throttled-rate": ["defer", "defer"],
  "reputation-deferred": ["defer", "defer"],
  "blocked-content": ["refuse", "refuse"],
  authentication: ["refuse", "refuse"],
  "unknown-recipient": [undefined, "unknown"],
  other: [undefined, "refuse"],
};

export interface TransactionTally {
  readonly tally: Tally;
  /** How many recipients it is about. */
  readonly recipients: number;
}

/** Undefined where it says nothing about the sender. */
export function tallyOf(
  event: AfterTransaction,
  spamScore = DEFAULT_SPAM_SCORE,
): TransactionTally | undefined {
  const { mailReply, session, filters } = event;
  const tally: Record<Counter, number> = { ok: 0, defer: 0, refuse: 0, unknown: 0, spam: 0 };
  let recipients = 0;
  const count = (reply: ReplyFacts | undefined, times = 1): void => {
    if (reply === undefined || reply.origin !== "upstream") return;
    const counter = counterOf(reply, session.provider);
    if (counter === undefined) return;
    tally[counter] += times;
    recipients += times;
  };
  // One final answer per recipient, or MAIL's where that was refused.
  for (const { finalReply } of event.recipients) count(finalReply);
  for (const { finalReply, count: times } of event.omittedAnswers) count(finalReply, times);
  if (event.recipients.length === 0 && mailReply !== undefined && mailReply.code >= 400) count(mailReply);
  let evidence = 0;
  for (const filter of filters) evidence = Math.max(evidence, spamEvidence(filter, spamScore));
  if (evidence > 0) {
    const about = Math.max(1, event.recipients.length + event.recipientsOmitted);
    tally.spam += evidence * about;
    recipients = Math.max(recipients, about);
  }
  return recipients === 0 ? undefined : { tally, recipients };
}

function counterOf(reply: ReplyFacts, provider: string): Counter | undefined {
  const name = classOf(reply, provider);
  if (name === "accepted") return "ok";
  return COUNTER_OF[name]?.[reply.code < 500 ? 0 : 1];
}

/** The class in the event, or the table's where the event has none. */
export function classOf(reply: ReplyFacts, provider: string): ReplyClass {
  return reply.replyClass !== "" ? (reply.replyClass as ReplyClass) : classifyReply(reply, provider).class;
}

/** 0 to 1: how sure one filter is that the message is unwanted. Shadow verdicts and failures say nothing. */
export function spamEvidence(filter: FilterOutcome, spamScore: number): number {
  if (filter.shadow || filter.failure !== "") return 0;
  const refused = filter.verdict === "reject" && (filter.reply === undefined || filter.reply.code >= 500);
  if (refused || filter.verdict === "discard") return 1;
  if (!Number.isFinite(filter.score)) return 0;
  return Math.min(1, Math.max(0, (filter.score - spamScore / 2) / (spamScore / 2)));
}
