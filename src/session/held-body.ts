/**
 * A message that filters look at before a single octet of it leaves: collected under the budget, shown to the chain, and
 * then sent, refused or dropped. While it is held nothing goes upstream, and the client's next commands wait.
 */
import type { AddressFacts } from "../events/events.ts";
import type { ChainResult, HeldMessage, HoldWriter } from "../filter/contract.ts";
import { HoldFull } from "../filter/contract.ts";
import { offeredSize } from "../smtp/capabilities.ts";
import { DotStuffer, DotUnstuffer, NewlineNormalizer } from "../smtp/content.ts";
import { EMPTY, fewer, join } from "../smtp/octets.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import { chosenReply } from "./chosen-reply.ts";
import { bdatLine, PieceCutter } from "./chunked-body.ts";
import type { MessageBody, SessionCore } from "./core.ts";
import { HeaderScribe } from "./header-scribe.ts";
import { type Leg, LegLost } from "./leg.ts";
import type { Slot } from "./reply-queue.ts";
import type { Transaction } from "./transaction.ts";

/** data_waiting: upstream has already answered the client's own DATA with 354 (no recipient had been accepted). */
export type HeldMode = "data" | "data_waiting" | "bdat";
type Phase = "collecting" | "filtering" | "sending" | "sent" | "done";

export class HeldBody implements MessageBody {
  readonly tx: Transaction;
  private readonly core: SessionCore;
  private readonly mode: HeldMode;
  private readonly scribe: HeaderScribe;
  private readonly unstuffer = new DotUnstuffer();
  private readonly normalizer = new NewlineNormalizer();
  private readonly writer: HoldWriter;
  private readonly abortion = new AbortController();
  private phase: Phase = "collecting";
  private refusal: OwnReply | undefined;
  /** BDAT: a chunk was refused, so every further one is out of order. */
  private failed = false;
  private slot: Slot | undefined;
  /** The store has no room yet; what was read meanwhile waits behind it. */
  private storing: Promise<void> | undefined;
  private backlog: Buffer[] = [];
  private last = true;
  private octets = 0;
  /** Monotonic time of the client's DATA, or of its first BDAT. */
  private readonly beganAt: number;
  private readonly recipientsAt: number | undefined;

  /** `recipientsAt`: with BDAT, when the last RCPT was answered (monotonic). */
  constructor(core: SessionCore, tx: Transaction, mode: HeldMode, recipientsAt?: number) {
    this.core = core;
    this.tx = tx;
    this.mode = mode;
    this.recipientsAt = recipientsAt;
    this.writer = core.env.hold.open();
    this.beganAt = core.env.clock.now();
    this.scribe = new HeaderScribe(core.recorder, tx, {
      direction: ">|",
      leg: core.leg?.number ?? 0,
      tls: core.leg?.encrypted ?? false,
      stuffed: false,
      bodies: core.env.settings.bodies,
    });
  }

  get ended(): boolean {
    return this.phase !== "collecting";
  }

  get isDue(): boolean {
    return this.phase === "sent";
  }

  /** A chunk was refused, and the transaction with it: a MAIL begins another. */
  get isLost(): boolean {
    return this.failed;
  }

  /** The client's next BDAT. */
  begin(slot: Slot, last: boolean): void {
    this.slot = slot;
    this.last = last;
    if (this.failed || this.ended) this.refusal = OWN.bdatOutOfOrder;
  }

  take(octets: Buffer[], end: boolean): void {
    if (this.refusal === undefined) {
      for (const raw of fewer(octets))
        this.keepAll(this.mode === "bdat" ? this.normalizer.read(raw) : this.unstuffer.read(raw));
      if (end && this.last && this.mode === "bdat") this.keepAll([this.normalizer.end()]);
      this.checkLimits();
    }
    if (!end) return;
    if (this.last) this.core.messageRead();
    if (this.refusal !== undefined) this.chunkRefused(this.refusal);
    else if (this.last) this.complete();
    else this.core.answer(this.slot as Slot, OWN.chunkHeld, this.tx);
  }

  private keepAll(pieces: Buffer[]): void {
    for (const piece of fewer(pieces)) {
      if (piece.length === 0 || this.refusal !== undefined) continue;
      this.octets += piece.length;
      this.scribe.read(piece);
      if (this.octets <= this.core.env.settings.limits.messageOctets) this.keep(piece);
    }
  }

