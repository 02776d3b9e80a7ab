// The Redis store against real servers: exact sums over processes, restarts, a slow server, a Cluster.
import assert from "node:assert/strict";
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { SharedIp } from "../../src/deliverability/throttle.ts";
import { noTelemetry, type Telemetry } from "../../src/events/telemetry.ts";
import { EMPTY_TALLY, type Tally } from "../../src/reputation/counts.ts";
import { newRecord, recordWith, standingOf } from "../../src/reputation/standing.ts";
import type { ReputationSettings } from "../../src/reputation/store.ts";
import { RedisIpLedger } from "../../src/stores/ip-ledger-redis.ts";
import { type RedisSettings, redisClient } from "../../src/stores/redis-connection.ts";
import { senderKey } from "../../src/stores/redis-keys.ts";
import { runScript, script } from "../../src/stores/redis-script.ts";
import { RedisReputationStore } from "../../src/stores/reputation-redis.ts";
import { senderScript } from "../../src/stores/reputation-scripts.ts";
import fc from "../support/property.ts";
import { freePort, needsRedis, RedisClusterServers, RedisServer, WatchedRedis } from "./redis-server.ts";
import { settingsWith, TEST_SETTINGS } from "./reputation-settings.ts";

const PREFIX = "warp:1:";
const HOUR = 3_600_000;
/** The script's tallies: one accepted recipient, in both windows. */
const ONE_ACCEPTED = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0];

