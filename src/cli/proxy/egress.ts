/** The choice of the source IP as the configuration has it: router, reputation store, ledger of IPs. */
import type { Config } from "../../config/schema.ts";
import type { SelectRoute } from "../../egress/contract.ts";
import { EgressRouter, type RouterSettings } from "../../egress/router.ts";
import type { Notice } from "../../events/events.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { DEFAULT_PRIOR, DEFAULT_STRENGTH, DEFAULT_WEIGHTS } from "../../reputation/score.ts";
import type { ReputationSettings } from "../../reputation/store.ts";
import { ladder } from "../../reputation/tiers.ts";
import { RedisIpLedger } from "../../stores/ip-ledger-redis.ts";
import { redisClient } from "../../stores/redis-connection.ts";
import { MemoryReputationStore } from "../../stores/reputation-memory.ts";
import { RedisReputationStore } from "../../stores/reputation-redis.ts";

export interface EgressDependencies {
  readonly telemetry: Telemetry;
  readonly isOwnAddress: (ip: string) => boolean;
  readonly notify: (notice: Notice) => void;
  readonly selectRoute: SelectRoute;
  readonly newId: () => string;
  readonly worker: number;
  readonly version: string;
}

export interface Egress {
  readonly router: EgressRouter;
  /** Takes over what a reload may change: pools, rules, tiers. */
  configure(config: Config): void;
  /** The last sessions are running: what is corrected by hand from now on is for the next process. */
  leaving(): void;
  close(): Promise<void>;
}

export async function createEgress(config: Config, dependencies: EgressDependencies): Promise<Egress> {
  const stores = await openStores(config, dependencies);
  const router = new EgressRouter(routerSettings(config), {
    store: stores.store,
    ledger: stores.ledger,
    telemetry: dependencies.telemetry,
    now: Date.now,
    isOwnAddress: dependencies.isOwnAddress,
    notify: dependencies.notify,
    selectRoute: dependencies.selectRoute,
  });
  return {
    router,
    configure: (next) => {
      router.configure(routerSettings(next));
      stores.store.configure(reputationSettings(next));
    },
    leaving: () => stores.leaving(),
    close: () => stores.close(),
  };
}

export function routerSettings(config: Config): RouterSettings {
  const { identity, strip } = config.reputation;
  return {
    pools: config.pools,
    rules: config.rules,
    outboundIp: config.outboundIp,
    identity: { kinds: identity, strip: new Set(strip) },
    workers: config.workers,
  };
}

export function reputationSettings(config: Config): ReputationSettings {
  const { halfLivesMs, tiers, dwellMs } = config.reputation;
  return {
    score: { halfLivesMs, prior: DEFAULT_PRIOR, strength: DEFAULT_STRENGTH, weights: DEFAULT_WEIGHTS },
    ladder: ladder({ tiers, dwellMs }),
  };
}

async function openStores(config: Config, { telemetry, newId, worker, version }: EgressDependencies) {
  const settings = reputationSettings(config);
  if (config.redis === undefined) {
    const memory = new MemoryReputationStore({
      settings,
      now: Date.now,
      stateFile: config.reputation.stateFile,
      onError: (error) => telemetry.log("error", "state_file", "reputation.state_file: not kept", {}, error),
    });
    await memory.open();
    return { store: memory, ledger: memory, leaving: () => memory.leaving(), close: () => memory.close() };
  }
  const { prefix, budgetMs } = config.redis;
  const client = redisClient(config.redis, `warp-${config.proxy}-${worker}`);
  const store = new RedisReputationStore({
    client,
    settings,
    prefix,
    budgetMs,
    epoch: newId(),
    worker,
    telemetry,
    now: Date.now,
    presence: { proxy: config.proxy, version, workers: config.workers },
  });
  const ledger = new RedisIpLedger({
    client,
    prefix,
    now: Date.now,
    onError: (error) => telemetry.log("warn", "redis_error", "redis: states of source IPs", {}, error),
  });
  // A Redis that is away is no reason not to start: until it is there the store answers from its snapshot.
  store.open();
  return {
    store,
    ledger,
    leaving: () => {},
    close: async () => {
      await ledger.close();
      await store.close();
    },
  };
}
