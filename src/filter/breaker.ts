/**
 * Keeps a filter that no longer answers from delaying every message by its whole deadline: after five deadline failures in
 * a row it fails at once for ten seconds, then one call tries it again. Pure: the clock comes in as an argument (ms).
 */
export const BREAKER_FAILURES = 5;
export const BREAKER_OPEN_MS = 10_000;

/** One admitted call; hand it back to `settled`. */
export interface Admitted {
  /** The one call that tries an open breaker. */
  readonly trial: boolean;
}
/** `ignored`: nothing was learnt of the hook (the client left, or the chain had too little time for it). */
export type Settled = "answered" | "deadline" | "ignored";

export class Breaker {
  private failures = 0;
  private openUntil = 0;
  private trying = false;

  /** Undefined: fail at once. */
  admit(now: number): Admitted | undefined {
    if (!this.isOpen) return { trial: false };
    if (this.trying || now < this.openUntil) return undefined;
    this.trying = true;
    return { trial: true };
  }

  settled(call: Admitted, how: Settled, now: number): void {
    if (call.trial) this.trying = false;
    if (how === "answered") this.failures = 0;
    if (how !== "deadline") return;
    this.failures++;
    // Calls that began before it opened and end later prolong nothing.
    if (call.trial || this.failures === BREAKER_FAILURES) this.openUntil = now + BREAKER_OPEN_MS;
  }

  get isOpen(): boolean {
    return this.failures >= BREAKER_FAILURES;
  }
}
