/**
 * How one source IP stands with one provider: normal, slowed, throttled or blocked.
 *
 *   normal ⇄ slowed        a stage is slower than its baseline (latency.ts), with hysteresis
 *   any → throttled        3 throttled answers in a row, or 3 and a fifth of the decayed answers; cools for 5 min
 *   any → blocked          the same with blocks of the IP; cools for 15 min
 *   throttled, blocked → slowed (on probation) when the time is over; 3 accepted in a row, or the same time again → normal;
 *   the next throttle on probation cools for twice as long, up to 1 h (throttled) and 24 h (blocked)
 *
 * A cooling IP is not used for that provider, and for that provider alone. Pure: the clock comes in; changes go out by a
 * callback. Bounded: the pair that was used longest ago is forgotten.
 */
import { BoundedMap } from "../egress/bounded-map.ts";
import {
  DEFAULT_LATENCY,
  type LatencySettings,
  type Stage,
  StageLatencies,
  type StageTimes,
} from "./latency.ts";
import { pairKey } from "./pair.ts";
import type { ReplyClass } from "./reply-classes.ts";

export type IpStateName = "normal" | "slowed" | "throttled" | "blocked";
/** Numbers as in the metric warp_ip_state. */
export const IP_STATE_NUMBERS = { normal: 0, slowed: 1, throttled: 2, blocked: 3 } as const;
/** What an answer says about the IP; undefined: nothing. */
export type Evidence = "ok" | "throttled" | "blocked";

export function evidenceOf(replyClass: string): Evidence | undefined {
  return EVIDENCE[replyClass as ReplyClass];
}
const EVIDENCE: Readonly<Partial<Record<ReplyClass, Evidence>>> = {
  accepted: "ok",
  "throttled-rate": "throttled",
  "throttled-connections": "throttled",
  "reputation-deferred": "throttled",
  "blocked-ip": "blocked",
};

export interface ThrottleSettings {
  /** Half-life of the counts of answers. */
  readonly halfLifeMs: number;
  /** So many in a row, or so many and `share` of all, change the state. */
  readonly run: number;
  readonly share: number;
  readonly throttledMs: number;
  readonly throttledMaxMs: number;
  readonly blockedMs: number;
  readonly blockedMaxMs: number;
  readonly maxPairs: number;
  readonly latency: LatencySettings;
}
export const DEFAULT_THROTTLE: ThrottleSettings = {
  halfLifeMs: 300_000,
  run: 3,
  share: 0.2,
  throttledMs: 300_000,
  throttledMaxMs: 3_600_000,
  blockedMs: 900_000,
  blockedMaxMs: 86_400_000,
  maxPairs: 20_000,
  latency: DEFAULT_LATENCY,
};

export interface IpView {
  readonly state: IpStateName;
  /** End of cooling or probation (ms); 0 where nothing runs out. */
  readonly until: number;
  readonly why: string;
}
export interface IpStateChange extends IpView {
  readonly ip: string;
  readonly provider: string;
  readonly from: IpStateName;
  readonly at: number;
}
/** Decayed numbers of answers. */
export interface IpAnswers {
  readonly ok: number;
  readonly throttled: number;
  readonly blocked: number;
}

interface Pair {
  readonly ip: string;
  readonly provider: string;
  at: number;
  answers: Record<Evidence, number>;
  runOf: Evidence | undefined;
  run: number;
  state: IpStateName;
  until: number;
  why: string;
  /** How often it cooled without a quiet time between. */
  level: number;
  readonly latencies: StageLatencies;
}

export class ThrottleBook {
  readonly #settings: ThrottleSettings;
  readonly #onChange: (change: IpStateChange) => void;
  readonly #pairs: BoundedMap<string, Pair>;

  constructor(settings: ThrottleSettings, onChange: (change: IpStateChange) => void) {
    this.#settings = settings;
    this.#onChange = onChange;
    this.#pairs = new BoundedMap(settings.maxPairs);
  }

