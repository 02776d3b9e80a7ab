/**
 * From counts to one number between 0 and 1. For each half-life, longest first:
 *
 *   good = ok        bad = w_defer·defer + w_refuse·refuse + w_unknown·unknown + w_spam·spam
 *   mean = (strength · prior + good) / (strength + good + bad)
 *
 * The prior of the longest window is the setting (so a new sender is neutral); each shorter window takes the mean of the
 * one before it as its prior (so a sender of few messages isn't judged by an empty hour). The score is the smallest mean:
 * a run of spam shows in the short window at once, and a good hour doesn't hide a bad day.
 * Bounded in (0, 1); more `ok` never lowers it, more of anything else never raises it.
 */
import { EMPTY_TALLY, type Tally } from "./counts.ts";

export interface ScoreSettings {
  /** Half-lives in ms; the order of the windows. */
  readonly halfLivesMs: readonly number[];
  /** Score of a sender of whom nothing is known. */
  readonly prior: number;
  /** How many recipients' answers the prior weighs. */
  readonly strength: number;
  readonly weights: ScoreWeights;
}
export interface ScoreWeights {
  readonly defer: number;
  readonly refuse: number;
  readonly unknown: number;
  readonly spam: number;
}

export const DEFAULT_WEIGHTS: ScoreWeights = { defer: 0.2, refuse: 2, unknown: 3, spam: 4 };
export const DEFAULT_PRIOR = 0.7;
export const DEFAULT_STRENGTH = 20;

export function badness(tally: Tally, weights: ScoreWeights): number {
  return (
    weights.defer * tally.defer +
    weights.refuse * tally.refuse +
    weights.unknown * tally.unknown +
    weights.spam * tally.spam
  );
}

/** `windows` as of now, one per half-life. */
export function score(windows: readonly Tally[], settings: ScoreSettings): number {
  const { strength, weights } = settings;
  let prior = settings.prior;
  let smallest = Number.POSITIVE_INFINITY;
  for (const i of longestFirst(settings.halfLivesMs)) {
    const tally = windows[i] ?? EMPTY_TALLY;
    prior = (strength * prior + tally.ok) / (strength + tally.ok + badness(tally, weights));
    if (prior < smallest) smallest = prior;
  }
  return smallest;
}

const orders = new WeakMap<readonly number[], readonly number[]>();

/** Indexes of the half-lives, the longest one's first; computed once per settings, since every message asks. */
export function longestFirst(halfLivesMs: readonly number[]): readonly number[] {
  let order = orders.get(halfLivesMs);
  if (order === undefined) {
    order = halfLivesMs.map((_, i) => i).sort((a, b) => halfLivesMs[b]! - halfLivesMs[a]!);
    orders.set(halfLivesMs, order);
  }
  return order;
}
