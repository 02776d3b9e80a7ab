/**
 * The events of this process, in order, encoded once: a bounded queue in memory that every observer reads at its own pace,
 * and that the journal is written from. What all observers have acknowledged is forgotten; beyond the bound the oldest
 * events go, and who had not acknowledged them finds a gap there (or reads them from the journal).
 *
 * Events become readable a few ms after they were emitted, together (and, with a journal, once they were written to it).
 */
import type { EventKind, EventSink, WarpEvent } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import type { Block } from "./block.ts";
import { encodeEvent, type SourceFacts } from "./event-encoding.ts";
import type { UlidSource } from "./ulid.ts";
import { WireWriter } from "./wire.ts";

/** Somebody who reads the log. */
export interface LogReader {
  /** Undefined: it reads nothing, and holds nothing back. */
  readonly ackedSequence: number | undefined;
  wants(kind: EventKind): boolean;
  /** There is more to read. */
  wake(): void;
}
/** Where blocks are kept on disk. */
export interface LogStore {
  /** Resolves when the octets are written. Never called again before that. */
  write(blocks: readonly Block[]): Promise<void>;
}
export interface EventLogOptions {
  readonly source: SourceFacts;
  readonly ids: UlidSource;
  /** Octets of encoded events in memory. */
  readonly maxOctets: number;
  readonly store: LogStore | undefined;
  readonly telemetry: Pick<Telemetry, "log" | "events">;
  /** How long events are gathered, ms. */
  readonly gatherMs?: number;
}

const SLAB = 256 * 1024;
const GATHER_MS = 5;
/** So many octets are not made to wait for the timer. */
const GATHER_OCTETS = 64 * 1024;
/** Kept for what comes next: memory from the system, given back again and again, costs page faults and collections. */
const SPARE_SLABS = 8;

interface Slab {
  readonly buffer: Buffer;
  readonly firstSequence: number;
  readonly firstAt: number;
  used: number;
  count: number;
  /** Written to the store so far. */
  storedOctets: number;
  storedCount: number;
}

export class EventLog implements EventSink {
  readonly source: SourceFacts;
  private readonly options: EventLogOptions;
  private readonly writer = new WireWriter();
  private readonly slabs: Slab[] = [];
  private readonly spare: Buffer[] = [];
  private readonly readers: LogReader[] = [];
  private octets = 0;
  private nextSequence = 1;
  private readableSequence = 0;
  private gathering: NodeJS.Timeout | undefined;
  private gathered = 0;
  private storing: Promise<void> | undefined;
  private counts = new Map<string, number>();

  constructor(options: EventLogOptions) {
    this.options = options;
    this.source = options.source;
  }

  addReader(reader: LogReader): void {
    this.readers.push(reader);
  }

  wants(kind: EventKind): boolean {
    return this.readers.some((reader) => reader.wants(kind));
  }

  emit(event: WarpEvent): void {
    try {
      this.append(event);
    } catch (cause) {
      // A sink never throws into the session; this would be a fault of the encoder.
      this.options.telemetry.log(
        "error",
        "event_lost",
        `an event (${event.kind}) could not be encoded`,
        {},
        cause,
      );
    }
  }

  /** The last sequence that was given. */
  get last(): number {
    return this.nextSequence - 1;
  }

  /** The last one that may be read. */
  get readable(): number {
    return this.readableSequence;
  }

  /** The oldest sequence in memory. */
  get first(): number {
    return this.slabs[0]?.firstSequence ?? this.nextSequence;
  }

  /**
   * The part of the log in memory that holds `sequence` and is readable; undefined where it is in none. Its octets are
   * valid until every reader has acknowledged its last event.
   */
  blockWith(sequence: number): Block | undefined {
    if (sequence > this.readableSequence) return undefined;
    const slab = this.slabs.findLast((candidate) => candidate.firstSequence <= sequence);
    if (slab === undefined) return undefined;
    return {
      octets: slab.buffer.subarray(0, slab.used),
      firstSequence: slab.firstSequence,
      count: Math.min(slab.count, this.readableSequence - slab.firstSequence + 1),
    };
  }

  /** When the event with that sequence was emitted, roughly (ms since 1970). */
  emittedAt(sequence: number): number | undefined {
    return this.slabs.findLast((candidate) => candidate.firstSequence <= sequence)?.firstAt;
  }

