/**
 * The records of a journal segment: a run of events with its length, its sequences and a checksum. What a crash cut off is
 * recognised, and everything before it stands.
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

/** The whole records at the begin of the octets, and where the first octet is that belongs to none. */
export function wholeRecords(octets: Buffer): { readonly blocks: readonly Block[]; readonly end: number } {
  const blocks: Block[] = [];
  let end = 0;
  for (;;) {
    const read = readRecord(octets, end);
    if (read.kind !== "record") return { blocks, end };
    blocks.push(read.block);
    end = read.next;
  }
}
