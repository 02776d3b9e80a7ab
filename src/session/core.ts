/** What the parts of a session (its commands, its message bodies) share: the narrow waist between them. */

import type { ClientReader } from "../dialogue/client-reader.ts";
import type { ReplyFacts, SessionFacts } from "../events/events.ts";
import type { OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { ChosenReply } from "./chosen-reply.ts";
import type { Leg, LegLost } from "./leg.ts";
import type { Recorder } from "./recorder.ts";
import type { Slot } from "./reply-queue.ts";
import type { SessionEnvironment } from "./settings.ts";
import type { Transaction } from "./transaction.ts";

export interface SessionCore {
  readonly env: SessionEnvironment;
  readonly recorder: Recorder;
  readonly reader: ClientReader;
  /** The current leg; undefined where it was aborted or lost. */
  readonly leg: Leg | undefined;
  /** Takes the next place in the order of replies. */
  open(): Slot;
  /** Fills a place with warp's own reply; closes behind it where it says so. */
  answer(slot: Slot, reply: OwnReply, tx?: Transaction): void;
  /** Fills a place with the destination's reply. */
  pass(slot: Slot, reply: Reply, tx?: Transaction): void;
  /** Fills a place with the reply of a filter, or of a rule of the operator's. */
  answerChosen(slot: Slot, reply: ChosenReply, tx?: Transaction): void;
  ownFacts(reply: OwnReply): ReplyFacts;
  upstreamFacts(reply: Reply, latencyMs: number | undefined): ReplyFacts;
  /** No further octet of the client is looked at until `unblock`. */
  block(): void;
  unblock(): void;
  /** Runs once everything sent upstream was answered; the client waits meanwhile. */
  whenSettled(run: () => void): void;
  /** The leg took less than it was given: stop reading the client until it drained. */
  legFull(): void;
  /** RST: a message that was begun has no end. The next command gets a new leg. */
  abortLeg(reason: string): void;
  /** RSET upstream, its reply swallowed: the leg serves the next transaction. */
  resetUpstream(): void;
  /** What is known of the session now. */
  facts(): SessionFacts;
  /** The client sent all of its message: its next commands belong to another transaction. */
  messageRead(): void;
  /** The record of the transaction is complete. */
  report(tx: Transaction): void;
  noteLoss(loss: LegLost): void;
}

/** A message on its way: takes the client's octets, and what happens to the leg meanwhile. */
export interface MessageBody {
  readonly tx: Transaction;
  /** The client sent all of it. */
  readonly ended: boolean;
  /** All of it went to the destination, whose answer is still to come: it may be taken, and it may not. */
  readonly isDue: boolean;
  /** Octets of DATA (as they leave, dot-stuffed) or of a chunk (as they came). */
  take(octets: Buffer[], end: boolean): void;
  /** The leg is gone. The body answers its own command; true: the session goes on without a leg. */
  legLost(loss: LegLost): boolean;
  /** The transaction is over, perhaps before the message is (RSET between two chunks). */
  left?(): void;
  /** The client is gone. True: wait for the destination's answer, then close. */
  clientGone(): boolean;
}
