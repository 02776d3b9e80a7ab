/**
 * Exponentially decayed counts of a sender's outcomes, one set per half-life. A count `c` of age `a` weighs
 * `c · 2^(−a / halfLife)`, so adding and decaying commute: proxies that add into the same set at different times get the
 * same sum in any order. The clock comes in as a number (ms since 1970).
 */

/** What is counted per recipient: accepted, deferred, refused, unknown recipient, spam evidence. */
export const COUNTERS = ["ok", "defer", "refuse", "unknown", "spam"] as const;
export type Counter = (typeof COUNTERS)[number];
export type Tally = Readonly<Record<Counter, number>>;

export interface Counts {
  /** When the counts were last decayed. */
  readonly at: number;
  /** Recipients counted ever, not decayed. */
  readonly total: number;
  /** One tally per half-life, in the order of the settings. */
  readonly windows: readonly Tally[];
}

export const EMPTY_TALLY: Tally = { ok: 0, defer: 0, refuse: 0, unknown: 0, spam: 0 };

/** What is left of 1 after `elapsedMs`. A clock that went backwards decays nothing. */
export function remaining(elapsedMs: number, halfLifeMs: number): number {
  return elapsedMs <= 0 ? 1 : 2 ** (-elapsedMs / halfLifeMs);
}

export function emptyCounts(halfLivesMs: readonly number[], at: number): Counts {
  return { at, total: 0, windows: halfLivesMs.map(() => EMPTY_TALLY) };
}

export function plus(a: Tally, b: Tally): Tally {
  return {
    ok: a.ok + b.ok,
    defer: a.defer + b.defer,
    refuse: a.refuse + b.refuse,
    unknown: a.unknown + b.unknown,
    spam: a.spam + b.spam,
  };
}

export function times(a: Tally, factor: number): Tally {
  return {
    ok: a.ok * factor,
    defer: a.defer * factor,
    refuse: a.refuse * factor,
    unknown: a.unknown * factor,
    spam: a.spam * factor,
  };
}

function scaledPlus(a: Tally, factor: number, b: Tally): Tally {
  return {
    ok: a.ok * factor + b.ok,
    defer: a.defer * factor + b.defer,
    refuse: a.refuse * factor + b.refuse,
    unknown: a.unknown * factor + b.unknown,
    spam: a.spam * factor + b.spam,
  };
}

/** The same counts as seen at `now`; time never runs backwards. */
export function decayed(counts: Counts, halfLivesMs: readonly number[], now: number): Counts {
  if (now <= counts.at) return counts;
  const elapsed = now - counts.at;
  return {
    at: now,
    total: counts.total,
    windows: halfLivesMs.map((halfLife, i) =>
      times(counts.windows[i] ?? EMPTY_TALLY, remaining(elapsed, halfLife)),
    ),
  };
}

/** Counts with one more tally that happened at `now`, for `recipients` recipients. */
export function counted(
  counts: Counts,
  tally: Tally,
  recipients: number,
  halfLivesMs: readonly number[],
  now: number,
): Counts {
  const elapsed = now - counts.at;
  return {
    at: Math.max(counts.at, now),
    total: counts.total + recipients,
    windows: halfLivesMs.map((halfLife, i) =>
      scaledPlus(counts.windows[i] ?? EMPTY_TALLY, remaining(elapsed, halfLife), tally),
    ),
  };
}

/** Adds counts that waited elsewhere (they may be older or newer than the base). */
export function merged(base: Counts, other: Counts, halfLivesMs: readonly number[]): Counts {
  const now = Math.max(base.at, other.at);
  const a = decayed(base, halfLivesMs, now);
  const b = decayed(other, halfLivesMs, now);
  return {
    at: now,
    total: a.total + b.total,
    windows: a.windows.map((window, i) => plus(window, b.windows[i] ?? EMPTY_TALLY)),
  };
}
