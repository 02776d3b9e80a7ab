// Settings whose counters practically don't decay within a test, so that sums can be compared exactly.
import { DEFAULT_PRIOR, DEFAULT_STRENGTH, DEFAULT_WEIGHTS } from "../../src/reputation/score.ts";
import type { ReputationSettings } from "../../src/reputation/store.ts";
import { DEFAULT_DWELL_MS, DEFAULT_TIERS, ladder } from "../../src/reputation/tiers.ts";

export function settingsWith(halfLivesMs: readonly number[]): ReputationSettings {
  return {
    score: { halfLivesMs, prior: DEFAULT_PRIOR, strength: DEFAULT_STRENGTH, weights: DEFAULT_WEIGHTS },
    ladder: ladder({ tiers: DEFAULT_TIERS, dwellMs: DEFAULT_DWELL_MS }),
  };
}
const YEAR = 365 * 86_400_000;
export const TEST_SETTINGS = settingsWith([1_000 * YEAR, 2_000 * YEAR]);
