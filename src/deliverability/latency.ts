/**
 * Is a stage of the dialogue slower than it used to be? Each stage has a baseline (mean of the logarithm, decayed with a
 * half-life of an hour) and a fast mean over its last few samples. Logarithms, because latencies span orders of magnitude
 * and one outlier must not move the mean. The clock comes in as a number (ms).
 */
import type { Timing } from "../events/events.ts";

export const STAGES = ["connect", "greeting", "ehlo", "tls", "mail", "rcpt", "data", "end_of_data"] as const;
export type Stage = (typeof STAGES)[number];
/** How long the stages of one transaction took, ms; undefined: not reached. */
export type StageTimes = Partial<Omit<Timing, "filterMs" | "elapseMs">>;

export interface LatencySettings {
  readonly baselineHalfLifeMs: number;
  /** Weight of the newest sample in the fast mean. */
  readonly fastShare: number;
  /** Baselines of less weight say nothing yet. */
  readonly minSamples: number;
  /** Slow at `enter` times the baseline and at least `minExtraMs` above it; over at `leave` times. */
  readonly enter: number;
  readonly leave: number;
  readonly minExtraMs: number;
}
export const DEFAULT_LATENCY: LatencySettings = {
  baselineHalfLifeMs: 3_600_000,
  fastShare: 0.25,
  minSamples: 20,
  enter: 4,
  leave: 2,
  minExtraMs: 500,
};

interface Series {
  at: number;
  weight: number;
  baseline: number;
  fast: number;
  slow: boolean;
}

export class StageLatencies {
  readonly #settings: LatencySettings;
  readonly #series = new Map<Stage, Series>();
  /** The stages of one transaction decay by the same factor. */
  #decay = { elapsedMs: 0, factor: 1 };
  #slow = 0;

  constructor(settings: LatencySettings) {
    this.#settings = settings;
  }

  /** Some stage is slow now. */
  get isSlow(): boolean {
    return this.#slow > 0;
  }

  addAll(times: StageTimes, now: number): void {
    if (times.connectMs !== undefined) this.add("connect", times.connectMs, now);
    if (times.greetingMs !== undefined) this.add("greeting", times.greetingMs, now);
    if (times.ehloMs !== undefined) this.add("ehlo", times.ehloMs, now);
    if (times.tlsMs !== undefined) this.add("tls", times.tlsMs, now);
    if (times.mailMs !== undefined) this.add("mail", times.mailMs, now);
    if (times.rcptMs !== undefined) this.add("rcpt", times.rcptMs, now);
    if (times.dataMs !== undefined) this.add("data", times.dataMs, now);
    if (times.endOfDataMs !== undefined) this.add("end_of_data", times.endOfDataMs, now);
  }

  add(stage: Stage, ms: number, now: number): void {
    const { fastShare, minSamples } = this.#settings;
    const sample = Math.log(Math.max(ms, 0.1));
    const series = this.#series.get(stage);
    if (series === undefined) {
      this.#series.set(stage, { at: now, weight: 1, baseline: sample, fast: sample, slow: false });
      return;
    }
    series.fast += fastShare * (sample - series.fast);
    if (now > series.at) {
      series.weight *= this.#remaining(now - series.at);
      series.at = now;
    }
    // A slow time moves its own baseline only a little: it must not look normal at once, and may in the end.
    const share = series.slow ? 0.1 : 1;
    series.weight += share;
    series.baseline += (share / series.weight) * (sample - series.baseline);
    if (series.weight < minSamples) return;
    const isSlow = this.#isSlow(series);
    if (isSlow === series.slow) return;
    series.slow = isSlow;
    this.#slow += isSlow ? 1 : -1;
  }

  /** The stages that are slow now, each with its numbers in ms. */
  slowStages(): readonly { readonly stage: Stage; readonly ms: number; readonly baselineMs: number }[] {
    const stages: { stage: Stage; ms: number; baselineMs: number }[] = [];
    for (const [stage, { slow, fast, baseline }] of this.#series) {
      if (slow) stages.push({ stage, ms: Math.exp(fast), baselineMs: Math.exp(baseline) });
    }
    return stages;
  }

  /** Baselines in ms, for those who share them. */
  baselines(): Readonly<Partial<Record<Stage, number>>> {
    return Object.fromEntries(
      [...this.#series].map(([stage, { baseline }]) => [stage, Math.round(Math.exp(baseline) * 10) / 10]),
    );
  }

  /** Takes over a baseline that another process measured, where this one has none of its own. */
  adopt(stage: Stage, ms: number, now: number): void {
    if (this.#series.has(stage) || !(ms > 0)) return;
    const value = Math.log(ms);
    this.#series.set(stage, {
      at: now,
      weight: this.#settings.minSamples,
      baseline: value,
      fast: value,
      slow: false,
    });
  }

  #remaining(elapsedMs: number): number {
    if (this.#decay.elapsedMs !== elapsedMs) {
      this.#decay = { elapsedMs, factor: 2 ** (-elapsedMs / this.#settings.baselineHalfLifeMs) };
    }
    return this.#decay.factor;
  }

  #isSlow({ fast, baseline, slow }: Series): boolean {
    // Nearly always it is about as fast as ever, or faster.
    if (fast <= baseline) return false;
    const ratio = Math.exp(fast - baseline);
    if (slow) return ratio > this.#settings.leave;
    return ratio >= this.#settings.enter && Math.exp(fast) - Math.exp(baseline) >= this.#settings.minExtraMs;
  }
}
