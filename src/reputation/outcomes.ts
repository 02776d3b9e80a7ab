/**
 * What one transaction says about its sender: upstream's final answer for each recipient, by class, and the filters'
 * verdicts and scores. Replies that warp made itself never count, nor do answers that are about the receiver, the
 * recipient's mailbox or the source IP. docs/reputation.md has this as a table.
 */
import { classifyReply } from "../deliverability/classify.ts";
import type { ReplyClass } from "../deliverability/reply-classes.ts";
import type { AfterTransaction, FilterOutcome, ReplyFacts } from "../events/events.ts";
import { type Counter, EMPTY_TALLY, type Tally } from "./counts.ts";

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
  const tally: Record<Counter, number> = { ...EMPTY_TALLY };
  let recipients = 0;
  for (const reply of senderReplies(event)) {
    const counter = counterOf(reply, event.session.provider);
    if (counter === undefined) continue;
    tally[counter] += 1;
    recipients += 1;
  }
  const evidence = Math.max(0, ...event.filters.map((filter) => spamEvidence(filter, spamScore)));
  if (evidence > 0) {
    const about = Math.max(1, event.recipients.length);
    tally.spam += evidence * about;
    recipients = Math.max(recipients, about);
  }
  return recipients === 0 ? undefined : { tally, recipients };
}

/** Final answers of upstream: one per recipient, or MAIL's where that was refused. */
function senderReplies(event: AfterTransaction): readonly ReplyFacts[] {
  const { mailReply, recipients } = event;
  if (recipients.length === 0) {
    const refused = mailReply !== undefined && mailReply.code >= 400 && mailReply.origin === "upstream";
    return refused ? [mailReply] : [];
  }
  return recipients
    .map(({ finalReply }) => finalReply)
    .filter((reply) => reply !== undefined && reply.origin === "upstream") as ReplyFacts[];
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
