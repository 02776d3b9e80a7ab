/**
 * Where the next CR or LF stands in a chunk. Looks at four octets at a time: a message is mostly text, and neither a loop
 * over its octets (0.8 ns each) nor a native search (two calls a line) is as fast. Where most lines end as they should,
 * the addon passes by them a chunk at a time, ten times as fast again.
 */
import { CR, LF } from "./octets.ts";

/** An octet below this may be a CR or an LF; text has few others. */
const BELOW = 0x0e0e0e0e;
const HIGH_BITS = 0x80808080;

/** From so many octets on a call of the addon is the faster. */
const WORTH_A_CALL = 512;

/**
 * Index of the first line end from `from` on that is not plainly one of text: a CR or LF on its own, or a CRLF (its CR)
 * before a dot or the end of the chunk; the chunk's length where there is none. An LF at `from` is one on its own.
 */
export type NextUnusualNewline = (chunk: Buffer, from: number) => number;

let ofAddon: NextUnusualNewline | undefined;

/** The addon is there: `nextUnusual` may call it. */
export function passLinesWith(nextUnusual: NextUnusualNewline | undefined): void {
  ofAddon = nextUnusual;
}

export class Newlines {
  private readonly chunk: Buffer;
  /** The chunk from the last word boundary at or before its begin on, without what is no whole word at its end. */
  private words: Int32Array | undefined;
  /** Octets before the chunk in its first word. */
  private readonly shift: number;
  /** Unusual ones have been far between so far. */
  private fewUnusual = true;

  constructor(chunk: Buffer) {
    this.chunk = chunk;
    this.shift = chunk.byteOffset & 3;
  }

  /**
   * As `next`, for readers to whom a CRLF between two lines of text means nothing: such ones may be passed by. What it
   * gives is a CR or LF, and every one that is no such CRLF is given.
   */
  nextUnusual(from: number): number {
    if (ofAddon === undefined || !this.fewUnusual || this.chunk.length - from < WORTH_A_CALL)
      return this.next(from);
    const at = ofAddon(this.chunk, from);
    this.fewUnusual = at - from >= WORTH_A_CALL;
    return at;
  }

  /** Index of the first CR or LF at or behind `from`; the chunk's length where there is none. */
  next(from: number): number {
    const { chunk, shift } = this;
    this.words ??= new Int32Array(chunk.buffer, chunk.byteOffset - shift, (chunk.length + shift) >> 2);
    const { words } = this;
    let i = from;
    for (;;) {
      for (; ((i + shift) & 3) !== 0; i++) if (i >= chunk.length || isNewline(chunk[i])) return i;
      let word = (i + shift) >> 2;
      while (word < words.length && !hasOctetBelow(words[word] as number)) word++;
      i = (word << 2) - shift;
      // The word with something in it, or what is left behind the last word.
      const end = Math.min(chunk.length, i + 4);
      for (; i < end; i++) if (isNewline(chunk[i])) return i;
      if (i >= chunk.length) return chunk.length;
    }
  }
}

function isNewline(octet: number | undefined): boolean {
  return octet === CR || octet === LF;
}

/** Exact but for the octets above the first that is below: enough to know a word without any. */
function hasOctetBelow(word: number): boolean {
  return ((word - BELOW) & ~word & HIGH_BITS) !== 0;
}
