/**
 * One sender's record as a store holds it, and what it says at a given time. The Lua script of the Redis store does the
 * same arithmetic; a test holds the two together.
 */
import { type Counts, counted, decayed, emptyCounts, type Tally } from "./counts.ts";
import { score } from "./score.ts";
import type { ReputationSettings, Standing } from "./store.ts";
import { NEUTRAL, nextTier, type TierState } from "./tiers.ts";

export interface SenderRecord {
  readonly counts: Counts;
  readonly tier: TierState;
  readonly pin: string | undefined;
}

export function newRecord(settings: ReputationSettings, now: number): SenderRecord {
  return {
    counts: emptyCounts(settings.score.halfLivesMs, now),
    tier: { tier: NEUTRAL, since: 0 },
    pin: undefined,
  };
}

/** The record as it is at `now`: decayed, its tier moved where the score asks for it. */
export function recordAt(record: SenderRecord, settings: ReputationSettings, now: number): SenderRecord {
  return judged(record, decayed(record.counts, settings.score.halfLivesMs, now), settings, now).record;
}

/** The record with counts that are as of `now`, and the score that they give. */
function judged(
  { tier, pin }: SenderRecord,
  counts: Counts,
  settings: ReputationSettings,
  now: number,
): { readonly record: SenderRecord; readonly score: number } {
  const value = score(counts.windows, settings.score);
  return { record: { counts, tier: nextTier(tier, value, now, settings.ladder), pin }, score: value };
}

export function recordWith(
  record: SenderRecord,
  tally: Tally,
  recipients: number,
  settings: ReputationSettings,
  now: number,
): SenderRecord {
  const counts = counted(record.counts, tally, recipients, settings.score.halfLivesMs, now);
  return judged(record, counts, settings, now).record;
}

export function standingOf(
  identity: string,
  record: SenderRecord | undefined,
  settings: ReputationSettings,
  now: number,
  source: Standing["source"] = "store",
  known = record !== undefined,
): Standing {
  const before = record ?? newRecord(settings, now);
  const counts = decayed(before.counts, settings.score.halfLivesMs, now);
  const { record: current, score: value } = judged(before, counts, settings, now);
  return {
    identity,
    score: value,
    tier: current.pin ?? current.tier.tier,
    pin: current.pin,
    since: current.tier.since,
    counts: current.counts,
    known,
    source,
  };
}
