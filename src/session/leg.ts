/**
 * A leg: one connection to the destination, on which warp is the client. It pairs what was sent with the replies that
 * come, in order, and knows what the destination said of itself. A reply that nobody asked for, a reply that is none, a
 * 354 or 334 where the octets behind it would have another meaning: each ends the leg, since from there on nobody could
 * say which reply belongs to which command.
 */

import type { LegOrigin } from "../egress/fit.ts";
import type { LegTlsFacts } from "../egress/tls-policy.ts";
import type { TlsFacts } from "../events/events.ts";
import type { Transport } from "../net/transport.ts";
import { type Capabilities, NO_CAPABILITIES } from "../smtp/capabilities.ts";
import { type Reply, ReplyError, ReplyReader } from "../smtp/reply.ts";
import { type Clock, Deadline } from "./clock.ts";
import { guarded, guardedCall } from "./guard.ts";

export type LegLossReason =
  | "closed"
  | "reset"
  | "timeout"
  | "write_stalled"
  | "malformed_reply"
  | "reply_too_long"
  | "unsolicited_reply"
  | "early_reply"
  | "unexpected_reply"
  | "injected_plaintext"
  | "tls_failed"
  | "tls_timeout"
  | "aborted";

export class LegLost extends Error {
  override readonly name = "LegLost";
  readonly reason: LegLossReason;
  constructor(reason: LegLossReason, message: string, cause?: unknown) {
    super(message, { cause });
    this.reason = reason;
  }
}

/**
 * What the command's reply may be. `data`: 354, 4xx or 5xx; a client would take any other 3xx for a 354, and a 2xx for the
 * message's. `message`: what ends a message or a chunk of it has no 3xx, behind which more would have to come. `auth`: no
 * 354. `starttls`: no octet may stand behind it. `plain`: neither 354 nor 334.
 */
export type ExpectationKind = "plain" | "data" | "message" | "auth" | "starttls";

interface Expectation {
  readonly handler: (reply: Reply, latencyMs: number) => void;
  sentAt: number;
  timeoutMs: number;
  /** Runs from when it is the oldest: the destination works on one command after the other. */
  deadlineAt: number;
  readonly kind: ExpectationKind;
  /** Where in the octets written its command or message ends; 0: not known. */
  endsAt: number;
}

/** A leg that warp itself has finished with; one for all, since making an error costs a stack trace. */
const CLOSED = new LegLost("aborted", "closed by warp");

export interface LegOwner {
  /** The leg is gone; nothing that was sent will be answered any more. Once. */
  legLost(leg: Leg, loss: LegLost): void;
  /** A reply came while nothing was asked: a 421, which a server may send at any time (RFC 5321 §3.8). */
  legClosing(leg: Leg, reply: Reply): void;
  /** Octets of the destination were read, and the replies in them handled. */
  legTurn(leg: Leg): void;
  legDrained(leg: Leg): void;
  /** What the destination's octets, or their absence, set off threw an error. */
  defect(error: unknown): void;
}

export interface LegOptions {
  readonly number: number;
  readonly origin: LegOrigin;
  readonly sourceIp: string;
  /** EHLO name from there; undefined: the client's own. */
  readonly ehloName: string | undefined;
  readonly replyOctets: number;
  readonly stallMs: number;
  readonly clock: Clock;
  readonly owner: LegOwner;
  /** Runs once when the connection is gone. */
  readonly released: () => void;
}

export const PLAINTEXT: LegTlsFacts = {
  encrypted: false,
  chainGood: false,
  chainError: "",
  chain: [],
  carries: () => false,
};

export class Leg {
  readonly number: number;
  readonly origin: LegOrigin;
  readonly sourceIp: string;
  readonly ehloName: string | undefined;
  readonly transport: Transport;
  capabilities: Capabilities = NO_CAPABILITIES;
  /** Facts for the policy; `tls` is what the events say. */
  tlsFacts: LegTlsFacts = PLAINTEXT;
  tls: TlsFacts | undefined;
  /** STARTTLS was said: what goes wrong from there on is TLS' failure. */
  tlsBegun = false;
  /** No second try to encrypt this leg. */
  plaintextOnly = false;
  /** Opaque state was set on it (AUTH, XCLIENT, …): it is never replaced. */
  pinned = false;
  /** A transaction was begun on it. */
  used = false;
  lost: LegLost | undefined;
  octetsOut = 0;
  private waiting: Expectation[] = [];
  private head = 0;
  private readonly reader: ReplyReader;
  private readonly options: LegOptions;
  private readonly deadline: Deadline;
  private stalled = false;
  private closing = false;
  private pending: ((loss: LegLost) => void) | undefined;
  private drainWaiter: { resolve: () => void; reject: (loss: LegLost) => void } | undefined;

