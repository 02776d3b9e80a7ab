/** What the sender's script takes and gives, as values of this program. */
import { COUNTERS, type Counts, type Tally } from "../reputation/counts.ts";
import type { SenderRecord } from "../reputation/standing.ts";
import type { ReputationSettings } from "../reputation/store.ts";

export interface SenderReply {
  readonly record: SenderRecord;
  readonly known: boolean;
  readonly tierBefore: string;
  readonly score: number;
}

/** Redis' times become this host's, so that the snapshot can go on from there. */
export function senderReply(reply: string, settings: ReputationSettings, now: number): SenderReply {
  const [, redisNow, total, tier, tierAt, pin, known, tierBefore, scoreText, ...numbers] = reply.split("\0");
  const windows = settings.score.halfLivesMs.map((_, i) => {
    const at = i * COUNTERS.length;
    return Object.fromEntries(COUNTERS.map((name, j) => [name, Number(numbers[at + j] ?? 0)])) as Tally;
  });
  const since = Number(tierAt) === 0 ? 0 : now - (Number(redisNow) - Number(tierAt));
  const record: SenderRecord = {
    counts: { at: now, total: Number(total), windows },
    tier: { tier: tier!, since },
    pin: pin === "" ? undefined : pin!,
  };
  return { record, known: known === "1", tierBefore: tierBefore!, score: Number(scoreText) };
}

/** The script's last arguments: five numbers per half-life. */
export function talliesOf(counts: Counts): readonly number[] {
  return counts.windows.flatMap((window) => COUNTERS.map((name) => window[name]));
}