interface StoreOptions {
  readonly settings?: ReputationSettings;
  readonly telemetry?: Partial<Telemetry>;
  readonly epoch?: string;
  readonly freshMs?: number;
  readonly maxPending?: number;
  readonly now?: () => number;
}
function storeOn(target: string | RedisSettings, options: StoreOptions = {}): RedisReputationStore {
  const settings = typeof target === "string" ? { url: target } : target;
  const store = new RedisReputationStore({
    client: redisClient(settings, "warp-test"),
    settings: options.settings ?? TEST_SETTINGS,
    prefix: PREFIX,
    budgetMs: 50,
    epoch: options.epoch ?? "01TEST",
    worker: 0,
    telemetry: { ...noTelemetry, ...options.telemetry },
    now: options.now ?? Date.now,
    flushMs: 1,
    ...(options.freshMs === undefined ? {} : { freshMs: options.freshMs }),
    ...(options.maxPending === undefined ? {} : { maxPending: options.maxPending }),
  });
  store.open();
  return store;
}
async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 15_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe("reputation in one Redis", needsRedis, () => {
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start("--appendonly", "yes", "--appendfsync", "everysec");
  });
  after(() => server.stop());

  it("computes what the record in memory computes, whatever happens", async () => {
    const settings = settingsWith([HOUR, 24 * HOUR]);
    const store = storeOn(server.url, { settings, freshMs: 0 });
    await store.ready(5_000);
    const amount = fc.double({ min: 0, max: 500, noNaN: true });
    const tally = fc.record({ ok: amount, defer: amount, refuse: amount, unknown: amount, spam: amount });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(tally, { minLength: 1, maxLength: 6 }), async (tallies) => {
        run += 1;
        const identity = `mail_from:run-${run}@example.com`;
        let record = newRecord(settings, Date.now());
        for (const one of tallies) {
          store.count(identity, one, 3);
          record = recordWith(record, one, 3, settings, Date.now());
          await until(() => store.pendingUpdates === 0, "the write");
        }
        const shown = await store.show(identity);
        const expected = standingOf(identity, record, settings, Date.now());
        assert.equal(shown.tier, expected.tier);
        assert.ok(Math.abs(shown.score - expected.score) < 1e-3);
        assert.equal(shown.counts.total, 3 * tallies.length);
        for (const [i, window] of shown.counts.windows.entries()) {
          const other = expected.counts.windows[i]!;
          for (const name of Object.keys(window) as (keyof Tally)[]) {
            assert.ok(Math.abs(window[name] - other[name]) <= 1e-3 * (1 + other[name]), name);
          }
        }
      }),
      { numRuns: 40 },
    );
    await store.close();
  });

  it("counts a repeated write once", async () => {
    const client = server.client();
    const args = (sequence: number) =>
      [
        senderKey(PREFIX, "mail_from:twice@example.com"),
        "01EPOCH",
        0,
        sequence,
        1,
        1e9,
        ...ONE_ACCEPTED,
      ] as const;
    const sender = script(senderScript(TEST_SETTINGS));
    const applied: string[] = [];
    for (const sequence of [1, 1, 2, 1, 2, 3]) {
      applied.push(((await runScript(client, sender, args(sequence))) as string)[0]!);
    }
    assert.deepEqual(applied, ["1", "0", "1", "0", "0", "1"]);
    assert.equal(await client.hget(senderKey(PREFIX, "mail_from:twice@example.com"), "n"), "3");
    client.disconnect();
  });

  it("keeps the sequences of the 32 newest epochs", async () => {
    const client = server.client();
    const key = senderKey(PREFIX, "mail_from:epochs@example.com");
    const sender = script(senderScript(TEST_SETTINGS));
    for (let i = 0; i < 40; i += 1) {
      const epoch = `01E${String(i).padStart(3, "0")}`;
      for (const worker of [0, 1]) {
        await runScript(client, sender, [key, epoch, worker, 1, 1, 1e9, ...ONE_ACCEPTED]);
      }
    }
    const fields = (await client.hkeys(key)).filter((name) => name.startsWith("q:")).sort();
    assert.equal(fields.length, 64);
    assert.equal(fields[0], "q:01E008.0");
    client.disconnect();
  });

  it("loads its script again after SCRIPT FLUSH", async () => {
    const store = storeOn(server.url, { epoch: "01FLUSH" });
    await store.ready(5_000);
    const client = server.client();
    store.count("mail_from:flush@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
    await until(() => store.pendingUpdates === 0, "the first write");
    await client.script("FLUSH");
    store.count("mail_from:flush@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
    await until(() => store.pendingUpdates === 0, "the second write");
    assert.equal(await client.hget(senderKey(PREFIX, "mail_from:flush@example.com"), "n"), "2");
    client.disconnect();
    await store.close();
  });

  it("uses the layout of the keys, with a TTL that a pin takes off", async () => {
    const store = storeOn(server.url, { settings: settingsWith([HOUR, 24 * HOUR]), epoch: "01LAYOUT" });
    await store.ready(5_000);
    const identity = "mail_from:layout@example.com";
    store.count(identity, { ok: 1, defer: 2, refuse: 3, unknown: 4, spam: 5 }, 15);
    await until(() => store.pendingUpdates === 0, "the write");
    const client = server.client();
    const key = `warp:1:s:{${identity}}`;
    const hash = await client.hgetall(key);
    const names = ["ok", "defer", "refuse", "unknown", "spam"];
    assert.deepEqual(
      new Set(Object.keys(hash)),
      new Set(["t", "n", "tier", "tier_at", "q:01LAYOUT.0", ...names.flatMap((n) => [`${n}:0`, `${n}:1`])]),
    );
    const ttl = await client.pttl(key);
    assert.ok(ttl > 95 * HOUR && ttl <= 96 * HOUR, `${ttl}`);
    await store.set(identity, { pin: "good" });
    assert.equal((await store.show(identity)).tier, "good");
    assert.equal(await client.pttl(key), -1);
    await store.set(identity, { pin: null });
    assert.ok((await client.pttl(key)) > 0);
    assert.equal(await store.reset(identity), true);
    assert.equal((await store.show(identity)).known, false);
    const long = `mail_from:${"x".repeat(300)}@example.com`;
    assert.match(senderKey(PREFIX, long), /^warp:1:s:\{sha256:[0-9a-f]{64}\}$/);
    client.disconnect();
    await store.close();
  });

  it("asks again after a second, also when the host's clock was set back", async () => {
    let skew = 0;
    const store = storeOn(server.url, { epoch: "01BACK", now: () => Date.now() + skew });
    const other = storeOn(server.url, { epoch: "01OTHER" });
    await Promise.all([store.ready(5_000), other.ready(5_000)]);
    const identity = "mail_from:back@example.com";
    assert.equal((await store.standing(identity)).tier, "neutral");
    skew = -HOUR;
    await other.set(identity, { pin: "poor" });
    await until(async () => (await store.standing(identity)).tier === "poor", "the pin", 3_000);
    await Promise.all([store.close(), other.close()]);
  });

  it("lists who is poor now: neither forgotten senders nor those that recovered take a place, and a pin holds", async () => {
    const own = await RedisServer.start();
    const store = storeOn(own.url, { epoch: "01LIST" });
    await store.ready(5_000);
    const client = own.client();
    try {
      await client.zadd(
        "warp:1:poor",
        ...Array.from({ length: 600 }, (_, i) => [0.01, `mail_from:old-${i}`]).flat(),
      );
      const pinned = "mail_from:pinned@example.com";
      await store.set("mail_from:recovered@example.com", { counts: { ok: 5 } });
      await client.zadd("warp:1:poor", 0.02, "mail_from:recovered@example.com");
      await store.set(pinned, { pin: "poor" });
      store.count(pinned, { ...EMPTY_TALLY, ok: 500 }, 500);
      await until(() => store.pendingUpdates === 0, "the write");
      assert.deepEqual(
        (await store.top(1)).map(({ identity, tier }) => [identity, tier]),
        [[pinned, "poor"]],
      );
      assert.deepEqual(await client.zrange("warp:1:poor", 0, "-1"), [
        "mail_from:recovered@example.com",
        pinned,
      ]);
    } finally {
      client.disconnect();
      await store.close();
      await own.stop();
    }
  });

  it("lists the poor, worst first, and takes who recovers off the list", async () => {
    const store = storeOn(server.url, { settings: settingsWith([HOUR, 24 * HOUR]), epoch: "01POOR" });
    await store.ready(5_000);
    store.count("mail_from:bad@example.com", { ...EMPTY_TALLY, spam: 50 }, 50);
    store.count("mail_from:worse@example.com", { ...EMPTY_TALLY, spam: 500 }, 500);
    const client = server.client();
    const listed = async (name: string) =>
      (await client.zscore("warp:1:poor", `mail_from:${name}@example.com`)) !== null;
    await until(async () => (await listed("bad")) && (await listed("worse")), "the list");
    const top = (await store.top(1_000)).map(({ identity }) => identity);
    assert.ok(top.indexOf("mail_from:worse@example.com") < top.indexOf("mail_from:bad@example.com"));
    await store.set("mail_from:bad@example.com", { counts: { spam: 0, ok: 1000 } });
    assert.equal(await client.zscore("warp:1:poor", "mail_from:bad@example.com"), null);
    client.disconnect();
    await store.close();
  });

  it("never makes mail wait over its budget while Redis stands still, and answers from the snapshot", async () => {
    const fallbacks: string[] = [];
    const store = storeOn(server.url, {
      epoch: "01SLOW",
      freshMs: 0,
      telemetry: { redisFallback: (cause) => fallbacks.push(cause) },
    });
    await store.ready(5_000);
    store.count("mail_from:slow@example.com", { ...EMPTY_TALLY, spam: 100 }, 100);
    await until(() => store.pendingUpdates === 0, "the write");
    server.signal("SIGSTOP");
    try {
      const waits: number[] = [];
      for (let i = 0; i < 20; i += 1) {
        const started = performance.now();
        const standing = await store.standing(
          i % 2 === 0 ? "mail_from:slow@example.com" : `mail_from:${i}@x`,
        );
        waits.push(performance.now() - started);
        assert.equal(standing.source, "snapshot");
        assert.equal(standing.tier, i % 2 === 0 ? "poor" : "neutral");
        store.count("mail_from:slow@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
      }
      // The timer's own lateness on a busy machine is not the store's.
      assert.ok(Math.max(...waits) < 50 + 30, `waited ${Math.max(...waits)} ms`);
      assert.ok(waits.filter((ms) => ms > 5).length <= 2, "waits once, then knows");
      assert.equal(fallbacks.length, 20);
      assert.ok(fallbacks.every((cause) => cause === "slow"));
    } finally {
      server.signal("SIGCONT");
    }
    await until(() => store.pendingUpdates === 0, "the writes that waited");
    assert.equal((await store.show("mail_from:slow@example.com")).counts.total, 120);
    await store.close();
  });

  it("bounds what waits while Redis is down, counts what is lost, and writes the rest later", async () => {
    let lost = 0;
    const ups: boolean[] = [];
    const store = storeOn(server.url, {
      epoch: "01DOWN",
      maxPending: 10,
      telemetry: { redisLostWrites: (count) => (lost += count), redisUp: (up) => ups.push(up) },
    });
    await store.ready(5_000);
    await server.kill();
    await until(() => ups.at(-1) === false, "the end of the connection");
    for (let i = 0; i < 30; i += 1) {
      store.count(`mail_from:down-${i % 15}@example.com`, { ...EMPTY_TALLY, ok: 1 }, 1);
    }
    assert.equal(lost, 10);
    const started = performance.now();
    const standing = await store.standing("mail_from:down-0@example.com");
    assert.ok(performance.now() - started < 5);
    assert.equal(standing.source, "snapshot");
    assert.equal(standing.counts.total, 2);
    await server.run();
    await until(() => store.pendingUpdates === 0, "the writes that waited");
    assert.equal((await store.show("mail_from:down-3@example.com")).counts.total, 2);
    assert.equal((await store.show("mail_from:down-12@example.com")).known, false);
    await store.close();
  });
});

describe("two proxies with two workers each on one Redis", needsRedis, () => {
  it("add up exactly, under load, with Redis killed and restarted in the middle", async () => {
    const server = await RedisServer.start("--appendonly", "yes", "--appendfsync", "always");
    const outcomes = 6_000;
    const workers = ["01PROXYA", "01PROXYB"].flatMap((epoch) =>
      [0, 1].map((worker) =>
        fork(new URL("./reputation-worker.ts", import.meta.url), [
          server.url,
          epoch,
          String(worker),
          String(outcomes),
          "15",
        ]),
      ),
    );
    try {
      await Promise.all(workers.map((worker) => once(worker, "message")));
      const results = workers.map((worker) => once(worker, "message"));
      const client = server.client();
      client.on("error", () => undefined);
      const total = async () => {
        let sum = 0;
        for (let i = 0; i < 7; i += 1) {
          sum += Number(
            (await client.hget(senderKey(PREFIX, `mail_from:sender-${i}@example.com`), "n")) ?? 0,
          );
        }
        return sum;
      };
      await until(async () => (await total()) > outcomes, "the middle of the load");
      await server.kill();
      await new Promise((resolve) => setTimeout(resolve, 300));
      await server.run();
      const reports = (await Promise.all(results)).map(
        ([report]) => report as { lost: number; longest: number },
      );
      const sums = { n: 0, ok: 0, spam: 0 };
      for (let i = 0; i < 7; i += 1) {
        const hash = await client.hgetall(senderKey(PREFIX, `mail_from:sender-${i}@example.com`));
        sums.n += Number(hash.n);
        sums.ok += Number(hash["ok:0"]);
        sums.spam += Number(hash["spam:1"]);
      }
      assert.deepEqual(
        reports.map(({ lost }) => lost),
        [0, 0, 0, 0],
      );
      assert.equal(sums.n, 4 * outcomes);
      assert.ok(Math.abs(sums.ok - 4 * outcomes) < 1e-3, `${sums.ok}`);
      assert.ok(Math.abs(sums.spam - 2 * outcomes) < 1e-3, `${sums.spam}`);
      for (const { longest } of reports) assert.ok(longest < 50 + 150, `a read took ${longest} ms`);
      client.disconnect();
    } finally {
      for (const worker of workers) worker.kill("SIGKILL");
      await server.stop();
    }
  });
});

/** Names that differ enough to fall into slots of every node (CRC16 of near-equal names does not spread). */
function clusterSender(i: number): string {
  return `mail_from:s${i}@d${(i * 7919) % 1009}.example`;
}

describe("reputation in a Redis Cluster of three", needsRedis, () => {
  it("adds up exactly over all nodes, and shares states and messages of the day", async () => {
    const cluster = await RedisClusterServers.start();
    const client = redisClient({ cluster: cluster.nodes }, "warp-test");
    const store = new RedisReputationStore({
      client,
      settings: TEST_SETTINGS,
      prefix: PREFIX,
      budgetMs: 50,
      epoch: "01CLUSTER",
      worker: 0,
      telemetry: noTelemetry,
      now: Date.now,
    });
    try {
      store.open();
      await store.ready(10_000);
      for (let i = 0; i < 3_000; i += 1) {
        store.count(clusterSender(i % 60), { ...EMPTY_TALLY, ok: 1 }, 1);
        if (i % 500 === 0) await store.standing(clusterSender(i % 60));
      }
      await until(() => store.pendingUpdates === 0, "the writes");
      let total = 0;
      for (let i = 0; i < 60; i += 1) total += (await store.show(clusterSender(i))).counts.total;
      assert.equal(total, 3_000);
      for (const server of cluster.servers) {
        const node = server.client();
        assert.ok(Number(await node.dbsize()) > 0, `node ${node.options.port} has keys`);
        node.disconnect();
      }
      const ledger = new RedisIpLedger({ client, prefix: PREFIX, now: Date.now });
      ledger.countMessages("203.0.113.10", "google.com", "20260301", 5);
      await ledger.close();
      assert.equal(await client.get("warp:1:w:{203.0.113.10|google.com}:20260301"), "5");
    } finally {
      await store.close();
      await cluster.stop();
    }
  });
});

describe("reputation in a Redis that Sentinels watch", needsRedis, () => {
  it("goes on with the replica when the master dies, and adds up", async () => {
    const redis = await WatchedRedis.start();
    const sentinels = [{ host: "127.0.0.1", port: redis.sentinelPort }];
    const store = storeOn({ sentinels, master: "mymaster" }, { epoch: "01SENTINEL" });
    const replica = redis.replica.client();
    const replicated = async () =>
      Number((await replica.hget("warp:1:s:{mail_from:a@example.com}", "n")) ?? 0);
    try {
      await store.ready(10_000);
      for (let i = 0; i < 50; i += 1) store.count("mail_from:a@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
      await until(async () => (await replicated()) === 50, "the replica");
      await redis.master.kill();
      for (let i = 0; i < 50; i += 1) store.count("mail_from:a@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
      assert.equal((await store.standing("mail_from:a@example.com")).counts.total, 100);
      await until(() => store.pendingUpdates === 0, "the promoted replica", 30_000);
      assert.equal(await replicated(), 100);
    } finally {
      replica.disconnect();
      await store.close();
      await redis.stop();
    }
  });

  it("passes over a Sentinel that hangs", async () => {
    const redis = await WatchedRedis.start();
    const accepted: Socket[] = [];
    const hung = createServer((socket) => accepted.push(socket.resume()));
    await new Promise<void>((resolve) => hung.listen(0, "127.0.0.1", resolve));
    const ports = [(hung.address() as AddressInfo).port, redis.sentinelPort];
    const sentinels = ports.map((port) => ({ host: "127.0.0.1", port }));
    const store = storeOn({ sentinels, master: "mymaster" });
    try {
      await store.ready(5_000);
      assert.equal(accepted.length, 1);
    } finally {
      await store.close();
      hung.close();
      for (const socket of accepted) socket.destroy();
      await redis.stop();
    }
  });
});

describe("source IPs shared over Redis", needsRedis, () => {
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());

  it("keeps messages of a day for some days only, also where a connection broke between the count and its time to live", async () => {
    const client = redisClient({ url: server.url }, "warp-test");
    await client.connect();
    const key = "warp:1:w:{192.0.2.7|google.com}:20260301";
    await client.set(key, 2);
    const ledger = new RedisIpLedger({ client, prefix: PREFIX, now: Date.now });
    ledger.countMessages("192.0.2.7", "google.com", "20260301", 2);
    await ledger.close();
    assert.equal(await client.get(key), "4");
    assert.ok((await client.ttl(key)) > 2 * 86_400);
    client.disconnect();
  });

  it("tells the other proxy of a state, of answers, and of messages of the day", async () => {
    const ledgers = [0, 1].map(() => {
      const client = redisClient({ url: server.url }, "warp-test");
      return { client, ledger: new RedisIpLedger({ client, prefix: PREFIX, now: Date.now }) };
    });
    await Promise.all(ledgers.map(({ client }) => client.connect()));
    const [a, b] = ledgers as [(typeof ledgers)[0], (typeof ledgers)[0]];
    const day = "20260301";
    const ends = Date.now() + 60_000;
    a.ledger.countAnswers("192.0.2.1", "google.com", { ok: 2, throttled: 3, blocked: 0 }, () => ({
      mail: 12.5,
    }));
    a.ledger.countMessages("192.0.2.1", "google.com", day, 7);
    const change = { ip: "192.0.2.1", provider: "google.com", from: "normal", at: Date.now() } as const;
    a.ledger.shareState({ ...change, state: "throttled", until: ends, why: "3 in a row" });
    await a.ledger.close();
    // The other one is told without asking: it reads the list of what cools down.
    const heard = Promise.withResolvers<unknown>();
    b.ledger.listen((ip, provider, shared) => heard.resolve({ ip, provider, shared }));
    const told = (await heard.promise) as { shared: { answers: { throttled: number }; state: string } };
    assert.equal(told.shared.state, "throttled");
    assert.ok(told.shared.answers.throttled > 2.9);
    b.ledger.refreshMessages("192.0.2.1", "google.com", day);
    await until(() => b.ledger.messages("192.0.2.1", "google.com", day) === 7, "the messages of the day");
    const client = server.client();
    const ttl = await client.ttl("warp:1:i:{192.0.2.1|google.com}");
    assert.ok(ttl > 86_400 && ttl <= 2 * 86_400);
    assert.equal(await client.hget("warp:1:i:{192.0.2.1|google.com}", "b:mail"), "12.5");
    const listed = Number(await client.zscore("warp:1:cooling", "192.0.2.1|google.com"));
    assert.ok(Math.abs(listed - ends) < 5_000, `ends at ${listed}`);
    b.ledger.shareState({ ...change, from: "throttled", state: "slowed", until: ends, why: "on probation" });
    await until(async () => (await client.zcard("warp:1:cooling")) === 0, "the end of cooling");
    client.disconnect();
    await b.ledger.close();
    for (const { client: own } of ledgers) own.disconnect();
  });
});

describe("what goes wrong with Redis", needsRedis, () => {
  /** The lines that a store logs of it. */
  function logged(target: RedisSettings) {
    const lines: string[] = [];
    const log: Telemetry["log"] = (_level, code, message) => lines.push(`${code} ${message}`);
    return { lines, store: storeOn(target, { epoch: "01WRONG", telemetry: { log } }) };
  }

  it("is told once with its cause where a Cluster cannot be used", async () => {
    const server = await RedisServer.start("--requirepass", "right");
    const closed = { host: "127.0.0.1", port: await freePort() };
    const nodes = [{ host: "127.0.0.1", port: server.port }];
    const cases = [
      [{ cluster: nodes, username: "default", password: "wrong" }, /cannot be used: WRONGPASS /],
      [{ cluster: nodes }, /cannot be used: NOAUTH /],
      [{ cluster: [closed] }, /cannot be used: connect ECONNREFUSED 127\.0\.0\.1:/],
      [{ cluster: [{ host: "redis.invalid", port: 6379 }] }, /Redis: getaddrinfo .*redis\.invalid/],
    ] as const;
    await Promise.all(
      cases.map(async ([settings, expected]) => {
        const { lines, store } = logged(settings);
        await until(() => lines.length > 0, String(expected));
        // Time for several attempts.
        await new Promise((resolve) => setTimeout(resolve, 1_000));
        assert.match(lines[0]!, expected);
        assert.equal(lines.length, 1, lines.join("\n"));
        await store.close();
      }),
    );
    await server.stop();
  });

  it("is told once where Redis refuses what the ledger writes", async () => {
    const server = await RedisServer.start();
    const admin = server.client();
    await admin.call("ACL", "SETUSER", "warp", "on", ">secret", "~other:*", "+@all");
    const client = redisClient({ url: `redis://warp:secret@127.0.0.1:${server.port}/0` }, "warp-test");
    await client.connect();
    const errors: string[] = [];
    const onError = (error: Error) => errors.push(error.message);
    const ledger = new RedisIpLedger({ client, prefix: PREFIX, now: Date.now, onError });
    for (let i = 0; i < 100; i += 1) ledger.countMessages("192.0.2.1", `provider-${i}`, "20260301", 1);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    assert.ok(errors.length > 0 && errors.length <= 3, errors.join("\n"));
    assert.ok(errors.every((text) => text.includes("NOPERM")));
    assert.equal(ledger.messages("192.0.2.1", "provider-7", "20260301"), 1);
    await ledger.close();
    for (const one of [client, admin]) one.disconnect();
    await server.stop();
  });
});

describe("source IPs shared by hosts whose clocks differ", needsRedis, () => {
  const DAY = 24 * HOUR;
  const pair = { ip: "192.0.2.1", provider: "google.com", from: "normal", why: "3 in a row" } as const;
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server.stop());

  /** A proxy whose clock is wrong by `skew.ms`, and what it hears. */
  async function proxy(prefix: string, skew: { ms: number }) {
    const client = redisClient({ url: server.url }, "warp-test");
    await client.connect();
    const now = () => Date.now() + skew.ms;
    const ledger = new RedisIpLedger({ client, prefix, now });
    const heard: SharedIp[] = [];
    ledger.listen((_ip, _provider, shared) => heard.push(shared));
    const cool = (ms: number) =>
      ledger.shareState({ ...pair, state: "throttled", at: now(), until: now() + ms });
    const close = async () => {
      await ledger.close();
      client.disconnect();
    };
    return { now, ledger, heard, cool, close };
  }

  for (const [text, ms] of [
    ["a day ahead", DAY],
    ["an hour behind", -HOUR],
  ] as const) {
    it(`cool as long as it was meant when the clock that said so is ${text}`, async () => {
      const prefix = `skew${ms}:`;
      const wrong = await proxy(prefix, { ms });
      const right = await proxy(prefix, { ms: 0 });
      wrong.cool(60_000);
      await until(() => right.heard.length > 0, "the state at the right clock");
      const left = right.heard[0]!.until - right.now();
      assert.ok(left > 50_000 && left <= 60_000, `cools for ${left} ms`);
      wrong.heard.length = 0;
      wrong.ledger.ask(pair.ip, pair.provider);
      await until(() => wrong.heard.length > 0, "the state at the wrong clock");
      const leftThere = wrong.heard[0]!.until - wrong.now();
      assert.ok(leftThere > 50_000 && leftThere <= 60_000, `cools for ${leftThere} ms`);
      // The one whose clock is ahead takes nothing off the list.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      const client = server.client();
      assert.equal(await client.zcard(`${prefix}cooling`), 1);
      client.disconnect();
      await Promise.all([wrong.close(), right.close()]);
    });
  }

  it("take pairs off the list whose cooling is over, and tell a state that has no end", async () => {
    const one = await proxy("over:", { ms: 0 });
    const client = server.client();
    one.cool(300);
    await until(async () => (await client.zcard("over:cooling")) === 1, "the entry");
    await until(async () => (await client.zcard("over:cooling")) === 0, "its end");
    one.ledger.shareState({ ...pair, state: "slowed", at: one.now(), until: 0 });
    await until(() => one.heard.at(-1)?.state === "slowed", "the state");
    assert.equal(one.heard.at(-1)!.until, 0);
    client.disconnect();
    await one.close();
  });

  it("are heard of by a proxy whose clock was set back", async () => {
    const skew = { ms: 0 };
    const set = await proxy("back:", skew);
    const other = await proxy("back:", { ms: 0 });
    await new Promise((resolve) => setTimeout(resolve, 500));
    set.ledger.refreshMessages(pair.ip, pair.provider, "20260301");
    skew.ms = -HOUR;
    other.cool(60_000);
    other.ledger.countMessages(pair.ip, pair.provider, "20260301", 7);
    await until(() => set.heard.length > 0, "the state", 6_000);
    assert.equal(set.heard[0]!.state, "throttled");
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    set.ledger.refreshMessages(pair.ip, pair.provider, "20260301");
    await until(() => set.ledger.messages(pair.ip, pair.provider, "20260301") === 7, "the messages", 2_000);
    await Promise.all([set.close(), other.close()]);
  });
});

describe("Redis with TLS and an ACL user", needsRedis, () => {
  it("is reached by rediss:// with an authority of one's own, and told which user it is", async () => {
    const directory = await mkdtemp(join(tmpdir(), "warp-redis-tls-"));
    const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    const made = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
    ];
    const openssl = spawnSync("openssl", [...made, ...subject, "-keyout", key, "-out", cert], {
      encoding: "utf8",
    });
    assert.equal(openssl.status, 0, openssl.stderr);
    const tlsPort = await freePort();
    const tls = ["--tls-port", String(tlsPort), "--tls-cert-file", cert, "--tls-key-file", key];
    const server = await RedisServer.start(...tls, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no");
    const admin = server.client();
    const rights = /An ACL user needs `([^`]+)`/.exec(await readFile("docs/reputation.md", "utf8"))![1]!;
    await admin.call("ACL", "SETUSER", "warp", "on", ">secret", ...rights.split(" "));
    const url = `rediss://warp:secret@127.0.0.1:${tlsPort}/0`;
    const settings = { url, tls: { ca: cert } };
    const store = storeOn(settings, { epoch: "01ACL" });
    const stranger = storeOn({ url }, { epoch: "01STRANGER" });
    try {
      await store.ready(5_000);
      store.count("mail_from:acl@example.com", { ...EMPTY_TALLY, ok: 1 }, 1);
      await until(() => store.pendingUpdates === 0, "the write");
      await store.set("mail_from:acl@example.com", { pin: "poor" });
      await store.set("mail_from:acl@example.com", { pin: null });
      assert.equal(await store.reset("mail_from:acl@example.com"), true);
      assert.match(String(await admin.client("LIST")), /name=warp-test.*user=warp/);
      await assert.rejects(stranger.ready(500), /Redis cannot be reached: self-signed certificate/);
      // The same from a configuration file.
      const config = join(directory, "warp.yaml");
      await writeFile(config, `redis: { url: "${url}", tls: { ca: ${cert} } }\n`);
      const argv = ["src/cli/main.ts", "reputation", "show", "acl@example.com", "--config", config];
      const shown = spawnSync(process.execPath, argv, { encoding: "utf8" });
      assert.equal(shown.status, 0, shown.stderr);
      assert.match(shown.stdout, /acl@example\.com/);
    } finally {
      await store.close();
      await stranger.close();
      admin.disconnect();
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