  /** One transaction's answer, or a greeting's. */
  answered(ip: string, provider: string, evidence: Evidence, now: number): void {
    const pair = this.#pair(ip, provider, now);
    this.#expire(pair, now);
    this.#decay(pair, now);
    pair.answers[evidence] += 1;
    pair.run = pair.runOf === evidence ? pair.run + 1 : 1;
    pair.runOf = evidence;
    this.#judge(pair, pair.answers, now);
  }

  /** How long the stages of one transaction took. */
  timed(ip: string, provider: string, times: StageTimes, now: number): void {
    const pair = this.#pair(ip, provider, now);
    pair.latencies.addAll(times, now);
    this.#expire(pair, now);
    if (pair.state === "normal" && pair.latencies.isSlow) {
      const why = pair.latencies
        .slowStages()
        .map(({ stage, ms, baselineMs }) => `${stage} ${ms.toFixed(0)} ms, was ${baselineMs.toFixed(0)}`);
      this.#change(pair, "slowed", 0, why.join("; "), now);
    } else if (pair.state === "slowed" && pair.until === 0 && !pair.latencies.isSlow) {
      this.#change(pair, "normal", 0, "latency is back", now);
    }
  }

  /** As of now; changes whose time has come are made (and told) first. */
  view(ip: string, provider: string, now: number): IpView {
    const pair = this.#pairs.get(pairKey(ip, provider));
    if (pair === undefined) return { state: "normal", until: 0, why: "" };
    this.#expire(pair, now);
    return { state: pair.state, until: pair.until, why: pair.why };
  }

  /** The state of `view`, for those who decide by it. */
  state(ip: string, provider: string, now: number): IpStateName {
    const pair = this.#pairs.get(pairKey(ip, provider));
    if (pair === undefined) return "normal";
    this.#expire(pair, now);
    return pair.state;
  }

  answers(ip: string, provider: string, now: number): IpAnswers {
    const pair = this.#pairs.get(pairKey(ip, provider));
    if (pair === undefined) return { ok: 0, throttled: 0, blocked: 0 };
    this.#decay(pair, now);
    return { ...pair.answers };
  }

  baselines(ip: string, provider: string): Readonly<Partial<Record<Stage, number>>> {
    return this.#pairs.get(pairKey(ip, provider))?.latencies.baselines() ?? {};
  }

  /**
   * What other processes know of the pair: their counts with ours (decayed), and their state. A worse state that has not
   * run out is taken over; a milder one never makes ours milder.
   */
  merge(ip: string, provider: string, shared: SharedIp, now: number): void {
    const pair = this.#pair(ip, provider, now);
    this.#expire(pair, now);
    for (const [stage, ms] of Object.entries(shared.baselines)) pair.latencies.adopt(stage as Stage, ms, now);
    const worse = IP_STATE_NUMBERS[shared.state] > IP_STATE_NUMBERS[pair.state];
    if (worse && isCooling(shared.state) && shared.until > now) {
      this.#change(pair, shared.state, shared.until, shared.why, now);
    } else if (!isCooling(pair.state)) {
      this.#judge(pair, shared.answers, now);
    }
  }

  /** Everything that isn't normal, for a state file and for people. */
  *entries(): Generator<IpStateChange> {
    for (const [, { ip, provider, state, until, why, at }] of this.#pairs.entries()) {
      if (state !== "normal") yield { ip, provider, state, until, why, from: "normal", at };
    }
  }

  /** Puts back what `entries` gave. */
  restore(entry: IpStateChange, now: number): void {
    if (isCooling(entry.state) && entry.until <= now) return;
    const pair = this.#pair(entry.ip, entry.provider, now);
    this.#change(pair, entry.state, entry.until, entry.why, now);
  }

