/**
 * Reads the segments of one epoch from front to back, once for each observer that is behind. Segments may grow, and the
 * oldest may go, while it reads. A damaged record is passed over, and who reads finds its sequences missing.
 */
import { type FileHandle, open } from "node:fs/promises";
import type { Block } from "../hooks/block.ts";
import { HEADER_OCTETS, readRecord, recordBehind } from "./journal-record.ts";

/** One segment file, as far as it is written. */
export interface Segment {
  readonly path: string;
  readonly firstSequence: number;
  lastSequence: number;
  octets: number;
}

const READ = 256 * 1024;
const GATHER = 256 * 1024;

export class JournalReader {
  private readonly segments: () => readonly Segment[];
  private readonly damaged: (path: string, offset: number) => void;
  private segment: Segment | undefined;
  private file: FileHandle | undefined;
  private offset = 0;
  private buffer: Buffer = Buffer.alloc(0);
  /** Index in `buffer` that `offset` stands for. */
  private at = 0;
  /** The run that was given last: who sends it in smaller batches asks for it again. */
  private latest: Block | undefined;
  /** Every sequence below it was passed. */
  private passed = 0;

  constructor(segments: () => readonly Segment[], damaged: (path: string, offset: number) => void) {
    this.segments = segments;
    this.damaged = damaged;
  }

  /** The run of events that begins with `sequence`, or with the first one after it that is there. Undefined: none is. */
  async from(sequence: number): Promise<Block | undefined> {
    const { latest } = this;
    if (latest !== undefined && sequence >= latest.firstSequence && sequence < this.passed) return latest;
    if (sequence < this.passed) await this.leave();
    this.latest = await this.search(sequence);
    return this.latest;
  }

  private async search(sequence: number): Promise<Block | undefined> {
    for (;;) {
      if (this.segment === undefined && !(await this.enter(sequence))) return undefined;
      const block = await this.nextBlock(sequence);
      if (block !== undefined) return block;
      const next = (this.segment as Segment).lastSequence + 1;
      if (!this.segments().some(({ lastSequence }) => lastSequence >= Math.max(next, sequence)))
        return undefined;
      await this.leave();
      sequence = Math.max(next, sequence);
    }
  }

  async close(): Promise<void> {
    await this.leave();
  }

  /** Gathers records that follow each other without a hole. */
  private async nextBlock(sequence: number): Promise<Block | undefined> {
    const blocks: Block[] = [];
    let octets = 0;
    while (octets < GATHER) {
      const block = await this.peek();
      if (block === undefined) break;
      const end = block.firstSequence + block.count;
      const previous = blocks.at(-1);
      if (previous !== undefined && previous.firstSequence + previous.count !== block.firstSequence) break;
      this.advance(block);
      if (end <= sequence) continue;
      blocks.push(block);
      octets += block.octets.length;
      this.passed = end;
    }
    const first = blocks[0];
    if (first === undefined) return undefined;
    // The views would be overwritten by nothing, but keep a whole read buffer alive: one copy of what is used.
    return {
      octets: Buffer.concat(blocks.map((block) => block.octets)),
      firstSequence: first.firstSequence,
      count: blocks.reduce((sum, block) => sum + block.count, 0),
    };
  }

  private async peek(): Promise<Block | undefined> {
    for (;;) {
      const read = readRecord(this.buffer, this.at);
      if (read.kind === "record") return read.block;
      if (read.kind === "partial" && (await this.fill(read.needed))) continue;
      // A segment ends with a whole record, so one that its end cuts has a damaged length.
      if (this.segment === undefined || this.offset >= this.segment.octets) return undefined;
      await this.passDamaged(this.segment);
    }
  }

  /** To the next whole record of the segment. */
  private async passDamaged(segment: Segment): Promise<void> {
    this.damaged(segment.path, this.offset);
    const end = segment.octets;
    await this.fill(end - this.offset);
    const next = recordBehind(this.buffer, this.at);
    if (next >= 0) {
      this.offset += next - this.at;
      this.at = next;
      return;
    }
    this.offset = end;
    this.buffer = Buffer.alloc(0);
    this.at = 0;
  }

  private advance(block: Block): void {
    const octets = HEADER_OCTETS + block.octets.length;
    this.at += octets;
    this.offset += octets;
  }

  /** Reads on; false where the segment has no more. */
  private async fill(needed: number): Promise<boolean> {
    const { file, segment } = this;
    if (file === undefined || segment === undefined) return false;
    const have = this.buffer.length - this.at;
    const position = this.offset + have;
    const want = Math.min(Math.max(READ, needed) - have, segment.octets - position);
    if (want <= 0) return false;
    const buffer = Buffer.allocUnsafeSlow(have + want);
    this.buffer.copy(buffer, 0, this.at);
    const { bytesRead } = await file.read(buffer, have, want, position);
    this.buffer = buffer.subarray(0, have + bytesRead);
    this.at = 0;
    return bytesRead > 0;
  }

  private async enter(sequence: number): Promise<boolean> {
    const segment = this.segments().find(({ lastSequence }) => lastSequence >= sequence);
    if (segment === undefined) return false;
    try {
      this.file = await open(segment.path, "r");
    } catch (error) {
      // Deleted in this moment to keep the size: the next one then.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return this.segments().includes(segment) ? false : this.enter(sequence);
    }
    this.segment = segment;
    this.offset = 0;
    return true;
  }

  private async leave(): Promise<void> {
    const { file } = this;
    this.file = undefined;
    this.segment = undefined;
    this.buffer = Buffer.alloc(0);
    this.at = 0;
    await file?.close();
  }
}