  constructor(transport: Transport, options: LegOptions) {
    this.transport = transport;
    this.options = options;
    this.number = options.number;
    this.origin = options.origin;
    this.sourceIp = options.sourceIp;
    this.ehloName = options.ehloName;
    this.reader = new ReplyReader(options.replyOctets);
    const defect = (error: unknown): void => options.owner.defect(error);
    this.deadline = new Deadline(
      options.clock,
      guardedCall(() => this.expired(), defect),
    );
    const handler = {
      data: (chunk: Buffer) => this.received(chunk),
      drained: () => this.drained(),
      ended: () => this.lose("closed", "the destination closed the connection"),
      closed: (cause: Error | undefined) => {
        const reset = (cause as NodeJS.ErrnoException | undefined)?.code === "ECONNRESET";
        // Given back first, whatever becomes of the rest.
        options.released();
        this.lose(reset ? "reset" : "closed", cause?.message ?? "the destination closed the connection");
      },
    };
    transport.handler = guarded(handler, defect);
  }

  /** Replies that are still to come. */
  get outstanding(): number {
    return this.waiting.length - this.head;
  }

  get encrypted(): boolean {
    return this.transport.encrypted;
  }

  /** Bare LFs in replies so far. */
  get bareNewlines(): number {
    return this.reader.bareNewlines;
  }

  /** May more commands go out before the replies to those before came? (RFC 2920: only where it was offered.) */
  get pipelining(): boolean {
    return this.capabilities.has("PIPELINING");
  }

  /** Octets without a reply of their own (a message's). False: wait for `legDrained`. */
  write(octets: Buffer): boolean {
    if (this.lost !== undefined) return true;
    this.octetsOut += octets.length;
    const room = this.transport.write(octets);
    if (!room && !this.stalled) {
      this.stalled = true;
      this.updateDeadline();
    }
    return room;
  }

  /** The next reply is the answer to what was (or is about to be) written. */
  expect(
    handler: (reply: Reply, latencyMs: number) => void,
    timeoutMs: number,
    kind: ExpectationKind = "plain",
  ): void {
    const now = this.options.clock.now();
    this.waiting.push({ handler, sentAt: now, timeoutMs, deadlineAt: now + timeoutMs, kind, endsAt: 0 });
    this.updateDeadline();
  }

