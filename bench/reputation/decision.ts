/** Decision and counting per message, without sockets: with the store in memory, with Redis, with Redis stopped and away. */
import { EgressRouter } from "../../src/egress/router.ts";
import { noTelemetry } from "../../src/events/telemetry.ts";
import { EMPTY_TALLY } from "../../src/reputation/counts.ts";
import type { ReputationStore } from "../../src/reputation/store.ts";
import { redisClient } from "../../src/stores/redis-connection.ts";
import { MemoryReputationStore } from "../../src/stores/reputation-memory.ts";
import { RedisReputationStore } from "../../src/stores/reputation-redis.ts";
import { RedisServer } from "../../test/integration/redis-server.ts";
import { settingsWith } from "../../test/integration/reputation-settings.ts";
import { routeFacts, transaction } from "../../test/unit/reputation/transactions.ts";

const SETTINGS = settingsWith([3_600_000, 86_400_000]);
export async function decisions(): Promise<void> {
  console.log("\ndecision and counting per message");
  await perMessage("memory", new MemoryReputationStore({ settings: SETTINGS, now: Date.now }), 20_000, 1_000);
  const server = await RedisServer.start();
  try {
    const store = redisStore(server, "01BENCH");
    await store.ready(5_000);
    await perMessage("Redis, 1,000 senders", store, 20_000, 1_000);
    await perMessage("Redis, each sender once (always asked)", store, 5_000, 1_000_000);
    server.signal("SIGSTOP");
    await perMessage("Redis stands still", store, 20_000, 1_000);
    server.signal("SIGCONT");
    await server.kill();
    await perMessage("Redis down", store, 20_000, 1_000);
    await server.run();
    await calls(server);
    await store.close();
  } finally {
    await server.stop();
  }
}

function redisStore(server: RedisServer, epoch: string): RedisReputationStore {
  const store = new RedisReputationStore({
    client: redisClient({ url: server.url }, "warp-bench"),
    settings: SETTINGS,
    prefix: "warp:1:",
    budgetMs: 50,
    epoch,
    worker: 0,
    telemetry: noTelemetry,
    now: Date.now,
  });
  store.open();
  return store;
}

function routerOn(store: ReputationStore): EgressRouter {
  const ledger = new MemoryReputationStore({ settings: SETTINGS, now: Date.now });
  return new EgressRouter(
    {
      pools: {
        shared: { ips: [{ ip: "203.0.113.10" }, { ip: "203.0.113.11" }] },
        penalty: { ips: [{ ip: "203.0.113.66" }] },
      },
      rules: [
        { name: "poor", match: { tier: ["poor"] }, action: { kind: "pool", pool: "penalty" } },
        { name: "rest", match: {}, action: { kind: "pool", pool: "shared" } },
      ],
      identity: { kinds: ["mail_from"], strip: new Set(["plus", "batv", "srs"]) },
    },
    {
      store,
      ledger,
      telemetry: noTelemetry,
      now: Date.now,
      isOwnAddress: () => false,
      notify: () => undefined,
    },
  );
}

/** ms added to one message, p50 and p99; `lanes` messages at a time, as many sessions would. */
async function perMessage(
  name: string,
  store: ReputationStore,
  messages: number,
  senders: number,
): Promise<void> {
  const router = routerOn(store);
  const took: number[] = [];
  const lane = async (first: number) => {
    for (let i = first; i < messages; i += 20) {
      const from = `user${i % senders}@sender.example`;
      const started = performance.now();
      await router.forTransaction(routeFacts(from));
      router.outcomes.emit(transaction({ from, answers: [{ code: 250, text: "2.0.0 OK" }] }));
      took.push(performance.now() - started);
      // One message is worked on between two turns of the loop, as with sockets.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: 20 }, (_, first) => lane(first)));
  took.sort((a, b) => a - b);
  const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))]!.toFixed(3);
  console.log(`${name.padEnd(44)} p50 ${at(0.5)} ms   p99 ${at(0.99)} ms   longest ${at(1)} ms`);
}

async function calls(server: RedisServer): Promise<void> {
  const store = redisStore(server, "01CALLS");
  await store.ready(5_000);
  const writes = 30_000;
  const started = performance.now();
  for (let i = 0; i < writes; i += 1) store.count(`mail_from:w${i}@x.example`, { ...EMPTY_TALLY, ok: 1 }, 1);
  while (store.pendingUpdates > 0) await new Promise((resolve) => setImmediate(resolve));
  const seconds = (performance.now() - started) / 1000;
  console.log(`\nscript calls of one worker                    ${Math.round(writes / seconds)} per second`);
  await store.close();
}
