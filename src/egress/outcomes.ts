/**
 * From events to counters: each transaction counts for its sender (src/reputation/outcomes.ts), and for its source IP with
 * the destination's provider (answers, latencies, messages of the day). A connection whose greeting refused counts for
 * the IP too. Only what upstream said counts.
 */

import { classifyReply } from "../deliverability/classify.ts";
import { dayOf, type IpLedger } from "../deliverability/ledger.ts";
import { type Evidence, evidenceOf, type ThrottleBook } from "../deliverability/throttle.ts";
import type {
  AfterConn,
  AfterTransaction,
  EventKind,
  EventSink,
  ReplyFacts,
  SessionFacts,
  WarpEvent,
} from "../events/events.ts";
import type { IdentityFacts } from "../reputation/identity.ts";
import { classOf, tallyOf } from "../reputation/outcomes.ts";
import type { ReputationStore } from "../reputation/store.ts";
import { enhancedCode } from "../smtp/reply.ts";

/** Stands for the source IP where the system chose it. */
export const SYSTEM_IP = "system";

export interface OutcomeParts {
  readonly store: ReputationStore;
  readonly ledger: IpLedger;
  readonly throttle: ThrottleBook;
  readonly now: () => number;
  /** As configured at the moment. */
  readonly identityOf: (facts: IdentityFacts) => string;
  readonly spamScore: () => number;
  readonly providerOf: (destinationIp: string, greeting: Buffer) => string;
}

export class OutcomeSink implements EventSink {
  readonly #parts: OutcomeParts;

  constructor(parts: OutcomeParts) {
    this.#parts = parts;
  }

  wants(kind: EventKind): boolean {
    return kind === "after_transaction" || kind === "after_conn";
  }

  emit(event: WarpEvent): void {
    if (event.kind === "after_transaction") this.#transaction(event);
    else if (event.kind === "after_conn") this.#connection(event);
  }

  #transaction(event: AfterTransaction): void {
    const { store, identityOf, spamScore } = this.#parts;
    const counted = tallyOf(event, spamScore());
    if (counted !== undefined) {
      const facts = {
        mailFrom: event.mailFrom.address,
        clientIp: event.session.client.ip,
        authUser: event.session.authUser,
      };
      store.count(identityOf(facts), counted.tally, counted.recipients);
    }
    this.#sourceIp(event);
  }

  #sourceIp(event: AfterTransaction): void {
    const { throttle, ledger, now } = this.#parts;
    const at = now();
    const { ip, provider } = this.#pair(event.session);
    const answers = { ok: 0, throttled: 0, blocked: 0 };
    const evidence = evidenceIn(event);
    for (const kind of evidence) {
      answers[kind] += 1;
      throttle.answered(ip, provider, kind, at);
    }
    // Without an answer to MAIL nothing was timed from this IP: the connection's stages are those of another leg.
    if (event.timing.mailMs !== undefined) throttle.timed(ip, provider, event.timing, at);
    if (evidence.length > 0) {
      ledger.countAnswers(ip, provider, answers, () => throttle.baselines(ip, provider));
    }
    // A 421, or what another leg is refused with, may be the last word before there is a message.
    if (event.finalReply?.origin === "upstream" && event.messageOctets > 0)
      ledger.countMessages(ip, provider, dayOf(at), 1);
  }

  /** A greeting that refuses is all that a connection has; with transactions theirs count. */
  #connection(event: AfterConn): void {
    if (event.transactions > 0) return;
    const { greeting } = event.session;
    const code = Number(greeting.subarray(0, 3).toString("latin1"));
    if (!(code >= 400 && code < 600)) return;
    const { ip, provider } = this.#pair(event.session);
    this.refused(ip, provider, { code, text: greeting });
  }

  /** A connection from this IP was refused. */
  refused(ip: string, provider: string, { code, text }: { code: number; text: Buffer }): void {
    const { throttle, ledger, now } = this.#parts;
    const { class: name } = classifyReply({ code, enhancedCode: enhancedCode(text), text }, provider);
    const evidence = evidenceOf(name);
    if (evidence === undefined) return;
    throttle.answered(ip, provider, evidence, now());
    const none = { ok: 0, throttled: 0, blocked: 0 };
    ledger.countAnswers(ip, provider, { ...none, [evidence]: 1 }, () => ({}));
  }

  #pair({ route, provider, destination, greeting }: SessionFacts): { ip: string; provider: string } {
    const ip = route.sourceIp === "" ? SYSTEM_IP : route.sourceIp;
    if (provider !== "" || destination === undefined) return { ip, provider };
    return { ip, provider: this.#parts.providerOf(destination.ip, greeting) };
  }
}

const NONE: readonly Evidence[] = [];
const TAKEN: readonly Evidence[] = ["ok"];

/** Each kind of evidence once per transaction; acceptance does not outweigh a throttle in the same one. */
function evidenceIn(event: AfterTransaction): readonly Evidence[] {
  const { session, mailReply, dataReply, finalReply } = event;
  const found: Evidence[] = [];
  const note = (reply: ReplyFacts | undefined): void => {
    if (reply === undefined || reply.code < 400 || reply.origin !== "upstream") return;
    const evidence = evidenceOf(classOf(reply, session.provider));
    if (evidence !== undefined && !found.includes(evidence)) found.push(evidence);
  };
  note(mailReply);
  note(dataReply);
  note(finalReply);
  for (const answers of [event.recipients, event.omittedAnswers]) {
    for (const { rcptReply, finalReply: last } of answers) {
      note(rcptReply);
      note(last);
    }
  }
  if (found.length > 0) return found;
  return finalReply?.origin === "upstream" && finalReply.code < 300 ? TAKEN : NONE;
}