  private keep(piece: Buffer): void {
    if (this.storing !== undefined) {
      this.backlog.push(piece); // of this turn's octets: no more are read until the store has room
      return;
    }
    try {
      const room = this.writer.write(piece);
      if (room === true) return;
      this.core.block();
      this.storing = this.storeRest(room)
        .catch((error: unknown) => this.storageFailed(error))
        .finally(() => {
          this.storing = undefined;
          this.core.unblock();
        });
    } catch (error) {
      this.storageFailed(error);
    }
  }

  private async storeRest(room: Promise<void>): Promise<void> {
    await room;
    for (let piece = this.backlog.shift(); piece !== undefined; piece = this.backlog.shift()) {
      const more = this.writer.write(piece);
      if (more !== true) await more;
    }
  }

  private storageFailed(error: unknown): void {
    if (!(error instanceof HoldFull)) {
      this.core.env.telemetry.log("error", "hold_failed", "a held message could not be stored", {}, error);
    }
    this.refuse(OWN.noStorage);
  }

  private checkLimits(): void {
    const { limits, bareNewlines } = this.core.env.settings;
    this.tx.messageOctets = this.octets;
    if (this.octets > limits.messageOctets) this.refuse(OWN.tooLarge);
    else if (bareNewlines === "reject" && this.bareNewlines > 0) this.refuse(OWN.bareNewline);
  }

  /** Of this message: with BDAT, the reader's last message is another one. */
  private get bareNewlines(): number {
    return this.mode === "bdat" ? this.normalizer.bareNewlines : (this.core.reader.data?.bareNewlines ?? 0);
  }

  private refuse(reply: OwnReply): void {
    if (this.refusal !== undefined) return;
    this.refusal = reply;
    this.writer.abort();
  }

  /** The chunk (or the whole message) ended, and warp refuses it. */
  private chunkRefused(refusal: OwnReply): void {
    this.slot ??= this.core.open();
    this.failed = true;
    this.scribe.end();
    if (this.last || refusal !== OWN.bdatOutOfOrder) this.phase = "done";
    if (refusal !== OWN.bdatOutOfOrder) this.clearUpstream();
    this.settle(refusal);
  }

  private complete(): void {
    this.slot ??= this.core.open();
    this.phase = "filtering";
    this.scribe.end();
    if (this.bareNewlines > 0) this.core.env.telemetry.violation("downstream", "bare_newline");
    this.core.block();
    this.run()
      .catch((error: unknown) => this.stopped(error))
      .finally(() => this.core.unblock());
  }

  private async run(): Promise<void> {
    const { clock, settings } = this.core.env;
    const endsAt = clock.now() + settings.timeouts.endOfDataMs;
    await this.storing;
    if (this.phase !== "filtering") return;
    if (this.refusal !== undefined) return this.refusedLate(this.refusal);
    const recipients = this.tx.acceptedRecipients();
    if (recipients === undefined) {
      // The filter came up behind them: until then nobody counted.
      this.refuse(OWN.filterTempfail);
      return this.refusedLate(OWN.filterTempfail);
    }
    const message = await this.writer.finish();
    let outgoing: HeldMessage = message;
    try {
      if (this.phase !== "filtering") return;
      const result = await this.filter(
        message,
        recipients,
        Math.min(settings.chainBudgetMs, endsAt - clock.now()),
      );
      if (result.kind === "relay") outgoing = result.message;
      if (this.phase !== "filtering") return;
      if (result.kind === "reject") return this.rejected(result);
      if (result.kind === "discard") return this.discarded();
      if (result.kind === "no_storage") return this.refusedLate(OWN.noStorage);
      this.core.recorder.note(
        "filter_relay",
        result.message === message ? "filter: relay" : "filter: add header",
        {
          transactionId: this.tx.id,
        },
      );
      await this.send(outgoing, endsAt);
    } finally {
      outgoing.release();
      message.release();
    }
  }

  private refusedLate(refusal: OwnReply): void {
    this.phase = "done";
    this.clearUpstream();
    this.settle(refusal);
  }

  private async filter(
    message: HeldMessage,
    recipients: readonly AddressFacts[],
    timeLeftMs: number,
  ): Promise<ChainResult> {
    const { env, leg } = this.core;
    const startedAt = env.clock.now();
    const offered = leg === undefined ? undefined : offeredSize(leg.capabilities);
    const result = await env.chain.run(
      message,
      {
        transactionId: this.tx.id,
        session: this.core.facts(),
        mailFrom: this.tx.mailFrom,
        recipients,
        smtputf8: this.tx.smtputf8,
        eightBit: this.tx.eightBit,
        maxOctets: Math.min(env.settings.limits.messageOctets, offered || Number.POSITIVE_INFINITY),
      },
      timeLeftMs,
      this.abortion.signal,
    );
    this.tx.filterMs = env.clock.now() - startedAt;
    this.tx.filters = result.outcomes;
    return result;
  }