  /** Forgets what every reader has acknowledged. */
  trim(): void {
    const needed = Math.min(
      ...this.readers.map((reader) => reader.ackedSequence ?? Number.POSITIVE_INFINITY),
    );
    // The current slab stays: it has room for what comes next.
    while (this.slabs.length > 1) {
      const slab = this.slabs[0] as Slab;
      const last = slab.firstSequence + slab.count - 1;
      if (last > needed || last > this.readableSequence) return;
      this.drop();
      // Nobody reads it any more, and the store has written it.
      if (slab.buffer.length === SLAB && this.spare.length < SPARE_SLABS) this.spare.push(slab.buffer);
    }
  }

  /** Makes everything readable (and written) that was emitted so far. */
  async flush(): Promise<void> {
    while (this.readableSequence < this.last) {
      this.gatheredEnough();
      await this.storing;
    }
  }

  close(): void {
    clearTimeout(this.gathering);
    this.gathering = undefined;
  }

  private append(event: WarpEvent): void {
    const { writer } = this;
    writer.clear();
    // The event's own length is not known before: `begin` makes it an `events` field of the request.
    const at = writer.begin(2);
    encodeEvent(writer, event, this.options.ids.nextOctets(event.at), this.nextSequence, this.source);
    writer.end(at);
    const octets = writer.view();
    const slab = this.slabFor(octets.length, event.at);
    slab.buffer.set(octets, slab.used);
    slab.used += octets.length;
    slab.count++;
    this.nextSequence++;
    this.gathered += octets.length;
    this.counts.set(event.kind, (this.counts.get(event.kind) ?? 0) + 1);
    if (this.gathered > GATHER_OCTETS && this.storing === undefined) this.gatheredEnough();
    else this.gather();
  }

  private gather(): void {
    this.gathering ??= setTimeout(() => this.gatheredEnough(), this.options.gatherMs ?? GATHER_MS);
  }

  private slabFor(octets: number, at: number): Slab {
    const current = this.slabs.at(-1);
    if (current !== undefined && current.buffer.length - current.used >= octets) return current;
    const slab: Slab = {
      buffer:
        octets <= SLAB ? (this.spare.pop() ?? Buffer.allocUnsafeSlow(SLAB)) : Buffer.allocUnsafeSlow(octets),
      firstSequence: this.nextSequence,
      firstAt: at,
      used: 0,
      count: 0,
      storedOctets: 0,
      storedCount: 0,
    };
    while (this.slabs.length > 0 && this.octets + slab.buffer.length > this.options.maxOctets) this.drop();
    this.octets += slab.buffer.length;
    this.slabs.push(slab);
    return slab;
  }

  private drop(): void {
    const slab = this.slabs.shift() as Slab;
    this.octets -= slab.buffer.length;
  }

  private gatheredEnough(): void {
    clearTimeout(this.gathering);
    this.gathering = undefined;
    for (const [kind, count] of this.counts) this.options.telemetry.events(kind, count);
    this.counts.clear();
    if (this.storing !== undefined) return;
    this.gathered = 0;
    const { store } = this.options;
    if (store === undefined) {
      this.becomeReadable(this.last);
      return;
    }
    const blocks = this.unstored();
    const last = this.last;
    if (blocks.length === 0) {
      this.becomeReadable(last);
      return;
    }
    // A store that fails has said so itself; its observers still get the events from memory.
    this.storing = store.write(blocks).finally(() => {
      this.storing = undefined;
      this.becomeReadable(last);
      if (this.last === last) return;
      // Gathering goes on, rather than a write for each few events that came meanwhile.
      if (this.gathered > GATHER_OCTETS) this.gatheredEnough();
      else this.gather();
    });
  }

  private unstored(): Block[] {
    const blocks: Block[] = [];
    for (const slab of this.slabs) {
      if (slab.count === slab.storedCount) continue;
      blocks.push({
        octets: slab.buffer.subarray(slab.storedOctets, slab.used),
        firstSequence: slab.firstSequence + slab.storedCount,
        count: slab.count - slab.storedCount,
      });
      slab.storedOctets = slab.used;
      slab.storedCount = slab.count;
    }
    return blocks;
  }

  private becomeReadable(last: number): void {
    if (last <= this.readableSequence) return;
    this.readableSequence = last;
    for (const reader of this.readers) reader.wake();
    if (this.readers.every((reader) => reader.ackedSequence === undefined)) this.trim();
  }
}
