/**
 * A message by DATA that no filter looks at: streamed to the destination as it comes, never held. Only when the last octet
 * of a good message has come is its terminator sent; whatever goes wrong before that resets the leg, and the client is
 * answered at the true end of its data.
 */

import { join } from "../smtp/octets.ts";
import type { OwnReply } from "../smtp/own-replies.ts";
import { OWN } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { MessageBody, SessionCore } from "./core.ts";
import { HeaderScribe } from "./header-scribe.ts";
import type { Leg, LegLost } from "./leg.ts";
import type { Slot } from "./reply-queue.ts";
import type { Transaction } from "./transaction.ts";

export class StreamedBody implements MessageBody {
  readonly tx: Transaction;
  ended = false;
  private readonly core: SessionCore;
  private readonly leg: Leg;
  private readonly scribe: HeaderScribe;
  /** Why it goes no further: warp's own reason, or the destination's answer ahead of time. */
  private refusal: OwnReply | Reply | undefined;
  private slot: Slot | undefined;

  /** The leg has just answered 354. */
  constructor(core: SessionCore, tx: Transaction, leg: Leg) {
    this.core = core;
    this.tx = tx;
    this.leg = leg;
    this.scribe = new HeaderScribe(core.recorder, tx, {
      direction: "->",
      leg: leg.number,
      tls: leg.encrypted,
      stuffed: true,
      bodies: core.env.settings.bodies,
    });
    leg.expect((reply, latencyMs) => this.answered(reply, latencyMs), Number.POSITIVE_INFINITY, "message");
  }

  get isDue(): boolean {
    return this.slot !== undefined && this.refusal === undefined;
  }

  take(wire: Buffer[], end: boolean): void {
    const message = this.core.reader.data;
    const { limits, bareNewlines } = this.core.env.settings;
    for (const piece of wire) this.scribe.read(piece);
    this.tx.messageOctets = message?.octets ?? 0;
    if (this.refusal === undefined) {
      if (this.tx.messageOctets > limits.messageOctets) this.refuse(OWN.tooLarge);
      else if (bareNewlines === "reject" && (message?.bareNewlines ?? 0) > 0) this.refuse(OWN.bareNewline);
    }
    if (this.refusal === undefined && wire.length > 0 && !this.leg.write(join(wire))) this.core.legFull();
    if (end) this.end();
  }

  private end(): void {
    this.ended = true;
    this.scribe.end();
    if ((this.core.reader.data?.bareNewlines ?? 0) > 0)
      this.core.env.telemetry.violation("downstream", "bare_newline");
    this.slot = this.core.open();
    if (this.refusal === undefined) this.leg.restartClock(this.core.env.settings.timeouts.endOfDataMs);
    else this.answerRefusal(this.slot, this.refusal);
    this.core.messageRead();
  }

  private refuse(reply: OwnReply): void {
    this.refusal = reply;
    this.core.abortLeg(reply.reason);
  }

  /** The final reply; or one ahead of its time, which can only be a refusal (no 2xx for octets that were not sent). */
  private answered(reply: Reply, latencyMs: number): void {
    if (this.slot !== undefined) {
      this.tx.endOfDataMs = latencyMs;
      this.tx.finalReply = this.core.upstreamFacts(reply, latencyMs);
      this.core.pass(this.slot, reply, this.tx);
      this.core.report(this.tx);
    } else if (reply.code < 400) {
      this.leg.lose("early_reply", `${reply.code} before the end of the message`);
    } else {
      this.refusal = reply;
      this.core.abortLeg("refused ahead of the end of data");
    }
  }

  private answerRefusal(slot: Slot, refusal: OwnReply | Reply): void {
    if ("reason" in refusal) {
      this.tx.finalReply = this.core.ownFacts(refusal);
      this.core.answer(slot, refusal, this.tx);
    } else {
      this.tx.finalReply = this.core.upstreamFacts(refusal, undefined);
      this.core.pass(slot, refusal, this.tx);
    }
    this.core.report(this.tx);
  }

  legLost(loss: LegLost): boolean {
    this.core.noteLoss(loss);
    if (this.slot === undefined) {
      this.refusal ??= OWN.legLost;
      return true;
    }
    const reply = loss.reason === "timeout" ? OWN.outcomeUnknown : OWN.legLost;
    this.tx.outcome = "unknown";
    this.tx.finalReply = this.core.ownFacts(reply);
    this.core.answer(this.slot, reply, this.tx);
    this.core.report(this.tx);
    return true;
  }

  clientGone(): boolean {
    if (this.slot !== undefined) return true;
    this.scribe.end();
    this.core.abortLeg("the client left within the message");
    this.core.report(this.tx);
    return false;
  }
}
