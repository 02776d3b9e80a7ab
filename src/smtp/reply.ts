/**
 * Replies (RFC 5321 §4.2): `code SP text CRLF`, many lines as `code-text`. A reply is read whole and kept as it came,
 * byte for byte. Lines end in CRLF; a bare LF is taken as a line's end too, as most clients do, and leaves as CRLF, so
 * that warp and its client never count replies differently. Whatever else is no reply is an error of the peer.
 */
import { CR, LF } from "./octets.ts";

export interface Reply {
  /** 200–599. */
  readonly code: number;
  /** The whole reply, all lines, each ended by CRLF. */
  readonly wire: Buffer;
}

export type ReplyErrorKind = "malformed" | "too_long";

/** The peer sent what is no reply. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
  readonly kind: ReplyErrorKind;
  constructor(kind: ReplyErrorKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Bytes in, whole replies out, at any split. Holds at most `limit` octets of one reply. */
export class ReplyReader {
  /** A line ended in a bare LF, at least once. */
  bareNewlines = 0;
  private buffer: Buffer | undefined;
  private scanned = 0;
  private start = 0;
  /** Code of the first line of the reply at hand; 0 before it. */
  private code = 0;
  private patched: Buffer[] | undefined;
  private readonly limit: number;

  constructor(limit = 65536) {
    this.limit = limit;
  }

  /** Octets that belong to no complete reply yet, or to none that was taken. */
  get buffered(): number {
    return (this.buffer?.length ?? 0) - this.start;
  }

  feed(chunk: Buffer): void {
    if (this.buffer === undefined || this.start === this.buffer.length) {
      this.buffer = chunk;
      this.scanned -= this.start;
      this.lineStart -= this.start;
      this.start = 0;
      if (this.scanned < 0) this.scanned = 0;
      return;
    }
    this.buffer = Buffer.concat([this.buffer.subarray(this.start), chunk]);
    this.scanned -= this.start;
    this.lineStart -= this.start;
    this.start = 0;
  }

  private lineStart = 0;

  /** The next whole reply, or undefined until more bytes came. Throws ReplyError; the connection is then of no use. */
  next(): Reply | undefined {
    const buffer = this.buffer;
    if (buffer === undefined) return undefined;
    for (;;) {
      const newline = buffer.indexOf(LF, this.scanned);
      if (newline < 0) {
        this.scanned = buffer.length;
        if (this.buffered > this.limit)
          throw new ReplyError("too_long", `a reply of over ${this.limit} octets`);
        if (this.start === buffer.length) this.release();
        return undefined;
      }
      const last = this.takeLine(buffer, newline);
      this.scanned = newline + 1;
      this.lineStart = newline + 1;
      if (newline + 1 - this.start > this.limit) {
        throw new ReplyError("too_long", `a reply of over ${this.limit} octets`);
      }
      if (last) return this.complete(buffer, newline + 1);
    }
  }

  /** Checks the line that ends at `newline`; true: the reply's last. */
  private takeLine(buffer: Buffer, newline: number): boolean {
    const from = this.lineStart;
    const bare = newline === from || buffer[newline - 1] !== CR;
    const end = bare ? newline : newline - 1;
    const code = parseCode(buffer, from, end);
    if (code === 0) {
      throw new ReplyError("malformed", `no reply code in ${JSON.stringify(excerpt(buffer, from, end))}`);
    }
    if (this.code !== 0 && this.code !== code) {
      throw new ReplyError("malformed", `codes ${this.code} and ${code} in one reply`);
    }
    this.code = code;
    if (bare) {
      this.bareNewlines++;
      this.patched ??= this.start < from ? [buffer.subarray(this.start, from)] : [];
    }
    if (this.patched !== undefined) this.patched.push(buffer.subarray(from, end), CRLF_BYTES);
    return end - from === 3 || buffer[from + 3] !== 0x2d;
  }

  private complete(buffer: Buffer, end: number): Reply {
    const wire = this.patched === undefined ? buffer.subarray(this.start, end) : Buffer.concat(this.patched);
    const code = this.code;
    this.code = 0;
    this.patched = undefined;
    this.start = end;
    if (end === buffer.length) this.release();
    return { code, wire };
  }

  /** Keeps no buffer while nothing is buffered: an idle session holds no read chunk. */
  private release(): void {
    this.buffer = undefined;
    this.start = 0;
    this.scanned = 0;
    this.lineStart = 0;
  }
}

const CRLF_BYTES = Buffer.from("\r\n");

function parseCode(buffer: Buffer, from: number, end: number): number {
  if (end - from < 3) return 0;
  const a = (buffer[from] as number) - 0x30;
  const b = (buffer[from + 1] as number) - 0x30;
  const c = (buffer[from + 2] as number) - 0x30;
  if (a < 2 || a > 5 || b < 0 || b > 9 || c < 0 || c > 9) return 0;
  // A fourth octet that is neither blank nor hyphen is taken as a last line, as MTAs do; a digit is no code at all.
  const fourth = buffer[from + 3] as number;
  if (end - from > 3 && fourth >= 0x30 && fourth <= 0x39) return 0;
  return a * 100 + b * 10 + c;
}

function excerpt(buffer: Buffer, from: number, end: number): string {
  return buffer.toString("latin1", from, Math.min(end, from + 60));
}

/** The text of the first line, without code and CRLF, as latin1. */
export function firstLineText(wire: Buffer): string {
  const end = wire.indexOf(LF);
  return wire.toString("latin1", 4, end < 0 ? wire.length : end).replace(/\r$/, "");
}

/** The enhanced status code of a reply (RFC 2034, RFC 3463), from its last line; empty where there is none. */
export function enhancedCode(wire: Buffer): string {
  let from = wire.length - 2;
  while (from > 0 && wire[from - 1] !== LF) from--;
  // "250 2.1.0 Ok": class, subject and detail behind the code. Read by hand: it is asked of every reply.
  const begin = from + 4;
  const digit = wire[begin];
  const isClass = digit === wire[from] || digit === 0x32 || digit === 0x34 || digit === 0x35;
  if (!isClass || wire[begin + 1] !== 0x2e) return "";
  const subjectEnd = endOfDigits(wire, begin + 2);
  if (wire[subjectEnd] !== 0x2e) return "";
  const end = endOfDigits(wire, subjectEnd + 1);
  if (subjectEnd === begin + 2 || end === subjectEnd + 1 || !endsWord(wire[end])) return "";
  return wire.toString("latin1", begin, end);
}

/** Index behind at most three digits. */
function endOfDigits(wire: Buffer, from: number): number {
  let at = from;
  while (at - from < 3 && (wire[at] as number) >= 0x30 && (wire[at] as number) <= 0x39) at++;
  return at;
}

function endsWord(octet: number | undefined): boolean {
  return octet === undefined || octet === 0x20 || octet === CR;
}

/** A reply of one line from its parts; text is US-ASCII without CR or LF. */
export function formatReply(code: number, enhanced: string, text: string): Buffer {
  return Buffer.from(`${code}${enhanced === "" ? "" : ` ${enhanced}`} ${text}\r\n`, "latin1");
}
