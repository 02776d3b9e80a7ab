/**
 * The client's side of the dialogue, as a state machine without I/O: bytes in, events out, pulled one at a time, since what
 * an octet means can depend on the answer to the command before it. Who pulls decides when; the mode is set between pulls:
 *
 *   command   lines that end in CRLF (RFC 5321 §2.3.8), of at most `lineLimit` octets
 *   exchange  the same lines, as answers to a 334 (RFC 4954)
 *   data      a message up to CRLF.CRLF (§4.5.2)
 *   chunk     a counted number of octets (RFC 3030)
 *
 * No line is ever taken at a bare LF. A line with a bare CR or LF is reported once, at once, and swallowed to its CRLF. So is
 * one with a NUL, at which servers written in C take the line to end.
 */
import { type DataPieces, DataReader } from "../smtp/content.ts";
import { CR, LF } from "../smtp/octets.ts";

export type BadLine = "bare_newline" | "nul" | "too_long";

export type ClientEvent =
  | { readonly kind: "line"; readonly wire: Buffer }
  | { readonly kind: "bad_line"; readonly reason: BadLine }
  /** Octets of the message as they leave (dot-stuffed, the terminator where `end`). */
  | { readonly kind: "data"; readonly wire: Buffer[]; readonly end: boolean }
  /** Octets of a chunk as they came; `end`: its last. */
  | { readonly kind: "chunk"; readonly octets: Buffer; readonly end: boolean };

type Mode = "command" | "exchange" | "data" | "chunk";

const TOO_LONG: ClientEvent = { kind: "bad_line", reason: "too_long" };
const BARE_NEWLINE: ClientEvent = { kind: "bad_line", reason: "bare_newline" };
const NUL: ClientEvent = { kind: "bad_line", reason: "nul" };

export class ClientReader {
  private mode: Mode = "command";
  private buffer: Buffer | undefined;
  /** Begin of what was not taken yet. */
  private start = 0;
  /** Octets before it hold no line end. */
  private scanned = 0;
  /** In a line that was reported bad: swallow to its CRLF. */
  private swallowing = false;
  private chunkLeft = 0;
  private message: DataReader | undefined;
  private readonly lineLimit: number;

  constructor(lineLimit = 16384) {
    this.lineLimit = lineLimit;
  }

  /** Octets fed and not taken yet. */
  get buffered(): number {
    return this.buffer === undefined ? 0 : this.buffer.length - this.start;
  }

  /** The next octets are a message's or a chunk's. */
  get inMessage(): boolean {
    return this.mode === "data" || this.mode === "chunk";
  }

  /** The reader of the message at hand: its octets and bare newlines so far. */
  get data(): DataReader | undefined {
    return this.message;
  }

  feed(chunk: Buffer): void {
    if (this.buffer === undefined) this.buffer = chunk;
    else {
      this.buffer = Buffer.concat([this.buffer.subarray(this.start), chunk]);
      this.scanned -= this.start;
      this.start = 0;
    }
  }

  /** The next lines answer a 334; back with `expectCommand`. */
  expectExchange(): void {
    this.mode = "exchange";
  }

  expectCommand(): void {
    this.mode = "command";
  }

  /** What follows is a message. */
  expectData(): void {
    this.mode = "data";
    this.message = new DataReader();
  }

  /** What follows is a chunk. A chunk of no octets gives one event without octets. */
  expectChunk(octets: number): void {
    this.mode = "chunk";
    this.chunkLeft = octets;
  }

  /** Throws away what was fed and not taken (RFC 3207 §4.2: nothing of it may be used). Returns how much it was. */
  discard(): number {
    const octets = this.buffered;
    this.release();
    this.swallowing = false;
    return octets;
  }

  /** The next event, or undefined until more bytes came. */
  next(): ClientEvent | undefined {
    if (this.mode === "data") return this.nextData();
    if (this.mode === "chunk") return this.nextChunk();
    return this.nextLine();
  }

  private nextLine(): ClientEvent | undefined {
    const buffer = this.buffer;
    if (buffer === undefined) return undefined;
    for (let i = Math.max(this.scanned, this.start); i < buffer.length; i++) {
      const c = buffer[i];
      if (c !== CR && c !== LF) continue;
      if (c === CR) {
        if (i + 1 === buffer.length) {
          if (this.swallowing) this.start = i;
          this.scanned = i;
          // The CR stays: with an LF behind it, it ends the line that is swallowed.
          return this.tooLong() ? this.refuseLine(TOO_LONG, i) : undefined;
        }
        if (buffer[i + 1] === LF) {
          const wire = buffer.subarray(this.start, i + 2);
          const swallowed = this.swallowing;
          this.take(i + 2);
          if (swallowed) {
            this.swallowing = false;
            i++;
            if (this.buffer === undefined) return undefined;
            continue;
          }
          if (wire.length > this.lineLimit) return TOO_LONG;
          if (wire.includes(0)) return NUL;
          return { kind: "line", wire };
        }
      }
      if (this.swallowing) continue;
      if (i + 1 - this.start > this.lineLimit) return this.refuseLine(TOO_LONG, i + 1);
      return this.refuseLine(BARE_NEWLINE, i + 1);
    }
    this.scanned = buffer.length;
    if (this.swallowing) this.take(buffer.length);
    else if (this.tooLong()) return this.refuseLine(TOO_LONG, buffer.length);
    return undefined;
  }

  private tooLong(): boolean {
    return !this.swallowing && this.buffered > this.lineLimit;
  }

  private refuseLine(event: ClientEvent, end: number): ClientEvent {
    this.swallowing = true;
    this.take(end);
    return event;
  }

  private nextData(): ClientEvent | undefined {
    const buffer = this.buffer;
    if (buffer === undefined) return undefined;
    const input = this.start === 0 ? buffer : buffer.subarray(this.start);
    const pieces: DataPieces = (this.message as DataReader).read(input);
    this.take(this.start + pieces.used);
    if (pieces.end) this.mode = "command";
    if (pieces.wire.length === 0 && !pieces.end) return undefined;
    return { kind: "data", wire: pieces.wire, end: pieces.end };
  }

  private nextChunk(): ClientEvent | undefined {
    const buffer = this.buffer;
    if (buffer === undefined && this.chunkLeft > 0) return undefined;
    const available = Math.min(this.buffered, this.chunkLeft);
    const octets = buffer === undefined ? NOTHING : buffer.subarray(this.start, this.start + available);
    this.chunkLeft -= available;
    this.take(this.start + available);
    const end = this.chunkLeft === 0;
    if (end) this.mode = "command";
    return { kind: "chunk", octets, end };
  }

  private take(end: number): void {
    this.start = end;
    this.scanned = end;
    // An idle session holds no read chunk.
    if (this.buffer !== undefined && end >= this.buffer.length) this.release();
  }

  private release(): void {
    this.buffer = undefined;
    this.start = 0;
    this.scanned = 0;
  }
}

const NOTHING = Buffer.alloc(0);
