/**
 * Keeps a label bounded to the busiest values: the first `slots` get a place, and a newcomer takes the place of the
 * least busy one when it has been clearly busier of late. Counts fade, so that yesterday's traffic holds no place.
 */
const OTHER = "other";
/** Counts are halved after so many uses; candidates without a place that fall below 1 are forgotten. */
const FADE_AFTER = 10_000;
/** How much busier a newcomer has to be, so that two don't take turns. */
const ADVANTAGE = 2;
const CANDIDATES = 1000;

export class Busiest {
  readonly #slots: number;
  /** Called with a value that lost its place, so that its series can end. */
  readonly #onLost: (value: string) => void;
  readonly #placed = new Map<string, number>();
  readonly #waiting = new Map<string, number>();
  #uses = 0;

  constructor(slots: number, onLost: (value: string) => void) {
    this.#slots = slots;
    this.#onLost = onLost;
  }

  /** Counts one use; gives the value itself where it has a place, else "other". Empty is "other". */
  label(value: string): string {
    if (value === "" || value === OTHER) return OTHER;
    if (++this.#uses % FADE_AFTER === 0) this.#fade();
    const placed = this.#placed.get(value);
    if (placed !== undefined) {
      this.#placed.set(value, placed + 1);
      return value;
    }
    if (this.#placed.size < this.#slots) {
      this.#placed.set(value, 1);
      return value;
    }
    return this.#challenge(value);
  }
  /** Without counting. */
  peek(value: string): string {
    return this.#placed.has(value) ? value : OTHER;
  }

  #challenge(value: string): string {
    const count = (this.#waiting.get(value) ?? 0) + 1;
    // Only every tenth use looks for the least busy one: that costs a walk over all places.
    const [least, leastCount] = count % 10 === 0 ? this.#leastBusy() : [undefined, Number.POSITIVE_INFINITY];
    if (least !== undefined && count > leastCount * ADVANTAGE) {
      this.#placed.delete(least);
      this.#waiting.delete(value);
      this.#placed.set(value, count);
      this.#onLost(least);
      return value;
    }
    if (this.#waiting.has(value) || this.#waiting.size < CANDIDATES) this.#waiting.set(value, count);
    return OTHER;
  }
  #leastBusy(): [string | undefined, number] {
    let least: string | undefined;
    let leastCount = Number.POSITIVE_INFINITY;
    for (const [value, count] of this.#placed) {
      if (count >= leastCount) continue;
      least = value;
      leastCount = count;
    }
    return [least, leastCount];
  }
  #fade(): void {
    for (const [value, count] of this.#placed) this.#placed.set(value, count / 2);
    for (const [value, count] of this.#waiting) {
      if (count < 2) this.#waiting.delete(value);
      else this.#waiting.set(value, Math.floor(count / 2));
    }
  }
}
