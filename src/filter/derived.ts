/**
 * Messages that filters make of the held one, without copying it: a new header section in front of the old body, or a
 * replacement that is held in its own right. Everything made here counts towards the hold budget.
 */
import { createHash, type Hash } from "node:crypto";
import { join, lengthOf } from "../smtp/octets.ts";
import type { HeldMessage, HoldStore } from "./contract.ts";
import { LINE_LIMIT } from "./fold.ts";
import { editHeader, type HeaderEdit } from "./header-edit.ts";
import { hasEightBit, type Verdict } from "./verdict.ts";

/** In a header section longer than that fields are put on top, and nothing else is edited. */
const MAX_HEADER_SECTION = 512 * 1024;
const PIECE = 64 * 1024;

/**
 * The octets before the first empty line (with their last CRLF), or all where there is none; undefined where that is more
 * than `limit`.
 */
async function headerSection(message: HeldMessage, limit: number): Promise<Buffer | undefined> {
  let read: Buffer = Buffer.alloc(0);
  for await (const chunk of message.chunks()) {
    const from = Math.max(0, read.length - 3);
    read = read.length === 0 ? chunk : Buffer.concat([read, chunk]);
    const end = sectionEnd(read, from);
    if (end !== undefined) return end > limit ? undefined : read.subarray(0, end);
    if (read.length > limit) return undefined;
  }
  return read;
}

/** Undefined: a header section of so many octets can be edited like this. Else, in words, why not. */
export function tooLongToEdit(sectionOctets: number, edits: readonly HeaderEdit[]): string | undefined {
  if (sectionOctets <= MAX_HEADER_SECTION || edits.every(({ kind }) => kind === "insert")) return undefined;
  return `header section of more than ${MAX_HEADER_SECTION} octets, where only insert is possible`;
}

/** Index of the empty line that ends the header section; undefined: not seen yet. `from`: searched up to here before. */
export function sectionEnd(octets: Buffer, from = 0): number | undefined {
  if (octets.length >= 2 && octets[0] === 0x0d && octets[1] === 0x0a) return 0;
  const found = octets.indexOf("\r\n\r\n", from, "latin1");
  return found < 0 ? undefined : found + 2;
}

/**
 * The message with its header section edited, or in words why it cannot be (the message is then as it was). The result
 * owns `message`: releasing it releases both. Throws HoldFull.
 */
export async function withEdits(
  store: HoldStore,
  message: HeldMessage,
  edits: readonly HeaderEdit[],
  maxOctets: number | undefined,
): Promise<HeldMessage | string> {
  const made = await editedSection(message, edits, maxOctets);
  if (typeof made === "string") return made;
  return Spliced.over(message, await hold(store, join(made.edited)), made.replacedOctets);
}

/** The edited header section and how many of the message's first octets it replaces, or in words why it cannot be edited. */
export async function editedSection(
  message: HeldMessage,
  edits: readonly HeaderEdit[],
  maxOctets: number | undefined,
): Promise<{ readonly edited: Buffer[]; readonly replacedOctets: number } | string> {
  const whole = await headerSection(message, MAX_HEADER_SECTION);
  const tooLong = whole === undefined ? tooLongToEdit(Number.POSITIVE_INFINITY, edits) : undefined;
  if (tooLong !== undefined) return tooLong;
  // What is put on top depends on the first lines only.
  const section = whole ?? (await beginning(message));
  const edited = editHeader(section, edits);
  const octets = message.octets - section.length + lengthOf(edited);
  if (maxOctets !== undefined && octets > maxOctets) {
    return `message of ${octets} octets after the header edits, more than ${maxOctets}`;
  }
  return { edited, replacedOctets: section.length };
}

/** The first 64 KiB. */
async function beginning(message: HeldMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let octets = 0;
  for await (const chunk of message.chunks()) {
    chunks.push(chunk);
    octets += chunk.length;
    if (octets >= PIECE) break;
  }
  return Buffer.concat(chunks, Math.min(octets, PIECE));
}

