/**
 * Reputation in this process alone: exact, bounded (the sender heard of longest ago is forgotten), and kept over a restart
 * where a state file is named (state-file.ts). The file is written whole, to a name beside it, and renamed.
 */

import type { IpLedger } from "../deliverability/ledger.ts";
import { pairKey } from "../deliverability/pair.ts";
import { DEFAULT_THROTTLE, type IpStateChange, type SharedIp } from "../deliverability/throttle.ts";
import { BoundedMap } from "../egress/bounded-map.ts";
import { EMPTY_TALLY, type Tally } from "../reputation/counts.ts";
import { newRecord, recordAt, recordWith, type SenderRecord, standingOf } from "../reputation/standing.ts";
import type {
  ReputationAdmin,
  ReputationSettings,
  ReputationStore,
  Standing,
  StandingChange,
} from "../reputation/store.ts";
import { NEUTRAL } from "../reputation/tiers.ts";
import { DayMessages } from "./ip-messages.ts";
import { type SavedState, StateFile } from "./state-file.ts";

export interface MemoryStoreOptions {
  readonly settings: ReputationSettings;
  /** ms since 1970. */
  readonly now: () => number;
  readonly maxSenders?: number;
  /** Kept over a restart; absent: nothing is. */
  readonly stateFile?: string | undefined;
  readonly saveEveryMs?: number;
  /** What went wrong with the state file; the store goes on without. */
  readonly onError?: (error: Error) => void;
}

const MAX_SENDERS = 100_000;
const SAVE_EVERY_MS = 30_000;
const CORRECTIONS_EVERY_MS = 1_000;

