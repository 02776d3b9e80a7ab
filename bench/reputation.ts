/**
 * What reputation and the choice of the IP cost.
 *
 * - Decision and counting per message, in the process: with the store in memory, with Redis, with Redis stopped and away;
 *   script calls per second that one worker's writes reach.
 * - Messages per second and CPU through the real proxy on loopback, as a ratio to a proxy without rules, in turns.
 * - A mixed load over two pools: legs replaced, and legs that ended without a transaction, per transaction.
 *
 * Source IPs are 127.0.0.0/8, so nothing has to be set up. Redis is a redis-server of its own.
 *
 *     npm run bench -- reputation [--quick] [--only decision,throughput,mixed]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, RedisServer } from "../test/integration/redis-server.ts";
import { decisions } from "./reputation/decision.ts";
import { mixed } from "./reputation/mixed.ts";
import { destination } from "./reputation/smtp.ts";
import { throughput } from "./reputation/throughput.ts";

const argument = (name: string) => process.argv.find((_, i) => process.argv[i - 1] === name);
const quick = process.argv.includes("--quick");
const only = argument("--only")?.split(",") ?? ["decision", "throughput", "mixed"];

const folder = await mkdtemp(join(tmpdir(), "warp-bench-"));
const upstream = await freePort();
const sink = await destination(upstream);
const server = await RedisServer.start();
try {
  if (only.includes("decision")) await decisions();
  if (only.includes("throughput")) {
    const size = quick
      ? { generations: 1, rounds: 6, warmUp: 4_000 }
      : { generations: 4, rounds: 10, warmUp: 20_000 };
    await throughput(folder, upstream, server, size);
  }
  if (only.includes("mixed")) await mixed(folder, upstream);
} finally {
  sink.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
process.exit(0);