/** Puts octets into the store, as a message of their own. Throws HoldFull. */
export async function hold(store: HoldStore, octets: Buffer): Promise<HeldMessage> {
  const writer = store.open();
  try {
    for (let at = 0; at < octets.length; at += PIECE) {
      const taken = writer.write(octets.subarray(at, at + PIECE));
      if (taken !== true) await taken;
    }
    return await writer.finish();
  } catch (error) {
    writer.abort();
    throw error;
  }
}

/** `head` instead of the first `skip` octets of `base`. */
class Spliced implements HeldMessage {
  readonly octets: number;
  private readonly head: HeldMessage;
  private readonly base: HeldMessage;
  private readonly skip: number;

  private constructor(head: HeldMessage, base: HeldMessage, skip: number) {
    this.head = head;
    this.base = base;
    this.skip = skip;
    this.octets = head.octets + base.octets - skip;
  }

  /** Takes over `message`; where its own head is replaced as a whole, it is released rather than kept below. */
  static over(message: HeldMessage, head: HeldMessage, skip: number): HeldMessage {
    if (!(message instanceof Spliced) || skip < message.head.octets) return new Spliced(head, message, skip);
    const inBase = skip - message.head.octets + message.skip;
    message.head.release();
    return new Spliced(head, message.base, inBase);
  }

  async *chunks(): AsyncGenerator<Buffer> {
    yield* this.head.chunks();
    let skip = this.skip;
    for await (const chunk of this.base.chunks()) {
      if (skip >= chunk.length) skip -= chunk.length;
      else {
        yield skip === 0 ? chunk : chunk.subarray(skip);
        skip = 0;
      }
    }
  }

  release(): void {
    this.head.release();
    this.base.release();
  }
}

/** Why this may not take the message's place, in words: it has what the message had not. Undefined: it may. */
export async function replacementProblem(
  message: Pick<HeldMessage, "chunks">,
  { longLines, isUnannounced8Bit }: Extract<Verdict, { kind: "replace" }>,
): Promise<string | undefined> {
  if (longLines.length > 0 && !(await hasLongLines(message, longLines))) {
    return "replacement with a line over 998 octets that the message did not have";
  }
  if (isUnannounced8Bit && !(await has8Bit(message))) {
    return "replacement with 8-bit octets, which this message may not have";
  }
  return undefined;
}

/** Whether each of these lines (over 998 octets, without CRLF) stands in the message too. */
async function hasLongLines(
  message: Pick<HeldMessage, "chunks">,
  lines: readonly Buffer[],
): Promise<boolean> {
  const missing = new Set(
    lines.map((line) => createHash("sha256").update(line).update("\r").digest("base64")),
  );
  const digests = new LongLineDigests((digest) => missing.delete(digest));
  for await (const chunk of message.chunks()) {
    digests.read(chunk);
    if (missing.size === 0) return true;
  }
  digests.end();
  return missing.size === 0;
}

async function has8Bit(message: Pick<HeldMessage, "chunks">): Promise<boolean> {
  for await (const chunk of message.chunks()) if (hasEightBit(chunk)) return true;
  return false;
}

/** Digests of the lines over the limit, each with its CR. */
class LongLineDigests {
  private pieces: Buffer[] = [];
  private length = 0;
  private hash: Hash | undefined;
  private readonly found: (digest: string) => void;

  constructor(found: (digest: string) => void) {
    this.found = found;
  }

  read(chunk: Buffer): void {
    let start = 0;
    for (;;) {
      const newline = chunk.indexOf(0x0a, start);
      this.take(newline < 0 ? chunk.subarray(start) : chunk.subarray(start, newline));
      if (newline < 0) return;
      this.lineEnded();
      start = newline + 1;
    }
  }

  /** A last line without CRLF counts as if it had one. */
  end(): void {
    this.hash?.update("\r");
    this.lineEnded();
  }

  private take(piece: Buffer): void {
    this.length += piece.length;
    if (this.hash === undefined && this.length > LINE_LIMIT) {
      this.hash = createHash("sha256");
      for (const earlier of this.pieces) this.hash.update(earlier);
      this.pieces = [];
    }
    if (this.hash !== undefined) this.hash.update(piece);
    else this.pieces.push(piece);
  }

  private lineEnded(): void {
    if (this.hash !== undefined) this.found(this.hash.digest("base64"));
    this.hash = undefined;
    this.pieces = [];
    this.length = 0;
  }
}
