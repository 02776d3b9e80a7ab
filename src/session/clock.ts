/** Time comes in from outside: the real clock, or a test's. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch, with fractions. */
  wall(): number;
  /** Monotonic milliseconds, with fractions. */
  now(): number;
  after(ms: number, run: () => void): Timer;
}

/** Wall time less monotonic time. Records have fractions of a ms, so that lines of one turn keep their distance. */
let offset = Date.now() - performance.now();

function wallTime(): number {
  const time = offset + performance.now();
  const drift = Date.now() - time;
  if (drift > 2 || drift < -2) offset += drift; // the system's clock was set, or runs at another speed
  return time;
}

export const systemClock: Clock = {
  wall: wallTime,
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

/**
 * A deadline that is set anew with every command: setting it later costs no timer. The one timer, when it runs out, looks
 * whether the deadline has moved on meanwhile.
 */
export class Deadline {
  private at = Number.POSITIVE_INFINITY;
  private timer: Timer | undefined;
  private timerAt = 0;
  private readonly clock: Clock;
  private readonly expired: () => void;

  constructor(clock: Clock, expired: () => void) {
    this.clock = clock;
    this.expired = expired;
  }

  set(ms: number): void {
    this.setAt(this.clock.now() + ms);
  }

  setAt(at: number): void {
    this.at = at;
    if (this.timer !== undefined && this.timerAt <= at) return;
    this.timer?.cancel();
    this.arm();
  }

  /** No deadline for now. */
  clear(): void {
    this.at = Number.POSITIVE_INFINITY;
  }

  /** For good: frees the timer. */
  stop(): void {
    this.clear();
    this.timer?.cancel();
    this.timer = undefined;
  }

  private arm(): void {
    this.timerAt = this.at;
    this.timer = this.clock.after(Math.max(0, this.at - this.clock.now()), () => {
      this.timer = undefined;
      if (this.at === Number.POSITIVE_INFINITY) return;
      if (this.at - this.clock.now() > 0.5) return this.arm();
      this.at = Number.POSITIVE_INFINITY;
      this.expired();
    });
  }
}
