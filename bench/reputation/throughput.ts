/**
 * What reputation and the choice of the IP cost a proxy under full load: messages per second, and CPU per message of the
 * proxy (all its threads) and of Redis. In turns within each round, in an order that rotates; a ratio is that of two turns
 * of one round. The proxy, both ends of the load and Redis share the machine.
 */
import { Redis } from "ioredis";
import { freePort, type RedisServer } from "../../test/integration/redis-server.ts";
import { median, quantile } from "../relay/compare.ts";
import { cpuMs } from "../relay/processes.ts";
import { RunningProxy } from "./proxy.ts";
import { type Load, messagesOf, send } from "./smtp.ts";

export const POOLS = `pools:
  shared: { ips: [{ ip: 127.0.0.10 }] }
  penalty: { ips: [{ ip: 127.0.0.66 }] }
rules:
  - { name: poor, match: { tier: poor }, pool: penalty }
  - { name: rest, pool: shared }
`;
const UNCOUNTED = "./uncounted-warp.ts";
/** What the others are compared with: reputation is counted in memory, as always, and nothing is decided by it. */
const BASE = "no rules";

interface Contender {
  readonly name: string;
  readonly proxy: RunningProxy;
  readonly turns: Turn[];
}
interface Turn {
  readonly perSecond: number;
  /** µs per message. */
  readonly proxyUs: number;
  readonly redisUs: number;
}

export async function throughput(
  folder: string,
  upstream: number,
  server: RedisServer,
  { rounds, warmUp, only }: { rounds: number; warmUp: number; only: RegExp },
): Promise<void> {
  const redis = (port: number) => `redis: { url: "redis://127.0.0.1:${port}/0" }\n${POOLS}`;
  const kinds: readonly (readonly [name: string, config: string, program?: string])[] = [
    ["nothing counted", "", UNCOUNTED],
    [BASE, ""],
    ["two pools, memory", POOLS],
    ["two pools, Redis", redis(server.port)],
    ["two pools, Redis down", redis(await freePort())],
  ];
  const contenders: Contender[] = [];
  const redisPid = await pidOf(server);
  let n = 0;
  const sender = () => `user${n++ % 100}@sender.example`;
  try {
    for (const [name, config, program] of kinds.filter(([name]) => only.test(name))) {
      contenders.push({
        name,
        proxy: await RunningProxy.start(folder, upstream, config, program),
        turns: [],
      });
    }
    // Compilers and caches: a proxy is still getting faster after some thousands of messages.
    for (const { proxy } of contenders) {
      await send(proxy.port, { connections: Math.ceil(warmUp / 200), each: 20, sender });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (let i = 0; i < contenders.length; i += 1) {
        const { proxy, turns } = contenders[(i + round) % contenders.length] as Contender;
        turns.push(await turn(proxy, redisPid, { connections: 10, each: 20, sender }));
      }
    }
  } finally {
    await Promise.all(contenders.map(({ proxy }) => proxy.stop()));
  }
  report(contenders);
}

async function turn(proxy: RunningProxy, redisPid: number, load: Load): Promise<Turn> {
  const [proxyBefore, redisBefore] = [cpuMs(proxy.pid), cpuMs(redisPid)];
  const perSecond = await send(proxy.port, load);
  const perMessage = (ms: number) => (ms * 1000) / messagesOf(load);
  return {
    perSecond,
    proxyUs: perMessage(cpuMs(proxy.pid) - proxyBefore),
    redisUs: perMessage(cpuMs(redisPid) - redisBefore),
  };
}

async function pidOf(server: RedisServer): Promise<number> {
  const client = new Redis(server.url);
  const pid = /^process_id:(\d+)/m.exec(await client.info("server"))?.[1];
  client.disconnect();
  return Number(pid);
}

function report(contenders: readonly Contender[]): void {
  console.log("\n4 KB, 10 connections with 20 messages each, 100 senders, one process of warp");
  console.log(
    `"${BASE}" counts reputation in memory, as warp always does, and decides nothing by it; ratios are to it`,
  );
  console.log(
    "                            msg/s   ratio              CPU µs/message   ratio              Redis µs",
  );
  const base = contenders.find(({ name }) => name === BASE)?.turns ?? contenders[0]?.turns ?? [];
  for (const { name, turns } of contenders) {
    const of = (key: keyof Turn) => median(turns.map((turn) => turn[key])).toFixed(0);
    const ratio = (key: keyof Turn) => spread(turns.map((turn, i) => turn[key] / (base[i] as Turn)[key]));
    console.log(
      `${name.padEnd(24)} ${of("perSecond").padStart(8)}   ${ratio("perSecond")} ${of("proxyUs").padStart(16)}   ${ratio("proxyUs")} ${of("redisUs").padStart(8)}`,
    );
  }
}

function spread(ratios: readonly number[]): string {
  const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => quantile(ratios, q).toFixed(2));
  return `${middle} (${low}–${high})`;
}
