/**
 * What the workers of one proxy have to know of each other at once: how many sessions there are, in all and of each client,
 * and how many octets are held for filters. It lies in memory that they share, because limits are the proxy's: a question
 * over IPC would make each session wait, and an equal share for each worker refuses clients that the kernel's hash sends to
 * the same one.
 *
 * Each worker writes its own section only, so that the primary can clear the section of one that was killed; what counts is
 * the sum over all. Clients are counted in a count-min sketch (four rows of hashed counters, the smallest of the four is the
 * answer): never too low, and too high only where four other clients collide with one in each of its rows. Two workers that
 * look at the same moment may exceed a session limit by one each; the budget of octets is never exceeded.
 */
import type { OctetPool } from "./budget.ts";
import type { SessionCounts } from "./session-counts.ts";

const ROWS = 4;
const MAX_WIDTH = 1 << 17;
const HELD_OCTETS = 8;

export interface SharedShape {
  readonly workers: number;
  /** Most sessions at a time: gives the width of the sketch. */
  readonly sessions: number;
}

/** Octets of memory that a proxy of this shape needs. */
export function sharedOctets(shape: SharedShape): number {
  return shape.workers * (HELD_OCTETS + sectionLength(shape) * 4);
}

function width({ sessions }: SharedShape): number {
  return Math.min(MAX_WIDTH, 2 ** Math.ceil(Math.log2(Math.max(1024, sessions * 2))));
}

/** Int32s of one worker: the number of its sessions, then the rows; even, so that nothing is misaligned. */
function sectionLength(shape: SharedShape): number {
  return 2 + ROWS * width(shape);
}

export class SharedState {
  /** What was asked for last: each session of a client asks three times. */
  private lastIp = "";
  private lastPlaces: readonly number[] = [];
  private readonly held: BigInt64Array<ArrayBuffer>;
  private readonly sections: readonly Int32Array<ArrayBuffer>[];
  private readonly mask: number;

  /** `memory`: `sharedOctets(shape)` octets, zero at first. */
  constructor(memory: ArrayBuffer, shape: SharedShape) {
    const length = sectionLength(shape);
    const base = shape.workers * HELD_OCTETS;
    this.mask = width(shape) - 1;
    this.held = new BigInt64Array(memory, 0, shape.workers);
    this.sections = Array.from(
      { length: shape.workers },
      (_, worker) => new Int32Array(memory, base + worker * length * 4, length),
    );
  }

  /** Nothing of this worker counts any more: it is gone. */
  clear(worker: number): void {
    this.section(worker).fill(0);
    Atomics.store(this.held, worker, 0n);
  }

  counts(worker: number): SessionCounts {
    const own = this.section(worker);
    const add = (ip: string, count: number): void => {
      Atomics.add(own, 0, count);
      for (const place of this.places(ip)) Atomics.add(own, place, count);
    };
    return {
      all: () => this.sum(0),
      ofProcess: () => Atomics.load(own, 0),
      ofClient: (ip) => Math.min(...this.places(ip).map((place) => this.sum(place))),
      opened: (ip) => add(ip, 1),
      closed: (ip) => add(ip, -1),
    };
  }

  pool(worker: number, total: number): OctetPool {
    return {
      isShared: true,
      take: (octets) => {
        Atomics.add(this.held, worker, BigInt(octets));
        let sum = 0n;
        for (let other = 0; other < this.held.length; other++) sum += Atomics.load(this.held, other);
        if (sum <= BigInt(total)) return true;
        Atomics.sub(this.held, worker, BigInt(octets));
        return false;
      },
      give: (octets) => {
        Atomics.sub(this.held, worker, BigInt(octets));
      },
    };
  }

  private section(worker: number): Int32Array<ArrayBuffer> {
    const section = this.sections[worker];
    if (section === undefined) throw new RangeError(`no worker ${worker}`);
    return section;
  }

  private sum(place: number): number {
    let sum = 0;
    for (const section of this.sections) sum += Atomics.load(section, place);
    return sum;
  }

  /** The counters of an address, one in each row. */
  private places(ip: string): readonly number[] {
    if (ip === this.lastIp) return this.lastPlaces;
    const first = hash(ip, 0x811c9dc5);
    // Odd, so that its multiples reach every counter of a row (Kirsch and Mitzenmacher: two hashes do for all rows).
    const step = hash(ip, 0x01000193) | 1;
    this.lastIp = ip;
    this.lastPlaces = Array.from(
      { length: ROWS },
      (_, row) => 2 + row * (this.mask + 1) + (mix(first + row * step) & this.mask),
    );
    return this.lastPlaces;
  }
}

/** FNV-1a; the addresses are those that connected, and nobody gains by a collision but a 421 for himself. */
function hash(text: string, seed: number): number {
  let value = seed | 0;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value;
}

function mix(value: number): number {
  let mixed = value | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
  return mixed ^ (mixed >>> 16);
}
