/**
 * Messages of the day per source IP and provider, as far as this process knows. The two days used last are kept, whichever
 * they are: a clock that was ahead for a while has counted into its own day, and finds today's numbers when it is right.
 * Of each day, the pairs that were used last: a destination may greet with another name each time.
 */
import { DEFAULT_THROTTLE } from "../deliverability/throttle.ts";
import { BoundedMap } from "../egress/bounded-map.ts";

const DAYS = 2;

export class DayMessages {
  readonly #days = new BoundedMap<string, BoundedMap<string, number>>(DAYS);
  #day = "";

  add(pair: string, day: string, messages: number): void {
    const counts = this.#counts(day);
    counts.set(pair, (counts.get(pair) ?? 0) + messages);
  }

  set(pair: string, day: string, messages: number): void {
    this.#counts(day).set(pair, messages);
  }

  get(pair: string, day: string): number {
    return this.#days.get(day)?.get(pair) ?? 0;
  }

  /** The day that was counted into last, which `entries` are of. */
  get day(): string {
    return this.#day;
  }

  entries(): Generator<[string, number]> {
    return this.#counts(this.#day).entries();
  }

  #counts(day: string): BoundedMap<string, number> {
    this.#day = day;
    const known = this.#days.get(day);
    if (known !== undefined) return known;
    const counts = new BoundedMap<string, number>(DEFAULT_THROTTLE.maxPairs);
    this.#days.set(day, counts);
    return counts;
  }
}
