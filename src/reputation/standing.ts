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
  const counts = decayed(record.counts, settings.score.halfLivesMs, now);
  const value = score(counts.windows, settings.score);
  const tier = nextTier(record.tier, value, now, settings.ladder);
  return { counts, tier, pin: record.pin };
}

export function recordWith(
  record: SenderRecord,
  tally: Tally,
  recipients: number,
  settings: ReputationSettings,
  now: number,
): SenderRecord {
  const counts = counted(record.counts, tally, recipients, settings.score.halfLivesMs, now);
  return recordAt({ ...record, counts }, settings, now);
}

export function standingOf(
  identity: string,
  record: SenderRecord | undefined,
  settings: ReputationSettings,
  now: number,
  source: Standing["source"] = "store",
): Standing {
  const current = recordAt(record ?? newRecord(settings, now), settings, now);
  return {
    identity,
    score: score(current.counts.windows, settings.score),
    tier: current.pin ?? current.tier.tier,
    pin: current.pin,
    since: current.tier.since,
    counts: current.counts,
    known: record !== undefined,
    source,
  };
}
