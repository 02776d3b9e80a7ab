/**
 * What decisions need of the place where counters live. Implementations: src/stores/reputation-memory.ts and
 * src/stores/reputation-redis.ts. Nothing here ever makes mail wait beyond the store's budget, and nothing throws: a store
 * that is slow or down answers from what it last knew.
 */
import type { Counts, Tally } from "./counts.ts";
import type { ScoreSettings } from "./score.ts";
import type { TierLadder } from "./tiers.ts";

export interface ReputationSettings {
  readonly score: ScoreSettings;
  readonly ladder: TierLadder;
}

/** What is known of a sender now. */
export interface Standing {
  readonly identity: string;
  /** 0 to 1. */
  readonly score: number;
  /** The one that rules match: set by hand, else by the score. */
  readonly tier: string;
  /** Set by hand, or undefined. */
  readonly pin: string | undefined;
  /** When the score's own tier was entered, ms; 0: never changed. */
  readonly since: number;
  readonly counts: Counts;
  /** False: nothing was ever counted (or it has expired). */
  readonly known: boolean;
  /** Where it comes from: the store, or the local snapshot because the store was slow or down. */
  readonly source: "store" | "snapshot";
}

export interface ReputationStore {
  /** At once where it is known locally, else a promise that resolves within the budget. Never rejects. */
  standing(identity: string): Standing | Promise<Standing>;
  /** Adds outcomes. Bounded and never blocking: what can't be written now is written later. */
  count(identity: string, tally: Tally, recipients: number): void;
}

/** For people who look and correct (`warp reputation`); these may reject. */
export interface ReputationAdmin {
  show(identity: string): Promise<Standing>;
  /** Senders of the lowest score, worst first. */
  top(limit: number): Promise<readonly Standing[]>;
  /** Overwrites counters of every half-life (absent: left alone) and pins a tier (null: unpins). */
  set(identity: string, change: StandingChange): Promise<void>;
  /** Forgets the sender. True where something was known. */
  reset(identity: string): Promise<boolean>;
  close(): Promise<void>;
}
export interface StandingChange {
  readonly counts?: Partial<Tally>;
  readonly pin?: string | null;
}