  /** Resolves when what was written has gone out; rejects with LegLost. */
  whenDrained(): Promise<void> {
    if (this.lost !== undefined) return Promise.reject(this.lost);
    if (!this.stalled) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.drainWaiter = { resolve, reject };
    });
  }

  /** What the newest expectation is about has been written to its end. */
  writtenWhole(): void {
    const newest = this.waiting[this.waiting.length - 1];
    if (newest !== undefined) newest.endsAt = this.octetsOut;
  }

  /** The same, and it took its time: the clock starts anew. */
  restartClock(timeoutMs: number): void {
    const newest = this.waiting[this.waiting.length - 1];
    if (newest === undefined) return;
    this.writtenWhole();
    newest.sentAt = this.options.clock.now();
    newest.timeoutMs = timeoutMs;
    newest.deadlineAt = newest.sentAt + timeoutMs;
    this.updateDeadline();
  }

  /**
   * Sends a line (with CRLF) and resolves with the reply to it. Rejects with LegLost. `handled` gets the reply at once: what
   * stands behind it in the same octets may end the leg before whoever awaits it is told.
   */
  exchange(
    line: Buffer,
    timeoutMs: number,
    kind: ExpectationKind = "plain",
    handled?: (reply: Reply, latencyMs: number) => void,
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.lost !== undefined) return reject(this.lost);
      this.pending = reject;
      this.expect(
        (reply, latencyMs) => {
          handled?.(reply, latencyMs);
          if (this.pending === reject) this.pending = undefined;
          resolve(reply);
        },
        timeoutMs,
        kind,
      );
      if (line.length > 0) this.write(line);
      this.writtenWhole();
    });
  }

  /** The greeting. */
  greeting(timeoutMs: number): Promise<Reply> {
    return this.exchange(Buffer.alloc(0), timeoutMs);
  }

  /** No further reply matters: QUIT was answered, or nobody cares. Closes without a message left open. */
  close(): void {
    this.finish(CLOSED);
    this.transport.destroy();
  }

  /** QUIT, and close when it was answered or after a while. */
  quit(graceMs: number): void {
    if (this.lost !== undefined) return;
    if (this.outstanding > 0) return this.close();
    this.closing = true;
    this.expect(() => this.close(), graceMs);
    this.write(Buffer.from("QUIT\r\n"));
  }

  /** RST: a message that was begun has no end, so it is none. */
  abort(): void {
    this.finish(CLOSED);
    this.transport.reset();
  }

  /** The leg is of no use any more; tells the owner. */
  lose(reason: LegLossReason, message: string, cause?: unknown): void {
    if (this.lost !== undefined) return;
    const loss = new LegLost(reason, message, cause);
    const quiet = this.closing;
    this.finish(loss);
    this.transport.reset();
    if (!quiet) this.options.owner.legLost(this, loss);
  }

  private finish(loss: LegLost): void {
    if (this.lost !== undefined) return;
    this.lost = loss;
    this.waiting = [];
    this.head = 0;
    this.deadline.stop();
    // Also where warp itself closes: whoever waits for a reply may hold something that has to be given back.
    this.pending?.(loss);
    this.pending = undefined;
    this.drainWaiter?.reject(loss);
    this.drainWaiter = undefined;
  }

  private received(chunk: Buffer): void {
    if (this.lost !== undefined) return;
    this.reader.feed(chunk);
    try {
      while (this.lost === undefined) {
        const reply = this.reader.next();
        if (reply === undefined) break;
        this.dispatch(reply);
      }
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      this.lose(error.kind === "too_long" ? "reply_too_long" : "malformed_reply", error.message, error);
    }
    this.options.owner.legTurn(this);
  }

  private dispatch(reply: Reply): void {
    const expected = this.waiting[this.head];
    if (expected === undefined) {
      if (reply.code === 421) this.options.owner.legClosing(this, reply);
      else this.lose("unsolicited_reply", `a reply that nobody asked for: ${reply.code}`);
      return;
    }
    if (!mayAnswer(reply.code, expected.kind)) {
      this.lose("unexpected_reply", `${reply.code} to a command that cannot have it`);
      return;
    }
    if (reply.code < 400 && this.octetsOut - this.transport.unsent < expected.endsAt) {
      // No 2xx for octets that still are in this process: it answers something else.
      this.lose("early_reply", `${reply.code} before the end was sent`);
      return;
    }
    if (expected.kind === "starttls" && this.reader.buffered > 0) {
      // RFC 3207 §6, CVE-2011-0411: whoever put it there is not the one that TLS will speak with.
      this.lose(
        "injected_plaintext",
        `${this.reader.buffered} octets of plaintext behind the reply to STARTTLS`,
      );
      return;
    }
    this.head++;
    if (this.head === this.waiting.length) {
      this.waiting.length = 0;
      this.head = 0;
    } else if (this.head > 256) {
      this.waiting.splice(0, this.head);
      this.head = 0;
    }
    const now = this.options.clock.now();
    const next = this.waiting[this.head];
    if (next !== undefined) next.deadlineAt = now + next.timeoutMs;
    this.updateDeadline();
    expected.handler(reply, now - expected.sentAt);
  }

  private drained(): void {
    this.stalled = false;
    this.updateDeadline();
    this.drainWaiter?.resolve();
    this.drainWaiter = undefined;
    if (this.lost === undefined) this.options.owner.legDrained(this);
  }

  private updateDeadline(): void {
    const oldest = this.waiting[this.head];
    const deadlineAt = oldest?.deadlineAt ?? Number.POSITIVE_INFINITY;
    // A destination that takes nothing gains no time: the client's own clock for the final reply runs on.
    if (this.stalled)
      this.deadline.setAt(Math.min(this.options.clock.now() + this.options.stallMs, deadlineAt));
    else if (deadlineAt === Number.POSITIVE_INFINITY) this.deadline.clear();
    else this.deadline.setAt(deadlineAt);
  }

  private expired(): void {
    const oldest = this.waiting[this.head];
    const isLate = oldest !== undefined && oldest.deadlineAt <= this.options.clock.now() + 0.5;
    if (this.stalled && !isLate)
      this.lose("write_stalled", `the destination took nothing for ${this.options.stallMs} ms`);
    else this.lose("timeout", "the destination did not answer in time");
  }
}

function mayAnswer(code: number, kind: ExpectationKind): boolean {
  if (kind === "data") return code === 354 || code >= 400;
  if (kind === "message") return code < 300 || code >= 400;
  return code !== 354 && (code !== 334 || kind === "auth");
}
