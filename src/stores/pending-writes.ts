/**
 * Outcomes on their way to Redis. Those of one sender add up while they wait; once given a sequence they are frozen and go
 * out unchanged until Redis has said that it has them, so a repeated write counts once. One write per sender is under way
 * at a time, which keeps each key's sequences in order, whatever Redis Cluster does with redirections. Bounded by senders.
 */
import { type Counts, counted, decayed, emptyCounts, type Tally } from "../reputation/counts.ts";

export interface PendingWrite {
  readonly identity: string;
  /** 0 until it is frozen. */
  sequence: number;
  counts: Counts;
  /** How many outcomes it holds. */
  updates: number;
  state: "waiting" | "sent" | "unsure";
}

export class PendingWrites {
  readonly #capacity: number;
  readonly #halfLivesMs: () => readonly number[];
  readonly #waiting = new Map<string, PendingWrite>();
  readonly #frozen = new Map<string, PendingWrite>();
  #sequence = 0;
  #sent = 0;

  constructor(capacity: number, halfLivesMs: () => readonly number[]) {
    this.#capacity = capacity;
    this.#halfLivesMs = halfLivesMs;
  }

  /** Senders with outcomes that Redis has not confirmed. */
  get size(): number {
    return this.#waiting.size + this.#frozen.size;
  }
  /** Writes that were sent and not answered. */
  get sent(): number {
    return this.#sent;
  }

  /** False: there was no room, the outcome is lost. */
  add(identity: string, tally: Tally, recipients: number, now: number): boolean {
    const halfLives = this.#halfLivesMs();
    let write = this.#waiting.get(identity);
    if (write === undefined) {
      if (this.size >= this.#capacity) return false;
      write = { identity, sequence: 0, counts: emptyCounts(halfLives, now), updates: 0, state: "waiting" };
      this.#waiting.set(identity, write);
    }
    // What waits decays as it would in Redis.
    write.counts = counted(write.counts, tally, recipients, halfLives, now);
    write.updates += 1;
    return true;
  }

  /** The next writes to send, at most so that `window` are under way: unsure ones first. */
  take(window: number, now: number): readonly PendingWrite[] {
    const taken: PendingWrite[] = [];
    const send = (write: PendingWrite) => {
      write.counts = decayed(write.counts, this.#halfLivesMs(), now);
      write.state = "sent";
      this.#sent += 1;
      taken.push(write);
    };
    for (const write of this.#frozen.values()) {
      if (this.#sent >= window) return taken;
      if (write.state === "unsure") send(write);
    }
    for (const [identity, write] of this.#waiting) {
      if (this.#sent >= window) return taken;
      if (this.#frozen.has(identity)) continue;
      this.#waiting.delete(identity);
      this.#sequence += 1;
      write.sequence = this.#sequence;
      this.#frozen.set(identity, write);
      send(write);
    }
    return taken;
  }

  /** Redis has it (or will never take it). */
  done(write: PendingWrite): void {
    this.#frozen.delete(write.identity);
    this.#sent -= 1;
  }

  /** No answer came: it is sent again, with the same sequence. */
  unsure(write: PendingWrite): void {
    write.state = "unsure";
    this.#sent -= 1;
  }

  /** Of one sender: what waits, not what is under way. */
  waiting(identity: string): Counts | undefined {
    return this.#waiting.get(identity)?.counts;
  }

  /** Outcomes that are not confirmed. */
  get updates(): number {
    let sum = 0;
    for (const write of this.#waiting.values()) sum += write.updates;
    for (const write of this.#frozen.values()) sum += write.updates;
    return sum;
  }
}
