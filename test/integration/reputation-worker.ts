// One worker of a proxy, as a process: counts outcomes of a few senders as fast as asked, then says what it did.
// Arguments: URL, epoch, worker, number of outcomes, pause in ms after each 100.
import { noTelemetry } from "../../src/events/telemetry.ts";
import { EMPTY_TALLY } from "../../src/reputation/counts.ts";
import { redisClient } from "../../src/stores/redis-connection.ts";
import { RedisReputationStore } from "../../src/stores/reputation-redis.ts";
import { TEST_SETTINGS } from "./reputation-settings.ts";

const [url, epoch, worker, outcomes, pause] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
let lost = 0;
const store = new RedisReputationStore({
  client: redisClient({ url }, "warp-test"),
  settings: TEST_SETTINGS,
  prefix: "warp:1:",
  budgetMs: 50,
  epoch,
  worker: Number(worker),
  telemetry: { ...noTelemetry, redisLostWrites: (count) => (lost += count) },
  now: Date.now,
});
store.open();
await store.ready(5_000);
process.send?.("ready");
let longest = 0;
for (let i = 0; i < Number(outcomes); i += 1) {
  const identity = `mail_from:sender-${i % 7}@example.com`;
  const started = performance.now();
  await store.standing(identity);
  longest = Math.max(longest, performance.now() - started);
  store.count(identity, { ...EMPTY_TALLY, ok: 1, spam: 0.5 }, 1);
  if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, Number(pause)));
}
const deadline = Date.now() + 20_000;
while (store.pendingUpdates > 0 && Date.now() < deadline)
  await new Promise((resolve) => setTimeout(resolve, 20));
await store.close();
process.send?.({ lost, longest });
process.disconnect?.();