export class MemoryReputationStore implements ReputationStore, ReputationAdmin, IpLedger {
  readonly #options: MemoryStoreOptions;
  readonly #senders: BoundedMap<string, SenderRecord>;
  readonly #messages = new DayMessages();
  readonly #states = new BoundedMap<string, IpStateChange>(DEFAULT_THROTTLE.maxPairs);
  readonly #file: StateFile | undefined;
  #timers: NodeJS.Timeout[] = [];
  #settings: ReputationSettings;
  #expiryMs: number;
  #dirty = false;
  #isLeaving = false;
  #listener: ((ip: string, provider: string, shared: SharedIp) => void) | undefined;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    this.#settings = options.settings;
    this.#expiryMs = expiryMs(options.settings);
    this.#senders = new BoundedMap(options.maxSenders ?? MAX_SENDERS);
    this.#file = options.stateFile === undefined ? undefined : new StateFile(options.stateFile);
  }

  /** Reads the state file, where one is named. Gives when it was written (ms). Rejects where it can't be read. */
  async load(): Promise<number | undefined> {
    const saved = await this.#file?.read();
    if (saved !== undefined) this.#restore(saved);
    return saved?.savedAt;
  }

  /** Reads the state file and begins to keep it. */
  async open(): Promise<void> {
    await this.load();
    if (this.#file === undefined) return;
    this.#every(this.#options.saveEveryMs ?? SAVE_EVERY_MS, () => this.save());
    this.#every(CORRECTIONS_EVERY_MS, () => this.applyCorrections());
  }

  /** New half-lives, thresholds or weights; counters stay. */
  configure(settings: ReputationSettings): void {
    this.#settings = settings;
    this.#expiryMs = expiryMs(settings);
  }

  standing(identity: string): Standing {
    const now = this.#options.now();
    return standingOf(identity, this.#current(identity, now), this.#settings, now);
  }

  count(identity: string, tally: Tally, recipients: number): void {
    const now = this.#options.now();
    const record = this.#current(identity, now) ?? newRecord(this.#settings, now);
    this.#senders.set(identity, recordWith(record, tally, recipients, this.#settings, now));
    this.#dirty = true;
  }

  async show(identity: string): Promise<Standing> {
    return this.standing(identity);
  }

  async top(limit: number): Promise<readonly Standing[]> {
    const now = this.#options.now();
    return [...this.#senders.entries()]
      .map(([identity, record]) => standingOf(identity, record, this.#settings, now))
      .sort((a, b) => a.score - b.score)
      .slice(0, limit);
  }

  async set(identity: string, change: StandingChange): Promise<void> {
    const now = this.#options.now();
    const record = this.#current(identity, now) ?? newRecord(this.#settings, now);
    this.#senders.set(identity, changed(record, change, this.#settings, now));
    this.#dirty = true;
  }

  async reset(identity: string): Promise<boolean> {
    this.#dirty = true;
    return this.#senders.delete(identity);
  }

  countAnswers(): void {}

  shareState(change: IpStateChange): void {
    const id = pairKey(change.ip, change.provider);
    if (change.state === "normal") this.#states.delete(id);
    else this.#states.set(id, change);
    this.#dirty = true;
  }

  countMessages(ip: string, provider: string, day: string, messages: number): void {
    this.#messages.add(pairKey(ip, provider), day, messages);
    this.#dirty = true;
  }

  messages(ip: string, provider: string, day: string): number {
    return this.#messages.get(pairKey(ip, provider), day);
  }

  refreshMessages(): void {}

  ask(): void {}

  listen(listener: (ip: string, provider: string, shared: SharedIp) => void): void {
    this.#listener = listener;
    const answers = { ok: 0, throttled: 0, blocked: 0 };
    for (const [, { ip, provider, state, until, why }] of [...this.#states.entries()]) {
      this.#listener(ip, provider, { answers, state, until, why, baselines: {} });
    }
  }

  /** Writes the state file now, where one is named and something changed. */
  async save(): Promise<void> {
    if (this.#file === undefined || !this.#dirty) return;
    this.#dirty = false;
    try {
      await this.#file.write(this.#saved());
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
  }

  /** Takes what `warp reputation set` and `reset` left for a running proxy. */
  async applyCorrections(): Promise<void> {
    if (this.#isLeaving) return;
    for (const correction of (await this.#file?.takeCorrections()) ?? []) {
      if (correction.change === null) await this.reset(correction.identity);
      else await this.set(correction.identity, correction.change);
    }
  }

  /** This process ends: corrections are for the next one that has the file, which may be there already. */
  leaving(): void {
    this.#isLeaving = true;
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    await this.save();
  }

  #every(ms: number, work: () => Promise<void>): void {
    let running = false;
    const timer = setInterval(() => {
      if (running) return;
      running = true;
      work()
        .catch((error: Error) => this.#options.onError?.(error))
        .finally(() => {
          running = false;
        });
    }, ms);
    timer.unref();
    this.#timers.push(timer);
  }

  /** As it is now; forgotten where nothing was heard for four of the longest half-lives. */
  #current(identity: string, now: number): SenderRecord | undefined {
    const record = this.#senders.get(identity);
    if (record === undefined) return undefined;
    if (record.pin === undefined && now - record.counts.at > this.#expiryMs) {
      this.#senders.delete(identity);
      return undefined;
    }
    return record;
  }

  #saved(): SavedState {
    return {
      version: 1,
      savedAt: this.#options.now(),
      halfLivesMs: this.#settings.score.halfLivesMs,
      senders: [...this.#senders.entries()],
      day: this.#messages.day,
      messages: [...this.#messages.entries()],
      states: [...this.#states.entries()].map(([, state]) => state),
    };
  }

  #restore(saved: SavedState): void {
    const now = this.#options.now();
    for (const [identity, record] of saved.senders) {
      this.#senders.set(identity, recordAt(record, this.#settings, record.counts.at));
    }
    for (const [pair, messages] of saved.messages) this.#messages.set(pair, saved.day, messages);
    // Written by a clock that was ahead: an IP cools for the time that was left then.
    const ahead = Math.max(0, saved.savedAt - now);
    for (const state of saved.states) {
      const until = state.until - ahead;
      if (until > now) this.#states.set(pairKey(state.ip, state.provider), { ...state, until });
    }
  }
}

/** How long a sender is remembered: four times the longest half-life. */
export function expiryMs({ score }: ReputationSettings): number {
  return 4 * Math.max(...score.halfLivesMs);
}

/** A record with counters overwritten and a pin set or taken off. */
export function changed(
  record: SenderRecord,
  change: StandingChange,
  settings: ReputationSettings,
  now: number,
): SenderRecord {
  const current = recordAt(record, settings, now);
  const windows = settings.score.halfLivesMs.map((_, i) => ({
    ...(current.counts.windows[i] ?? EMPTY_TALLY),
    ...change.counts,
  }));
  const pin = change.pin === undefined ? current.pin : (change.pin ?? undefined);
  // A correction by hand takes effect at once: no dwell holds the tier that was wrong.
  const tier = change.counts === undefined ? current.tier : { tier: NEUTRAL, since: 0 };
  return recordAt({ counts: { ...current.counts, windows }, tier, pin }, settings, now);
}
