/**
 * What reputation and the choice of the IP cost: `node bench/reputation.ts`.
 *
 * - Decision and counting per message, in the process: with the store in memory, with Redis, with Redis stopped and away.
 * - Script calls per second that one worker's writes reach.
 * - Messages per second through the real proxy on loopback, as a ratio to a proxy without rules, in turns.
 * - A mixed load over two pools: legs replaced, and legs that ended without a transaction, per transaction.
 *
 * Source IPs are 127.0.0.0/8, so nothing has to be set up. Redis is a redis-server of its own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { EgressRouter } from "../src/egress/router.ts";
import { noTelemetry } from "../src/events/telemetry.ts";
import { EMPTY_TALLY } from "../src/reputation/counts.ts";
import type { ReputationStore } from "../src/reputation/store.ts";
import { redisClient } from "../src/stores/redis-connection.ts";
import { MemoryReputationStore } from "../src/stores/reputation-memory.ts";
import { RedisReputationStore } from "../src/stores/reputation-redis.ts";
import { freePort, RedisServer } from "../test/integration/redis-server.ts";
import { settingsWith } from "../test/integration/reputation-settings.ts";
import { sessionFacts, transaction } from "../test/unit/reputation/transactions.ts";

const SETTINGS = settingsWith([3_600_000, 86_400_000]);
const MESSAGE = `From: <a@sender.example>\r\nSubject: x\r\n\r\n${`${"x".repeat(70)}\r\n`.repeat(56)}.\r\n`;
const main = new URL("../src/cli/main.ts", import.meta.url).pathname;

// ------------------------------------------------------------------------------------------------- in the process

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
      await router.forTransaction({
        client: { ip: "198.51.100.1", port: 1 },
        destination: { ip: "192.0.2.1", port: 25 },
        transactionId: "T",
        session: sessionFacts({}),
        mailFrom: { address: from, raw: Buffer.alloc(0) },
        recipient: undefined,
        authUser: "",
        ownLegs: [],
      });
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

async function inProcess(): Promise<void> {
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

// ----------------------------------------------------------------------------------------- through the real proxy

/** A destination that takes everything, and refuses bad senders as spam. */
function destination(port: number): Promise<net.Server> {
  const server = net.createServer({ noDelay: true }, (socket) => {
    let [buffered, inData, from] = ["", false, ""];
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      buffered += chunk.toString("latin1");
      for (;;) {
        const end = buffered.indexOf(inData ? "\r\n.\r\n" : "\r\n");
        if (end < 0) return;
        const line = buffered.slice(0, end);
        buffered = buffered.slice(end + (inData ? 5 : 2));
        const verb = line.slice(0, 4).toUpperCase();
        if (inData) socket.write(from.startsWith("bad") ? "550 5.7.1 spam\r\n" : "250 2.0.0 queued\r\n");
        else if (verb === "EHLO") socket.write("250-mx.bench.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
        else if (verb === "DATA") socket.write("354 go on\r\n");
        else if (verb === "QUIT") socket.end("221 2.0.0 bye\r\n");
        else socket.write("250 2.0.0 OK\r\n");
        if (verb === "MAIL" && !inData) from = line.slice(line.indexOf("<") + 1);
        inData = !inData && verb === "DATA";
      }
    });
    socket.write("220 mx.bench.example ESMTP\r\n");
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

/** One connection after another with `each` messages, until `until`. Gives the number of messages. */
async function client(port: number, each: number, until: number, sender: () => string): Promise<number> {
  let sent = 0;
  while (performance.now() < until) {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    let buffered = "";
    let wake = () => {};
    let isClosed = false;
    socket.on("data", (chunk) => {
      buffered += chunk.toString("latin1");
      wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      isClosed = true;
      wake();
    });
    const reply = async () => {
      for (;;) {
        const match = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(buffered);
        if (match !== null) {
          buffered = buffered.slice(match[0].length);
          return match[0];
        }
        if (isClosed) throw new Error("the connection was closed");
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    const say = (line: string) => {
      socket.write(line);
      return reply();
    };
    await reply();
    await say("EHLO client.example\r\n");
    for (let i = 0; i < each; i += 1) {
      await say(`MAIL FROM:<${sender()}>\r\n`);
      await say("RCPT TO:<bob@destination.example>\r\n");
      await say("DATA\r\n");
      await say(MESSAGE);
      sent += 1;
    }
    await say("QUIT\r\n");
    socket.destroy();
  }
  return sent;
}

class RunningProxy {
  readonly port: number;
  readonly metrics: number;
  readonly #child: ChildProcess;

  constructor(port: number, metrics: number, child: ChildProcess) {
    this.port = port;
    this.metrics = metrics;
    this.#child = child;
  }

  static async start(folder: string, upstream: number, config: string): Promise<RunningProxy> {
    const [port, metrics] = [await freePort(), await freePort()];
    const file = join(folder, `${port}.yaml`);
    const common = `capture: { destination: "127.0.0.1:${upstream}" }
listen: ["127.0.0.1:${port}"]
metrics: { listen: "127.0.0.1:${metrics}" }
log: { level: error }
`;
    await writeFile(file, common + config);
    const child = spawn(process.execPath, [main, "--config", file], { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout! });
    const [line] = (await once(lines, "line")) as [string];
    if (!line.includes("listens")) throw new Error(line);
    return new RunningProxy(port, metrics, child);
  }

  /** Sum of a metric's values whose labels match. */
  async metric(name: string, labels = /(?:)/): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.metrics}/metrics`)).text();
    return text
      .split("\n")
      .filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)) && labels.test(line))
      .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }
}

const POOLS = `pools:
  shared: { ips: [{ ip: 127.0.0.10 }] }
  penalty: { ips: [{ ip: 127.0.0.66 }] }
rules:
  - { name: poor, match: { tier: poor }, pool: penalty }
  - { name: rest, pool: shared }
`;

async function load(proxy: RunningProxy, ms: number, each: number, sender: () => string): Promise<number> {
  const until = performance.now() + ms;
  const sent = await Promise.all(Array.from({ length: 10 }, () => client(proxy.port, each, until, sender)));
  return sent.reduce((a, b) => a + b, 0) / (ms / 1000);
}

async function throughput(folder: string, upstream: number, server: RedisServer): Promise<void> {
  console.log(
    "\nmessages of 4 KB per second, 10 connections with 20 messages each, 100 senders, one process",
  );
  const redis = (port: number) => `redis: { url: "redis://127.0.0.1:${port}/0" }\n${POOLS}`;
  const kinds = [
    ["no rules", ""],
    ["two pools, memory", POOLS],
    ["two pools, Redis", redis(server.port)],
    ["two pools, Redis down", redis(await freePort())],
  ] as const;
  const proxies = await Promise.all(kinds.map(([, config]) => RunningProxy.start(folder, upstream, config)));
  const rates = kinds.map((): number[] => []);
  try {
    // In turns, since what else runs on the machine changes, and shuffled, since the first one of a round was seen to
    // do better, whichever it was.
    for (let round = 0; round < 8; round += 1) {
      const turns = proxies.map((proxy, i) => ({ proxy, i, at: Math.random() })).sort((a, b) => a.at - b.at);
      for (const { proxy, i } of turns) {
        let n = 0;
        const rate = await load(proxy, 1_500, 20, () => {
          n += 1;
          return `user${n % 100}@sender.example`;
        });
        rates[i]!.push(rate);
      }
    }
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.stop()));
  }
  const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
  for (const [i, [name]] of kinds.entries()) {
    const ratio = median(rates[i]!) / median(rates[0]!);
    console.log(`${name.padEnd(44)} ${median(rates[i]!).toFixed(0).padStart(6)}   ratio ${ratio.toFixed(2)}`);
  }
}

/** Nine of ten connections have good senders only; in the others one message of four is of a sender of the penalty pool. */
async function mixed(folder: string, upstream: number): Promise<void> {
  const proxy = await RunningProxy.start(folder, upstream, POOLS);
  try {
    // First the bad ones earn their tier.
    await load(proxy, 1_500, 40, () => "bad@sender.example");
    const names = ["warp_transactions_total", "warp_legs_unused_total"] as const;
    const before = await Promise.all(names.map((name) => proxy.metric(name)));
    const replacedBefore = await proxy.metric("warp_legs_total", /reason="route"/);
    let n = 0;
    await load(proxy, 5_000, 20, () => {
      n += 1;
      const isMixed = Math.floor(n / 200) % 10 === 0;
      return isMixed && n % 4 === 0 ? "bad@sender.example" : `user${n % 500}@sender.example`;
    });
    const after = await Promise.all(names.map((name) => proxy.metric(name)));
    const replaced = (await proxy.metric("warp_legs_total", /reason="route"/)) - replacedBefore;
    const [transactions, unused] = after.map((value, i) => value - before[i]!) as [number, number];
    const share = (value: number) => `${((100 * value) / transactions).toFixed(2)} %`;
    console.log(`\nmixed load over two pools: ${transactions} transactions`);
    console.log(`legs replaced for another source IP          ${share(replaced)} of transactions`);
    console.log(`legs that ended without a transaction        ${share(unused)} of transactions`);
  } finally {
    await proxy.stop();
  }
}

const folder = await mkdtemp(join(tmpdir(), "warp-bench-"));
const upstream = await freePort();
const sink = await destination(upstream);
const server = await RedisServer.start();
try {
  await inProcess();
  await throughput(folder, upstream, server);
  await mixed(folder, upstream);
} finally {
  sink.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
process.exit(0);