  #judge(pair: Pair, answers: IpAnswers, now: number): void {
    const { run, blockedMs, blockedMaxMs, throttledMs, throttledMaxMs } = this.#settings;
    const blocked = pair.state === "blocked" ? undefined : this.#reason(pair, answers, "blocked");
    const throttled = isCooling(pair.state) ? undefined : this.#reason(pair, answers, "throttled");
    if (blocked !== undefined) {
      // Throttled and then blocked is one cooling, not two.
      const level = isCooling(pair.state) ? pair.level - 1 : pair.level;
      this.#cool(pair, "blocked", Math.min(blockedMs * 2 ** level, blockedMaxMs), blocked, now);
    } else if (throttled !== undefined) {
      this.#cool(pair, "throttled", Math.min(throttledMs * 2 ** pair.level, throttledMaxMs), throttled, now);
    } else if (pair.state === "slowed" && pair.until > 0 && pair.runOf === "ok" && pair.run >= run) {
      this.#change(pair, "normal", 0, `${pair.run} accepted in a row`, now);
    }
  }

  /** Why the answers are enough to cool the IP; undefined: they are not. */
  #reason(pair: Pair, answers: IpAnswers, evidence: "throttled" | "blocked"): string | undefined {
    if (pair.runOf !== evidence) return undefined;
    const { run, share } = this.#settings;
    const total = answers.ok + answers.throttled + answers.blocked;
    if (pair.run >= run) return `${pair.run} ${evidence} answers in a row`;
    if (answers[evidence] >= run && answers[evidence] >= share * total) {
      return `${Math.round(answers[evidence])} ${evidence} of the last ${Math.round(total)} answers`;
    }
    // On probation one is enough.
    const isOnProbation = pair.level > 0 && pair.state === "slowed" && pair.until > 0;
    return isOnProbation ? `a ${evidence} answer on probation` : undefined;
  }

  #cool(pair: Pair, state: "throttled" | "blocked", ms: number, why: string, now: number): void {
    pair.level = Math.min(pair.level + 1, 16);
    this.#change(pair, state, now + ms, why, now);
  }

  /** Cooling and probation end by the clock. */
  #expire(pair: Pair, now: number): void {
    if (pair.until === 0 || now < pair.until) return;
    if (isCooling(pair.state)) {
      const length = pair.state === "blocked" ? this.#settings.blockedMs : this.#settings.throttledMs;
      // Also where nobody looked for long: probation begins when somebody looks.
      pair.answers = { ok: 0, throttled: 0, blocked: 0 };
      pair.runOf = undefined;
      pair.run = 0;
      this.#change(pair, "slowed", now + length, `on probation after ${pair.state}`, now);
    } else {
      pair.level = Math.max(0, pair.level - 1);
      this.#change(pair, "normal", 0, "probation is over", now);
    }
  }

  #change(pair: Pair, state: IpStateName, until: number, why: string, now: number): void {
    const from = pair.state;
    pair.state = state;
    pair.until = until;
    pair.why = why;
    if (from === state) return;
    const { ip, provider } = pair;
    this.#onChange({ ip, provider, from, state, until, why, at: now });
  }

  #decay(pair: Pair, now: number): void {
    if (now <= pair.at) return;
    const factor = 2 ** (-(now - pair.at) / this.#settings.halfLifeMs);
    pair.answers.ok *= factor;
    pair.answers.throttled *= factor;
    pair.answers.blocked *= factor;
    pair.at = now;
  }

  #pair(ip: string, provider: string, now: number): Pair {
    const key = pairKey(ip, provider);
    const known = this.#pairs.get(key);
    if (known !== undefined) return known;
    const pair: Pair = {
      ip,
      provider,
      at: now,
      answers: { ok: 0, throttled: 0, blocked: 0 },
      runOf: undefined,
      run: 0,
      state: "normal",
      until: 0,
      why: "",
      level: 0,
      latencies: new StageLatencies(this.#settings.latency),
    };
    this.#pairs.set(key, pair);
    return pair;
  }
}

/** What the processes of all proxies know together about one pair. */
export interface SharedIp {
  readonly answers: IpAnswers;
  readonly state: IpStateName;
  readonly until: number;
  readonly why: string;
  readonly baselines: Readonly<Partial<Record<Stage, number>>>;
}

export function isCooling(state: IpStateName): state is "throttled" | "blocked" {
  return state === "throttled" || state === "blocked";
}
