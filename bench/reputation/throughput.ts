/**
 * What reputation and the choice of the IP cost a proxy under full load: messages per second, and CPU per message of the
 * proxy (all its threads) and of Redis. In short turns within each round, in an order that rotates; a ratio is that of two
 * turns of one round. Processes of the same program were seen to differ by 5 % for as long as they ran, so there are several
 * generations of them. The proxy, both ends of the load and Redis share the machine.
 */
import { setTimeout } from "node:timers/promises";
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
/** Messages of one turn: about 0.6 s, several times as long as outcomes wait for others of their sender. */
const TURN = 4_000;
/** After a turn what it left is written to Redis: it belongs to the turn's CPU, and not into the next one. */
const SETTLE_MS = 300;

interface Kind {
  readonly name: string;
  readonly config: string;
  readonly program?: string;
}
interface Turn {
  readonly perSecond: number;
  /** µs per message. */
  readonly proxyUs: number;
  readonly redisUs: number;
}
export interface Size {
  readonly generations: number;
  readonly rounds: number;
  /** Messages before anything is measured: a proxy is still getting faster after some thousands. */
  readonly warmUp: number;
}

export async function throughput(
  folder: string,
  upstream: number,
  server: RedisServer,
  size: Size,
): Promise<void> {
  const redis = (port: number) => `redis: { url: "redis://127.0.0.1:${port}/0" }\n${POOLS}`;
  const kinds: readonly Kind[] = [
    { name: "nothing counted", config: "", program: UNCOUNTED },
    { name: BASE, config: "" },
    { name: "two pools, memory", config: POOLS },
    { name: "two pools, Redis", config: redis(server.port) },
    { name: "two pools, Redis down", config: redis(await freePort()) },
  ];
  const redisPid = await pidOf(server);
  const turns = new Map<string, Turn[]>(kinds.map(({ name }) => [name, []]));
  for (let generation = 0; generation < size.generations; generation += 1) {
    const proxies: RunningProxy[] = [];
    try {
      for (const { config, program } of kinds) {
        proxies.push(await RunningProxy.start(folder, upstream, config, program));
      }
      for (const { port } of proxies) await send(port, loadOf(size.warmUp));
      for (let round = 0; round < size.rounds; round += 1) {
        for (let i = 0; i < kinds.length; i += 1) {
          const at = (i + round) % kinds.length;
          const { name } = kinds[at] as Kind;
          turns.get(name)?.push(await turn(proxies[at] as RunningProxy, redisPid));
        }
      }
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.stop()));
    }
  }
  report(turns);
}

let senders = 0;

function loadOf(messages: number): Load {
  const sender = () => `user${senders++ % 100}@sender.example`;
  return { connections: Math.ceil(messages / 200), each: 20, sender };
}

async function turn(proxy: RunningProxy, redisPid: number): Promise<Turn> {
  const load = loadOf(TURN);
  const [proxyBefore, redisBefore] = [cpuMs(proxy.pid), cpuMs(redisPid)];
  const perSecond = await send(proxy.port, load);
  await setTimeout(SETTLE_MS);
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

function report(turns: ReadonlyMap<string, readonly Turn[]>): void {
  console.log("\n4 KB, 10 connections with 20 messages each, 100 senders, one process of warp");
  console.log(
    `ratios are to "${BASE}", which counts reputation in memory, as warp always does, and decides nothing by it`,
  );
  console.log(
    "                            msg/s   ratio              CPU µs/message   ratio              Redis µs",
  );
  const base = turns.get(BASE) ?? [];
  for (const [name, own] of turns) {
    const of = (key: keyof Turn) => median(own.map((turn) => turn[key])).toFixed(0);
    const ratio = (key: keyof Turn) => spread(own.map((turn, i) => turn[key] / (base[i] as Turn)[key]));
    console.log(
      `${name.padEnd(24)} ${of("perSecond").padStart(8)}   ${ratio("perSecond")} ${of("proxyUs").padStart(16)}   ${ratio("proxyUs")} ${of("redisUs").padStart(8)}`,
    );
  }
}

function spread(ratios: readonly number[]): string {
  const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => quantile(ratios, q).toFixed(2));
  return `${middle} (${low}–${high})`;
}
