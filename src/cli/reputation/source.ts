/**
 * Where a command finds the counters: in Redis where the configuration names one, else in the state file of the proxy,
 * where corrections are left for it to take. What names a sender is an address, or an identity as events and keys have it.
 */

import type { Config } from "../../config/schema.ts";
import type { IpLedger } from "../../deliverability/ledger.ts";
import { noTelemetry } from "../../events/telemetry.ts";
import { IDENTITY_KINDS, identityOf } from "../../reputation/identity.ts";
import type { ReputationAdmin, Standing, StandingChange } from "../../reputation/store.ts";
import { NEUTRAL } from "../../reputation/tiers.ts";
import { RedisIpLedger } from "../../stores/ip-ledger-redis.ts";
import { redisClient } from "../../stores/redis-connection.ts";
import { MemoryReputationStore } from "../../stores/reputation-memory.ts";
import { RedisReputationStore } from "../../stores/reputation-redis.ts";
import { StateFile } from "../../stores/state-file.ts";
import { type ParsedOptions, UsageError } from "../options.ts";
import { reputationSettings } from "../proxy/egress.ts";

/** Longest wait of a command for Redis. */
const REDIS_MS = 5_000;

export interface CounterSource extends ReputationAdmin {
  readonly ledger: IpLedger;
  /** "Redis", or the file and how old it is. */
  readonly description: string;
}

/** Undefined where counters live in the proxy's memory alone. Rejects where they can't be reached. */
export async function openCounters(config: Config): Promise<CounterSource | undefined> {
  if (config.redis !== undefined) return openRedis(config, config.redis);
  const { stateFile } = config.reputation;
  return stateFile === undefined ? undefined : openStateFile(config, stateFile);
}

async function openRedis(config: Config, redis: NonNullable<Config["redis"]>): Promise<CounterSource> {
  const client = redisClient(redis, "warp-cli");
  const { prefix } = redis;
  const store = new RedisReputationStore({
    client,
    settings: reputationSettings(config),
    prefix,
    budgetMs: REDIS_MS,
    epoch: "",
    worker: 0,
    telemetry: noTelemetry,
    now: Date.now,
    freshMs: 0,
  });
  store.open();
  try {
    await store.ready(REDIS_MS);
  } catch (error) {
    await store.close();
    throw error;
  }
  const ledger = new RedisIpLedger({ client, prefix, now: Date.now });
  return {
    ledger,
    description: "Redis",
    show: (identity) => store.show(identity),
    top: (limit) => store.top(limit),
    set: (identity, change) => store.set(identity, change),
    reset: (identity) => store.reset(identity),
    close: async () => {
      await ledger.close();
      await store.close();
    },
  };
}

async function openStateFile(config: Config, path: string): Promise<CounterSource> {
  const store = new MemoryReputationStore({
    settings: reputationSettings(config),
    now: Date.now,
    stateFile: path,
  });
  const savedAt = await store.load();
  const file = new StateFile(path);
  // What the proxy has not taken yet counts as done: it will be within a second.
  for (const { identity, change } of await file.pendingCorrections()) {
    if (change === null) await store.reset(identity);
    else await store.set(identity, change);
  }
  const correct = (identity: string, change: StandingChange | null) =>
    file.leaveCorrection({ identity, change });
  const age =
    savedAt === undefined ? "not written yet" : `${Math.round((Date.now() - savedAt) / 1000)} s old`;
  return {
    ledger: store,
    description: `${path}, ${age}`,
    show: (identity) => store.show(identity),
    top: (limit) => store.top(limit),
    set: async (identity, change) => {
      await store.set(identity, change);
      await correct(identity, change);
    },
    reset: async (identity) => {
      await correct(identity, null);
      return store.reset(identity);
    },
    close: async () => undefined,
  };
}

/**
 * "alice+x@Example.com" → "mail_from:alice@example.com"; what already is an identity stays. Throws a UsageError where an
 * identity has more parts than one word can name.
 */
export function readIdentity(text: string, config: Config): string {
  const kinds = text.slice(0, Math.max(0, text.indexOf(":"))).split("+");
  if (kinds.every((kind) => (IDENTITY_KINDS as readonly string[]).includes(kind))) return text;
  const { identity, strip } = config.reputation;
  if (identity.length > 1) {
    const form = `${identity.join("+")}:${identity.map((kind) => kind.toUpperCase()).join("|")}`;
    throw new UsageError(
      `SENDER was "${text}", should be an identity as events have it, ${form}: reputation.identity takes several facts together`,
    );
  }
  const isAddress = text.includes("@") || text === "<>";
  const mailFrom = text === "<>" ? "" : isAddress ? text : `x@${text}`;
  return identityOf({ mailFrom, clientIp: text, authUser: text }, { kinds: identity, strip: new Set(strip) });
}

/** `--tier`, as the configuration knows it. */
export function readTier(options: ParsedOptions, config: Config): string | undefined {
  const tier = options.value("tier");
  const tiers = [NEUTRAL, ...Object.keys(config.reputation.tiers)];
  if (tier === undefined || tiers.includes(tier)) return tier;
  throw new UsageError(`--tier was "${tier}", should be ${tiers.join(", ")}`);
}

export function standingJson(standing: Standing, config: Config): Record<string, unknown> {
  const { identity, score, tier, pin, since, counts, known } = standing;
  return {
    identity,
    known,
    score: Math.round(score * 1e4) / 1e4,
    tier,
    pin: pin ?? null,
    tier_since: since === 0 ? null : new Date(since).toISOString(),
    recipients: counts.total,
    counts: counts.windows.map((window, i) => ({
      half_life_ms: config.reputation.halfLivesMs[i],
      ...Object.fromEntries(
        Object.entries(window).map(([name, value]) => [name, Math.round(value * 100) / 100]),
      ),
    })),
  };
}
