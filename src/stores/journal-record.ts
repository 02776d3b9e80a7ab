/**
 * The records of a journal segment: a run of events with its length, its sequences and a checksum. What a crash cut off is
 * recognised, and everything before it stands; so does what is behind a damaged record.
 *
 *   magic "WJ01" · length of the payload u32 · first sequence u64 · count u32 · CRC-32 of all that and the payload u32 · payload
 *
 * Numbers are little-endian. The payload is what goes over the wire: the `events` fields of an ObserveRequest.
 */
import { crc32 } from "node:zlib";
import type { Block } from "../hooks/block.ts";

export const HEADER_OCTETS = 24;
/** Larger lengths are damage: a block is at most a slab, or one event. */
export const MAX_PAYLOAD_OCTETS = 4 * 1024 * 1024;
const MAGIC = 0x3130_4a57;
const MAGIC_OCTETS = Buffer.from("WJ01");
/** An event is at least a tag and a length. */
const EVENT_OCTETS = 2;

export function recordHeader(block: Block): Buffer {
  const header = Buffer.allocUnsafe(HEADER_OCTETS);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(block.octets.length, 4);
  header.writeBigUInt64LE(BigInt(block.firstSequence), 8);
  header.writeUInt32LE(block.count, 16);
  header.writeUInt32LE(crc32(block.octets, crc32(header.subarray(0, 20))), 20);
  return header;
}

export type RecordRead =
  /** `next`: index behind it. The block's octets are a view. */
  | { readonly kind: "record"; readonly block: Block; readonly next: number }
  /** The octets end within it: `needed` octets from its begin would be enough (so far as known). */
  | { readonly kind: "partial"; readonly needed: number }
  | { readonly kind: "damaged" };

export function readRecord(octets: Buffer, at: number): RecordRead {
  if (octets.length - at < HEADER_OCTETS) return { kind: "partial", needed: HEADER_OCTETS };
  const length = octets.readUInt32LE(at + 4);
  if (octets.readUInt32LE(at) !== MAGIC || length > MAX_PAYLOAD_OCTETS) return { kind: "damaged" };
  const next = at + HEADER_OCTETS + length;
  if (octets.length < next) return { kind: "partial", needed: HEADER_OCTETS + length };
  const payload = octets.subarray(at + HEADER_OCTETS, next);
  if (crc32(payload, crc32(octets.subarray(at, at + 20))) !== octets.readUInt32LE(at + 20))
    return { kind: "damaged" };
  const firstSequence = Number(octets.readBigUInt64LE(at + 8));
  return {
    kind: "record",
    block: { octets: payload, firstSequence, count: octets.readUInt32LE(at + 16) },
    next,
  };
}

/**
 * Index of the next whole record behind the damaged one at `at`; -1: there is none. The damaged one's own length says first
 * where that is: what peers sent is in the payload, and may look like a record.
 */
export function recordBehind(octets: Buffer, at: number): number {
  if (octets.length - at >= HEADER_OCTETS) {
    const next = at + HEADER_OCTETS + octets.readUInt32LE(at + 4);
    if (next === octets.length) return -1;
    if (next < octets.length && readRecord(octets, next).kind === "record") return next;
  }
  let found = octets.indexOf(MAGIC_OCTETS, at + 1);
  while (found >= 0 && readRecord(octets, found).kind !== "record")
    found = octets.indexOf(MAGIC_OCTETS, found + 1);
  return found;
}

/**
 * The last sequence of a damaged record that reaches from `at` to the very end; undefined where it is unfinished, or none.
 * `firstSequence` is what has to come there.
 */
export function lastDamaged(octets: Buffer, at: number, firstSequence: number): number | undefined {
  if (octets.length - at < HEADER_OCTETS || octets.readUInt32LE(at) !== MAGIC) return undefined;
  const length = octets.readUInt32LE(at + 4);
  const count = octets.readUInt32LE(at + 16);
  const isPlausible =
    octets.readBigUInt64LE(at + 8) === BigInt(firstSequence) && count > 0 && count * EVENT_OCTETS <= length;
  return isPlausible && at + HEADER_OCTETS + length === octets.length ? firstSequence + count - 1 : undefined;
}

/** The whole records of a segment, those behind a damaged one too, and the index behind the last of them. */
export function wholeRecords(octets: Buffer): { readonly blocks: readonly Block[]; readonly end: number } {
  const blocks: Block[] = [];
  let end = 0;
  for (let at = 0; at >= 0; ) {
    const read = readRecord(octets, at);
    if (read.kind === "record") {
      blocks.push(read.block);
      at = read.next;
      end = at;
    } else at = recordBehind(octets, at);
  }
  return { blocks, end };
}
