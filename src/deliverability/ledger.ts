/**
 * What processes tell one another about source IPs and providers: counts of answers, states, messages of the day. Nothing
 * here waits: numbers go out in the background, and what others know comes back through a listener.
 */

import type { Stage } from "./latency.ts";
import type { IpAnswers, IpStateChange, SharedIp } from "./throttle.ts";

export interface IpLedger {
  /** Adds answers (not decayed) and says how long the stages take here. */
  countAnswers(
    ip: string,
    provider: string,
    answers: IpAnswers,
    /** Asked for where they are shared. */
    baselines: () => Readonly<Partial<Record<Stage, number>>>,
  ): void;
  shareState(change: IpStateChange): void;
  countMessages(ip: string, provider: string, day: string, messages: number): void;
  /** Messages of a day ("20260301", UTC), as far as it is known here. */
  messages(ip: string, provider: string, day: string): number;
  /** Asks for the messages of a day that others counted, in the background, at most every few seconds per pair. */
  refreshMessages(ip: string, provider: string, day: string): void;
  /** Asks what others know of a pair, in the background. Pairs that cool down somewhere are told without being asked for. */
  ask(ip: string, provider: string): void;
  /** Called with what all processes know together. One listener. */
  listen(listener: (ip: string, provider: string, shared: SharedIp) => void): void;
}

const DAY_MS = 86_400_000;
let lastDay = { number: -1, text: "" };

/** UTC day of a time, as in the keys: "20260301". Asked for with every message, so the last answer is kept. */
export function dayOf(now: number): string {
  const number = Math.floor(now / DAY_MS);
  if (lastDay.number !== number) {
    lastDay = { number, text: new Date(now).toISOString().slice(0, 10).replaceAll("-", "") };
  }
  return lastDay.text;
}
