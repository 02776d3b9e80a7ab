/**
 * Tiers with hysteresis and a dwell time. A low tier (`enter` < `leave`) is entered at or below `enter` and left at or
 * above `leave`; a high tier (`enter` > `leave`) the other way round; between them lies `neutral`. Leaving an extreme tier
 * leads into the next milder one of its side whose `leave` is not reached. Getting worse happens at once; a tier is kept
 * for at least `dwell` before it may improve, so a score that swings around a threshold changes it at most once per dwell.
 */

export const NEUTRAL = "neutral";

export interface TierThresholds {
  readonly enter: number;
  readonly leave: number;
}
export interface TierSettings {
  readonly tiers: Readonly<Record<string, TierThresholds>>;
  readonly dwellMs: number;
}
/** The tiers in the order they are asked: per side, the most extreme first. */
export interface TierLadder {
  readonly low: readonly (TierThresholds & { readonly name: string })[];
  readonly high: readonly (TierThresholds & { readonly name: string })[];
  readonly dwellMs: number;
}
export interface TierState {
  readonly tier: string;
  /** When it was entered (ms); 0: never changed. */
  readonly since: number;
}

export const DEFAULT_TIERS: TierSettings["tiers"] = {
  poor: { enter: 0.35, leave: 0.5 },
  good: { enter: 0.85, leave: 0.75 },
};
export const DEFAULT_DWELL_MS = 600_000;

/** Throws a RangeError for thresholds that make no tier. */
export function ladder(settings: TierSettings): TierLadder {
  const named = Object.entries(settings.tiers).map(([name, { enter, leave }]) => ({ name, enter, leave }));
  for (const { name, enter, leave } of named) {
    if (name === NEUTRAL) throw new RangeError("the tier neutral is what lies between the others");
    if (!(enter >= 0 && enter <= 1 && leave >= 0 && leave <= 1) || enter === leave) {
      throw new RangeError(`tier ${name}: enter and leave are different numbers from 0 to 1`);
    }
  }
  return {
    low: named.filter((tier) => tier.enter < tier.leave).sort((a, b) => a.enter - b.enter),
    high: named.filter((tier) => tier.enter > tier.leave).sort((a, b) => b.enter - a.enter),
    dwellMs: settings.dwellMs,
  };
}

/** The tier that a score asks for, given the one that holds now; no dwell. */
export function askedTier(current: string, score: number, { low, high }: TierLadder): string {
  const heldLow = indexIn(low, current);
  for (let i = 0; i < low.length; i += 1) {
    const { name, enter, leave } = low[i]!;
    if (score <= enter || (heldLow >= 0 && heldLow <= i && score < leave)) return name;
  }
  const heldHigh = indexIn(high, current);
  for (let i = 0; i < high.length; i += 1) {
    const { name, enter, leave } = high[i]!;
    if (score >= enter || (heldHigh >= 0 && heldHigh <= i && score > leave)) return name;
  }
  return NEUTRAL;
}

function indexIn(side: TierLadder["low"], tier: string): number {
  return side.findIndex(({ name }) => name === tier);
}

/** Where a tier stands: negative below neutral, 0 neutral (or unknown), positive above. */
export function tierRank(name: string, { low, high }: TierLadder): number {
  const lowIndex = indexIn(low, name);
  if (lowIndex >= 0) return lowIndex - low.length;
  const highIndex = indexIn(high, name);
  return highIndex >= 0 ? high.length - highIndex : 0;
}

/** The state after looking at `score` at `now`. Returns the same object where nothing changed. */
export function nextTier(state: TierState, score: number, now: number, tiers: TierLadder): TierState {
  const asked = askedTier(state.tier, score, tiers);
  if (asked === state.tier) return state;
  const improves = tierRank(asked, tiers) > tierRank(state.tier, tiers);
  if (improves && state.since > 0 && now - state.since < tiers.dwellMs) return state;
  return { tier: asked, since: now };
}
