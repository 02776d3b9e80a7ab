/**
 * What goes wrong with Redis, by its text: each trouble is news once, until it is over. It is over when whoever has this
 * says so (Redis is ready anew), or when a minute has passed without it.
 */
const QUIET_MS = 60_000;
/** More at a time are no news any more. */
const MAX_TROUBLES = 32;

export class RedisTroubles {
  readonly #monotonic: () => number;
  /** When each was last seen. */
  readonly #seen = new Map<string, number>();

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  isNew(text: string): boolean {
    const now = this.#monotonic();
    for (const [known, at] of this.#seen) {
      if (now - at >= QUIET_MS) this.#seen.delete(known);
    }
    const isKnown = this.#seen.has(text);
    if (!isKnown && this.#seen.size >= MAX_TROUBLES) return false;
    this.#seen.set(text, now);
    return !isKnown;
  }

  over(): void {
    this.#seen.clear();
  }
}
