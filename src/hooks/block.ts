/**
 * A run of encoded events with consecutive sequences, each as the `events` field of an ObserveRequest: what lies in memory
 * is what goes over the wire and into the journal.
 */
import type { EventKind } from "../events/events.ts";
import { kindOf } from "./event-encoding.ts";

export interface Block {
  readonly octets: Buffer;
  readonly firstSequence: number;
  readonly count: number;
}
export interface Limits {
  readonly events: number;
  readonly octets: number;
}
/** Undefined: every kind. Gaps are in every selection. */
export type Kinds = ReadonlySet<EventKind> | undefined;

export interface Cut {
  /** Slices of blocks, to be sent one after the other. */
  readonly pieces: readonly Buffer[];
  readonly octets: number;
  readonly events: number;
  /** The last event in the pieces: what its server acknowledges. */
  readonly lastTaken: number;
  /** Everything up to here was looked at; what is not in the pieces was of other kinds. */
  readonly last: number;
}

/** Tag of `ObserveRequest.events`. */
export const EVENTS_TAG = 0x12;

/** The events from `from` on, up to the limits (but one at the least). `from` lies within the block. */
export function cut(block: Block, from: number, kinds: Kinds, limits: Limits): Cut {
  const { octets } = block;
  let at = 0;
  let sequence = block.firstSequence;
  const end = block.firstSequence + block.count;
  for (; sequence < from; sequence++) at = nextEvent(octets, at);
  const pieces: Buffer[] = [];
  let start = at;
  let total = 0;
  let events = 0;
  let lastTaken = from - 1;
  const take = (until: number): void => {
    if (until > start) pieces.push(octets.subarray(start, until));
  };
  for (; sequence < end; sequence++) {
    const next = nextEvent(octets, at);
    if (kinds === undefined || wanted(octets, at, next, kinds)) {
      if (events >= limits.events || (events > 0 && total + next - at > limits.octets)) break;
      total += next - at;
      events++;
      lastTaken = sequence;
    } else {
      take(at);
      start = next;
    }
    at = next;
  }
  take(at);
  return { pieces, octets: total, events, lastTaken, last: sequence - 1 };
}

/** Whether the octets are exactly `count` events. */
export function isWhole(octets: Buffer, count: number): boolean {
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (octets[at] !== EVENTS_TAG) return false;
    at = nextEvent(octets, at);
    if (at > octets.length) return false;
  }
  return at === octets.length;
}

/** Index behind the event at `at`. */
function nextEvent(octets: Buffer, at: number): number {
  let length = 0;
  let shift = 1;
  let i = at + 1;
  for (;;) {
    const octet = octets[i++];
    if (octet === undefined) throw new RangeError("an event is cut off");
    length += (octet & 127) * shift;
    if (octet < 128) return i + length;
    shift *= 128;
  }
}

function wanted(octets: Buffer, at: number, next: number, kinds: ReadonlySet<EventKind>): boolean {
  let body = at + 1;
  while ((octets[body] as number) > 127) body++;
  const kind = kindOf(octets, body + 1, next);
  return kind === undefined || kind === "gap" || kinds.has(kind);
}