  private rejected(result: ChainResult & { kind: "reject" }): void {
    this.phase = "done";
    this.clearUpstream();
    const reply = chosenReply({ ...result.reply, origin: "hook", hook: result.hook });
    const { code, text } = reply.facts;
    this.core.recorder.note("filter_reject", `filter: reject (${text.toString("latin1")})`, {
      transactionId: this.tx.id,
    });
    this.tx.outcome = "filtered";
    if (result.origin === "warp") return this.settle(code < 500 ? OWN.filterTempfail : OWN.filterReject);
    this.tx.finalReply = reply.facts;
    this.core.answerChosen(this.slot as Slot, reply, this.tx);
    this.core.report(this.tx);
  }

  private discarded(): void {
    this.phase = "done";
    this.tx.outcome = "discarded";
    this.core.recorder.note("filter_discard", "filter: discard", { transactionId: this.tx.id });
    this.clearUpstream();
    this.settle(OWN.discarded);
  }

  // ---------------------------------------------------------------------------------------------- on to upstream

  private async send(message: HeldMessage, endsAt: number): Promise<void> {
    const { clock } = this.core.env;
    const leg = this.core.leg;
    if (leg === undefined) throw new LegLost("closed", "the leg went while the message was held");
    if (clock.now() >= endsAt) return this.refusedLate(OWN.outOfTime);
    this.phase = "sending";
    this.tx.heldMs = clock.now() - this.beganAt;
    const timer = clock.after(endsAt - clock.now(), () => this.timeUp(leg));
    try {
      if (this.mode === "bdat" && leg.capabilities.has("CHUNKING"))
        await this.sendChunks(leg, message, endsAt);
      else await this.sendData(leg, message, endsAt);
    } finally {
      timer.cancel();
    }
  }

  /** The client's clock runs out first: what was begun has no end. */
  private timeUp(leg: Leg): void {
    if (this.phase === "sending") leg.lose("timeout", "the message could not be sent in time");
  }

  private async sendData(leg: Leg, message: HeldMessage, endsAt: number): Promise<void> {
    const { clock, settings } = this.core.env;
    if (this.mode !== "data_waiting") {
      const line = Buffer.from("DATA");
      this.core.recorder.line("|>", line, { ...this.about(leg), origin: "warp" });
      await leg.exchange(
        Buffer.from("DATA\r\n"),
        Math.min(settings.timeouts.dataStartMs, endsAt - clock.now()),
        "data",
        (reply, latencyMs) => this.dataAnswered(leg, reply, latencyMs),
      );
    }
    if (!this.isSending) return;
    const answer = this.expectFinal(leg);
    const stuffer = new DotStuffer();
    // Each piece goes out when the next one is there, so that the end goes with the last one.
    let pieces: Buffer[] = [];
    for await (const chunk of message.chunks()) {
      if (!this.isSending) break;
      if (pieces.length > 0 && !leg.write(join(pieces))) await leg.whenDrained();
      pieces = stuffer.read(chunk);
    }
    if (this.isSending) {
      leg.write(join([...pieces, stuffer.end()]));
      this.sent(leg, endsAt);
    }
    await answer;
  }

  /** False: the answer is known, or the leg is gone. */
  private get isSending(): boolean {
    return this.phase === "sending";
  }

  private dataAnswered(leg: Leg, reply: Reply, latencyMs: number): void {
    this.tx.dataMs = latencyMs;
    this.tx.dataReply = this.core.upstreamFacts(reply, latencyMs);
    if (reply.code === 354) {
      this.core.recorder.line("|<", reply.wire, this.about(leg));
      this.tx.dataAt = this.core.env.clock.now();
      return;
    }
    this.core.recorder.note("filter_data_refused", "filter: server rejected DATA", this.about(leg));
    this.clearUpstream();
    this.final(reply, undefined);
  }

