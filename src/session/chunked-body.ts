/**
 * A message by BDAT (RFC 3030) that no filter looks at: re-chunked into pieces of at most 64 KiB, line ends normalised, one
 * reply for each of the client's chunks. The last piece goes out only when all before it were taken, so that a destination
 * never completes a message of which it refused a part.
 */

import { NewlineNormalizer } from "../smtp/content.ts";
import { CR, fewer, join } from "../smtp/octets.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { MessageBody, SessionCore } from "./core.ts";
import { HeaderScribe } from "./header-scribe.ts";
import type { Leg, LegLost } from "./leg.ts";
import type { Slot } from "./reply-queue.ts";
import type { Transaction } from "./transaction.ts";

const MAX_CHUNK = 65536;

/** One of the client's chunks. */
interface Chunk {
  readonly slot: Slot;
  readonly last: boolean;
  /** All its octets came. */
  read: boolean;
  /** Pieces that were put into the outbox or sent, and not answered. */
  unanswered: number;
  reply: Reply | undefined;
  refusal: OwnReply | Reply | undefined;
}

interface Piece {
  readonly octets: Buffer;
  readonly last: boolean;
  readonly chunk: Chunk;
}

export class ChunkedBody implements MessageBody {
  readonly tx: Transaction;
  ended = false;
  private readonly core: SessionCore;
  private readonly leg: Leg;
  private readonly scribe: HeaderScribe;
  private readonly normalizer = new NewlineNormalizer();
  private chunk: Chunk | undefined;
  private readonly cutter = new PieceCutter();
  private outbox: Piece[] = [];
  /** The outbox waits for all replies. */
  private holding = false;
  /** A chunk was refused: the message is lost, and every further BDAT is out of order. */
  private failed = false;
  private lastSent = false;
  /** Monotonic time of the client's end of data. */
  private endedAt = 0;
  /** warp refuses this chunk, which resets the leg: only once the chunks before it were answered. */
  private refusing: Chunk | undefined;

  constructor(core: SessionCore, tx: Transaction, leg: Leg) {
    this.core = core;
    this.tx = tx;
    this.leg = leg;
    this.scribe = new HeaderScribe(core.recorder, tx, {
      direction: "->",
      leg: leg.number,
      tls: leg.encrypted,
      stuffed: false,
      bodies: core.env.settings.bodies,
    });
  }

  /** The transaction is lost: a MAIL begins another. */
  get isLost(): boolean {
    return this.failed;
  }

  /** The client's next BDAT. */
  begin(slot: Slot, last: boolean): void {
    const refusal = this.failed || this.ended || this.leg.lost !== undefined ? OWN.bdatOutOfOrder : undefined;
    this.chunk = { slot, last, read: false, unanswered: 0, reply: undefined, refusal };
  }

  take(octets: Buffer[], end: boolean): void {
    const chunk = this.chunk as Chunk;
    if (end && chunk.last) this.endedAt = this.core.env.clock.now();
    if (chunk.refusal === undefined) {
      for (const raw of octets) for (const piece of fewer(this.normalizer.read(raw))) this.collect(piece);
      if (end && chunk.last) this.collect(this.normalizer.end());
      this.checkLimits(chunk);
    }
    if (chunk.refusal === undefined) this.cut(chunk, end);
    if (!end) return;
    chunk.read = true;
    if (chunk.last) {
      this.ended = true;
      this.scribe.end();
      if (this.normalizer.bareNewlines > 0) this.core.env.telemetry.violation("downstream", "bare_newline");
    }
    if (chunk.last) this.core.messageRead();
    if (chunk.refusal !== undefined) this.refuseInTurn(chunk);
  }

  /** The client's next commands wait, too: they would go to the leg that is reset. */
  private refuseInTurn(chunk: Chunk): void {
    if (this.leg.lost === undefined && this.leg.outstanding > 0) {
      this.refusing = chunk;
      this.core.whenSettled(() => {
        this.refusing = undefined;
        this.refused(chunk);
      });
    } else if (chunk.unanswered === 0) this.refused(chunk);
  }

  private collect(piece: Buffer): void {
    if (piece.length === 0) return;
    this.scribe.read(piece);
    this.cutter.add(piece);
  }

  private checkLimits(chunk: Chunk): void {
    const { limits, bareNewlines } = this.core.env.settings;
    this.tx.messageOctets = this.normalizer.octets;
    if (this.normalizer.octets > limits.messageOctets) chunk.refusal = OWN.tooLarge;
    else if (bareNewlines === "reject" && this.normalizer.bareNewlines > 0) chunk.refusal = OWN.bareNewline;
    if (chunk.refusal === undefined) return;
    this.failed = true;
    this.cutter.rest();
  }

  /** Makes pieces of what was collected: full ones, and at a chunk's end the rest. */
  private cut(chunk: Chunk, end: boolean): void {
    for (const octets of this.cutter.full()) this.queue({ octets, last: false, chunk });
    // A chunk whose only octet waits as a held CR has no piece yet: one of no octets brings its reply.
    if (end) this.queue({ octets: this.cutter.rest(), last: chunk.last, chunk });
  }

