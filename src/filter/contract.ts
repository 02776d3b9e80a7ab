/**
 * What the session needs of filters, and what filters need of the session. The chain decides (layer 2); the calls that
 * reach hook servers (layer 3) and the storage of held messages come in from outside.
 */
import type { AddressFacts, FilterOutcome, SessionFacts } from "../events/events.ts";

/** A message that warp holds while filters look at it: RFC 5322 octets, CRLF lines only, not dot-stuffed, no terminator. */
export interface HeldMessage {
  readonly octets: number;
  /** The octets in order, in chunks of at most 64 KiB. Can be called any number of times until `release`. */
  chunks(): AsyncIterable<Buffer>;
  /** Frees memory, spool file and budget. Idempotent. */
  release(): void;
}

/** Collects one message: in memory up to a threshold, then in an unlinked file, all under one budget. */
export interface HoldWriter {
  /**
   * Takes the next octets (copies nothing it need not). True: go on. A promise: the budget or the disk is busy, stop
   * reading the client until it resolves. Rejects or throws `HoldFull` when there was no room in time (451 4.3.1).
   */
  write(chunk: Buffer): true | Promise<void>;
  /** The message, once the last octet was written. */
  finish(): Promise<HeldMessage>;
  /** Gives everything back; the message is gone. Idempotent. */
  abort(): void;
}
export interface HoldStore {
  /**
   * `of`: the complete message that something is made of. That goes ahead of messages that are still being collected, since
   * they wait for the octets that this one gives back when it has left.
   */
  open(of?: HeldMessage): HoldWriter;
}
/** Memory and spool are full: 451 4.3.1. */
export class HoldFull extends Error {
  override readonly name = "HoldFull";
}

export interface FilterEnvelope {
  readonly transactionId: string;
  readonly session: SessionFacts;
  readonly mailFrom: AddressFacts;
  /** The accepted ones. */
  readonly recipients: readonly AddressFacts[];
  /** MAIL said SMTPUTF8. */
  readonly smtputf8: boolean;
  /** MAIL said BODY=8BITMIME. */
  readonly eightBit: boolean;
  /** The leg's SIZE and warp's own limit, the smaller; undefined: none. Octets. */
  readonly maxOctets: number | undefined;
}

/** A reply without CRLF in its parts; the session writes it out. */
export interface VerdictReply {
  readonly code: number;
  readonly enhancedCode: string;
  readonly text: string;
}

export type ChainResult = { readonly outcomes: readonly FilterOutcome[] } & (
  | {
      /** Send this message: the held one, or what the filters made of it. */
      readonly kind: "relay";
      readonly message: HeldMessage;
    }
  | {
      readonly kind: "reject";
      readonly reply: VerdictReply;
      /** Whose verdict, or whose failure. */
      readonly hook: string;
      /** "hook": its own words. "warp": its failure, 451 4.7.1 or 554 5.7.1. */
      readonly origin: "hook" | "warp";
    }
  | { readonly kind: "discard"; readonly hook: string }
  /** What a filter made of the message could not be kept: 451 4.3.1. */
  | { readonly kind: "no_storage" }
);

export interface FilterChain {
  /** True: every message is held and passes the chain. Also while a hook's role isn't known yet. */
  readonly required: boolean;
  /**
   * Runs the chain. Never rejects: each failure is an outcome. `timeLeftMs` bounds the whole chain; `signal` aborts it
   * when the client is gone (the result is then ignored). It owns `message` from then on: with "relay" the session
   * releases `result.message` (which frees the held one too), else everything is released already.
   */
  run(
    message: HeldMessage,
    envelope: FilterEnvelope,
    timeLeftMs: number,
    signal: AbortSignal,
  ): Promise<ChainResult>;
}