  private async sendChunks(leg: Leg, message: HeldMessage, endsAt: number): Promise<void> {
    const { clock, settings } = this.core.env;
    const cutter = new PieceCutter();
    this.tx.dataAt = this.recipientsAt;
    this.tx.heldMs = 0; // nothing of it lies before that
    for await (const chunk of message.chunks()) {
      cutter.add(chunk);
      for (const piece of cutter.full()) {
        const octets = Buffer.concat([bdatLine(piece.length, false), piece]);
        await leg.exchange(octets, settings.timeouts.dataBlockMs, "message", (reply) => {
          if (reply.code >= 300) this.chunkedFinal(reply, undefined);
        });
        if (!this.isSending) return;
      }
    }
    const last = cutter.rest();
    this.core.recorder.line("|>", bdatLine(last.length, true), { ...this.about(leg), origin: "warp" });
    const answer = leg.exchange(
      Buffer.concat([bdatLine(last.length, true), last]),
      Math.max(1, endsAt - clock.now()),
      "message",
      (reply, latencyMs) => this.chunkedFinal(reply, latencyMs),
    );
    this.phase = "sent";
    await answer;
  }

  private chunkedFinal(reply: Reply, latencyMs: number | undefined): void {
    if (reply.code >= 300) this.clearUpstream();
    this.final(reply, latencyMs);
  }

  private sent(leg: Leg, endsAt: number): void {
    this.phase = "sent";
    leg.restartClock(Math.max(1, endsAt - this.core.env.clock.now()));
    this.core.recorder.note("filter_relayed", "filter: message relayed to server", this.about(leg));
  }

  /** The answer to the message; one ahead of its end can only be a refusal, and resets the leg. Rejects with LegLost. */
  private expectFinal(leg: Leg): Promise<unknown> {
    const answer = leg.exchange(EMPTY, Number.POSITIVE_INFINITY, "message", (reply, latencyMs) => {
      if (this.isSending) {
        if (reply.code < 400) return leg.lose("early_reply", `${reply.code} before the end of the message`);
        this.core.abortLeg("refused ahead of the end of data");
      }
      this.final(reply, latencyMs);
    });
    // Awaited behind the sending; a loss meanwhile is met there.
    answer.catch(() => {});
    return answer;
  }

  private final(reply: Reply, latencyMs: number | undefined): void {
    if (this.phase === "done") return;
    this.phase = "done";
    this.tx.endOfDataMs = latencyMs;
    this.tx.finalReply = this.core.upstreamFacts(reply, latencyMs);
    this.core.pass(this.slot as Slot, reply, this.tx);
    this.core.report(this.tx);
  }

  /** The transaction ends upstream too, so that the leg serves the next one. */
  private clearUpstream(): void {
    if (this.mode === "data_waiting" && this.phase !== "sent") this.core.abortLeg("the message is not sent");
    else this.core.resetUpstream();
  }

  private about(leg: Leg) {
    return { transactionId: this.tx.id, leg: leg.number, tls: leg.encrypted };
  }

  private settle(reply: OwnReply): void {
    this.tx.finalReply ??= this.core.ownFacts(reply);
    this.core.answer(this.slot as Slot, reply, this.tx);
    this.core.report(this.tx);
  }

  // -------------------------------------------------------------------------------------------------- what goes wrong

  private stopped(error: unknown): void {
    if (this.phase === "done") return;
    if (error instanceof LegLost) return; // legLost has answered
    this.core.env.telemetry.log(
      "error",
      "held_message_failed",
      "a held message was not sent",
      { tx: this.tx.id },
      error,
    );
    const begun = this.phase === "sending" || this.phase === "sent";
    this.phase = "done";
    if (begun) this.core.abortLeg("the message could not be read back");
    else this.clearUpstream();
    this.settle(OWN.noStorage);
  }

  legLost(loss: LegLost): boolean {
    this.core.noteLoss(loss);
    const { phase } = this;
    if (phase === "collecting") {
      // BDAT between two chunks: the next one meets it.
      this.refuse(OWN.outOfTime);
      return true;
    }
    if (phase === "done") return false;
    this.phase = "done";
    this.abortion.abort();
    this.writer.abort();
    if (phase === "sent") this.tx.outcome = "unknown";
    const late = loss.reason === "timeout";
    if (phase === "filtering" || late) this.settle(phase === "sent" ? OWN.outcomeUnknown : OWN.outOfTime);
    else this.settle(OWN.legLost);
    return true;
  }

  left(): void {
    if (this.phase !== "collecting") return;
    this.scribe.end();
    this.writer.abort();
  }

  clientGone(): boolean {
    if (this.phase === "sent") return true;
    const begun = this.phase === "sending" || this.mode === "data_waiting";
    this.phase = "done";
    this.scribe.end();
    this.abortion.abort();
    this.writer.abort();
    if (begun) this.core.abortLeg("the client left within the message");
    this.core.report(this.tx);
    return false;
  }
}
