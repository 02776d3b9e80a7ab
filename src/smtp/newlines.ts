/**
 * Where the next CR or LF stands in a chunk. Looks at four octets at a time: a message is mostly text, and neither a loop
 * over its octets (0.8 ns each) nor a native search (two calls a line) is as fast.
 */
import { CR, LF } from "./octets.ts";

/** An octet below this may be a CR or an LF; text has few others. */
const BELOW = 0x0e0e0e0e;
const HIGH_BITS = 0x80808080;

export class Newlines {
  private readonly chunk: Buffer;
  /** The chunk from the last word boundary at or before its begin on, without what is no whole word at its end. */
  private readonly words: Int32Array;
  /** Octets before the chunk in its first word. */
  private readonly shift: number;

  constructor(chunk: Buffer) {
    this.chunk = chunk;
    this.shift = chunk.byteOffset & 3;
    this.words = new Int32Array(
      chunk.buffer,
      chunk.byteOffset - this.shift,
      (chunk.length + this.shift) >> 2,
    );
  }

  /** Index of the first CR or LF at or behind `from`; the chunk's length where there is none. */
  next(from: number): number {
    const { chunk, words, shift } = this;
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