  private queue(piece: Piece): void {
    piece.chunk.unanswered++;
    this.outbox.push(piece);
    this.send();
  }

  private send(): void {
    while (this.outbox.length > 0 && this.leg.lost === undefined) {
      const piece = this.outbox[0] as Piece;
      if ((piece.last || !this.leg.pipelining) && this.leg.outstanding > 0) return this.hold();
      this.outbox.shift();
      if (this.failed) this.answered(piece, undefined);
      else this.sendPiece(piece);
    }
  }

  /** Until commands between the chunks have their replies, too. The client's next ones wait meanwhile. */
  private hold(): void {
    if (this.holding) return;
    this.holding = true;
    this.core.whenSettled(() => {
      this.holding = false;
      this.send();
    });
  }

  private sendPiece(piece: Piece): void {
    const { clock, settings } = this.core.env;
    const { timeouts } = settings;
    if (piece.last) this.lastSent = true;
    this.leg.expect(
      (reply, latencyMs) => {
        if (piece.last) this.tx.endOfDataMs = latencyMs;
        this.answered(piece, reply);
      },
      piece.last ? Math.max(1, this.endedAt + timeouts.endOfDataMs - clock.now()) : timeouts.dataBlockMs,
      "message",
    );
    if (!this.leg.write(Buffer.concat([bdatLine(piece.octets.length, piece.last), piece.octets])))
      this.core.legFull();
    this.leg.writtenWhole();
  }

  /** `reply` undefined: the piece was not sent, since one before it was refused. */
  private answered(piece: Piece, reply: Reply | undefined): void {
    const { chunk } = piece;
    chunk.unanswered--;
    if (reply !== undefined && reply.code < 300) chunk.reply = reply;
    else {
      chunk.refusal ??= reply ?? OWN.bdatOutOfOrder;
      this.failed = true;
    }
    if (chunk.unanswered > 0 || !chunk.read || chunk === this.refusing) return;
    if (chunk.refusal !== undefined) this.refused(chunk);
    else this.accepted(chunk, chunk.reply as Reply);
  }

  private accepted(chunk: Chunk, reply: Reply): void {
    if (chunk.last) this.tx.finalReply = this.core.upstreamFacts(reply, this.tx.endOfDataMs);
    this.core.pass(chunk.slot, reply, this.tx);
    if (chunk.last) this.core.report(this.tx);
  }

  private refused(chunk: Chunk): void {
    const refusal = chunk.refusal as OwnReply | Reply;
    const own = "reason" in refusal;
    this.tx.finalReply ??= own ? this.core.ownFacts(refusal) : this.core.upstreamFacts(refusal, undefined);
    if (own && refusal !== OWN.bdatOutOfOrder) this.core.abortLeg(refusal.reason);
    if (own) this.core.answer(chunk.slot, refusal, this.tx);
    else this.core.pass(chunk.slot, refusal, this.tx);
    this.core.report(this.tx);
  }

  get isDue(): boolean {
    return this.lastSent;
  }

  legLost(loss: LegLost): boolean {
    if (!this.lastSent || loss.reason !== "timeout") {
      if (this.lastSent) this.tx.outcome = "unknown";
      // The session tells the client, whose oldest command without a reply need not be this one.
      this.tx.legLost(this.core.ownFacts(OWN.legLost));
      return false;
    }
    this.core.noteLoss(loss);
    this.tx.outcome = "unknown";
    this.tx.finalReply = this.core.ownFacts(OWN.outcomeUnknown);
    this.core.answer((this.chunk as Chunk).slot, OWN.outcomeUnknown, this.tx);
    this.core.report(this.tx);
    return true;
  }

  clientGone(): boolean {
    if (this.lastSent) return true;
    this.scribe.end();
    this.core.abortLeg("the client left within the message");
    this.core.report(this.tx);
    return false;
  }
}

/**
 * Content, with CRLF alone as line ends, in pieces of at most 64 KiB. None ends between a CR and its LF: what a destination
 * makes of a CR at a chunk's end is its own affair.
 */
export class PieceCutter {
  private collected: Buffer[] = [];
  private octets = 0;

  add(content: Buffer): void {
    this.collected.push(content);
    this.octets += content.length;
  }

  /** Those that are full; something stays for `rest`. */
  full(): Buffer[] {
    const pieces: Buffer[] = [];
    if (this.octets <= MAX_CHUNK) return pieces;
    let left = this.rest();
    while (left.length > MAX_CHUNK) {
      const end = left[MAX_CHUNK - 1] === CR ? MAX_CHUNK - 1 : MAX_CHUNK;
      pieces.push(left.subarray(0, end));
      left = left.subarray(end);
    }
    this.add(left);
    return pieces;
  }

  /** All that is left. */
  rest(): Buffer {
    const rest = join(this.collected);
    this.collected = [];
    this.octets = 0;
    return rest;
  }
}

/** The line that announces a piece. */
export function bdatLine(octets: number, last: boolean): Buffer {
  return Buffer.from(`BDAT ${octets}${last ? " LAST" : ""}\r\n`);
}
