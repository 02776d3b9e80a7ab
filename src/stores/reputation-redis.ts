/**
 * Reputation shared by many proxies, in Redis. Rules: mail waits for Redis at most the budget, and not at all while it is
 * known to be slow or down: then the local snapshot answers. Outcomes are written in the background, kept (bounded) while
 * Redis is away, and applied once however often they are sent (reputation-scripts.ts). Everything that goes wrong is told
 * to the telemetry; nothing throws into a session.
 */
import { BoundedMap } from "../egress/bounded-map.ts";
import type { Telemetry } from "../events/telemetry.ts";
import { COUNTERS, merged, type Tally } from "../reputation/counts.ts";
import { newRecord, recordWith, type SenderRecord, standingOf } from "../reputation/standing.ts";
import type {
  ReputationAdmin,
  ReputationSettings,
  ReputationStore,
  Standing,
  StandingChange,
} from "../reputation/store.ts";
import { tierRank } from "../reputation/tiers.ts";
import { type PendingWrite, PendingWrites } from "./pending-writes.ts";
import type { RedisClient } from "./redis-connection.ts";
import { poorKey, proxyKey, senderKey } from "./redis-keys.ts";
import { runScript, type Script, script } from "./redis-script.ts";
import { RedisTroubles } from "./redis-troubles.ts";
import { changed, expiryMs } from "./reputation-memory.ts";
import { senderScript } from "./reputation-scripts.ts";
import { type SenderReply, senderReply, talliesOf } from "./sender-reply.ts";

export interface RedisStoreOptions {
  readonly client: RedisClient;
  readonly settings: ReputationSettings;
  readonly prefix: string;
  readonly budgetMs: number;
  /** ULID, new for each process: with `worker` it names the stream of writes whose sequences begin at 1. */
  readonly epoch: string;
  readonly worker: number;
  readonly telemetry: Telemetry;
  /** ms since 1970; this host's clock, for the snapshot only. */
  readonly now: () => number;
  /** ms of a clock that nobody sets, for intervals. */
  readonly monotonic?: () => number;
  /** Senders whose writes may wait; more are lost, and counted. */
  readonly maxPending?: number;
  readonly maxSnapshots?: number;
  /** A snapshot so young is answered without asking. */
  readonly freshMs?: number;
  /** So long outcomes wait for others of their sender, ms. */
  readonly flushMs?: number;
  /** Announces this proxy (`p:PROXY`). */
  readonly presence?: { readonly proxy: string; readonly version: string; readonly workers: number };
}

const MAX_PENDING = 100_000;
const MAX_SNAPSHOTS = 100_000;
const FRESH_MS = 1_000;
/** Writes under way at a time: a question that comes behind them waits for about 2 ms of Redis' time. */
const WINDOW = 64;
/** So many waiting senders are written without waiting for more of their outcomes. */
const BACKLOG = 512;
const FLUSH_MS = 500;
const RETRY_MS = 250;
const PRESENCE_MS = 20_000;
const PRESENCE_TTL_S = 60;
const POOR_KEPT = 10_000;
/** How many of them are read at once. */
const TOP_PAGE = 500;
const MAX_RANKED = 10_000;
const RANK_MS = 60_000;
/** Answers of Redis after which the same write may succeed later. */
const TRANSIENT =
  /^(?:LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|BUSY|OOM|NOREPLICAS|MISCONF|NOAUTH|NOPERM|WRONGPASS|MOVED|ASK|UNBLOCKED|NOSCRIPT)\b/;

interface Snapshot {
  record: SenderRecord;
  /** False: nothing is known in Redis. */
  known: boolean;
  /** When Redis last said so (monotonic clock); undefined: never. */
  confirmedAt: number | undefined;
}
export class RedisReputationStore implements ReputationStore, ReputationAdmin {
  readonly #options: RedisStoreOptions;
  readonly #monotonic: () => number;
  readonly #client: RedisClient;
  readonly #snapshots: BoundedMap<string, Snapshot>;
  readonly #pending: PendingWrites;
  readonly #reads = new Map<string, Promise<Standing>>();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** When a sender was last written into the list of the poor (monotonic clock). */
  readonly #ranked = new BoundedMap<string, number>(MAX_RANKED);
  readonly #rankings = new Set<Promise<void>>();
  #settings!: ReputationSettings;
  #senderScript!: Script;
  #isSlow = false;
  #toldPending = 0;
  /** Writes that were waiting at the last flush and are not sent yet. */
  #due = 0;
  #flushScheduled = false;
  #retryScheduled = false;
  #isClosed = false;
  #idle: (() => void) | undefined;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#client = options.client;
    this.#snapshots = new BoundedMap(options.maxSnapshots ?? MAX_SNAPSHOTS);
    this.#pending = new PendingWrites(
      options.maxPending ?? MAX_PENDING,
      () => this.#settings.score.halfLivesMs,
    );
    this.configure(options.settings);
  }

  configure(settings: ReputationSettings): void {
    this.#settings = settings;
    this.#senderScript = script(senderScript(settings));
  }

  /** Begins to connect. Does not wait: mail flows without Redis too. */
  open(): void {
    const { telemetry } = this.#options;
    const troubles = new RedisTroubles(this.#monotonic);
    const tell = (error: Error) => {
      // The same trouble at every attempt is said once.
      if (!troubles.isNew(error.message)) return;
      telemetry.log("warn", "redis_error", `Redis: ${error.message}`, {}, error);
    };
    this.#client.on("ready", () => {
      troubles.over();
      this.#isSlow = false;
      telemetry.redisUp(true);
      telemetry.log("info", "redis_up", "connected to Redis");
      this.#flushSoon();
    });
    this.#client.on("close", () => {
      this.#isSlow = false;
      telemetry.redisUp(false);
    });
    this.#client.on("error", tell);
    telemetry.redisUp(false);
    this.#client.connect().catch((error: NodeJS.ErrnoException) => {
      // Told by "error" but for a name of a Cluster's node that is not found; it goes on trying.
      if (error.syscall === "getaddrinfo") tell(error);
    });
    if (this.#options.presence !== undefined) this.#announce(this.#options.presence);
  }

  standing(identity: string): Standing | Promise<Standing> {
    const { telemetry, freshMs = FRESH_MS } = this.#options;
    const confirmedAt = this.#snapshots.get(identity)?.confirmedAt;
    if (confirmedAt !== undefined && this.#monotonic() - confirmedAt < freshMs) {
      return this.#fromSnapshot(identity, "store");
    }
    if (!this.#isReady || this.#isSlow) {
      telemetry.redisFallback(this.#isReady ? "slow" : "down");
      return this.#fromSnapshot(identity, "snapshot");
    }
    const running = this.#reads.get(identity);
    if (running !== undefined) return running;
    const read = this.#readWithin(identity).finally(() => this.#reads.delete(identity));
    this.#reads.set(identity, read);
    return read;
  }

  count(identity: string, tally: Tally, recipients: number): void {
    const { telemetry } = this.#options;
    const now = this.#options.now();
    if (!this.#pending.add(identity, tally, recipients, now)) {
      telemetry.redisLostWrites(1);
      return;
    }
    // The snapshot counts along, so that tiers move while Redis is away.
    const snapshot = this.#snapshots.get(identity);
    const before = snapshot?.record ?? newRecord(this.#settings, now);
    const record = recordWith(before, tally, recipients, this.#settings, now);
    if (snapshot === undefined)
      this.#snapshots.set(identity, { record, known: true, confirmedAt: undefined });
    else {
      snapshot.record = record;
      snapshot.known = true;
    }
    this.#tellPending();
    this.#flushSoon();
  }

  /** Outcomes that Redis has not confirmed. */
  get pendingUpdates(): number {
    return this.#pending.updates;
  }

  get #isReady(): boolean {
    return this.#client.status === "ready";
  }

  /** Waits until connected; rejects after `ms` with the reason, for those who can't go on without. */
  async ready(ms: number): Promise<void> {
    if (this.#isReady) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let reason: Error | undefined;
    const onError = (error: Error) => {
      reason = error;
    };
    const timer = setTimeout(() => {
      const said = reason === undefined ? "no answer" : reason.message;
      reject(new Error(`Redis cannot be reached: ${said}`, { cause: reason }));
    }, ms);
    this.#client.once("ready", resolve);
    this.#client.on("error", onError);
    await promise.finally(() => {
      clearTimeout(timer);
      this.#client.off("ready", resolve);
      this.#client.off("error", onError);
    });
  }

  async show(identity: string): Promise<Standing> {
    const { record, known } = await this.#script(identity, undefined);
    return this.#standing(identity, { record, known });
  }

  /**
   * The list names each as it was when it was written last: who recovered by time alone is passed over, and who is
   * forgotten (the record's TTL) leaves it, so that neither takes the place of another.
   */
  async top(limit: number): Promise<readonly Standing[]> {
    const key = poorKey(this.#options.prefix);
    const found: Standing[] = [];
    const forgotten: string[] = [];
    for (let at = 0; found.length < limit; at += TOP_PAGE) {
      const identities = await this.#client.zrange(key, at, String(at + TOP_PAGE - 1));
      if (identities.length === 0) break;
      for (const standing of await Promise.all(identities.map((identity) => this.show(identity)))) {
        if (!standing.known) forgotten.push(standing.identity);
        else if (this.#isPoor(standing.tier)) found.push(standing);
      }
    }
    if (forgotten.length > 0) await this.#client.zrem(key, ...forgotten);
    return found.sort((a, b) => a.score - b.score).slice(0, limit);
  }

  async set(identity: string, change: StandingChange): Promise<void> {
    const { prefix, now } = this.#options;
    const key = senderKey(prefix, identity);
    const before = await this.#script(identity, undefined);
    const record = changed(before.record, change, this.#settings, now());
    const redisTime = await this.#client.time();
    const at = Number(redisTime[0]) * 1000 + Math.floor(Number(redisTime[1]) / 1000);
    const fields: (string | number)[] = ["t", at, "n", record.counts.total, "tier", record.tier.tier];
    fields.push("tier_at", record.tier.since === 0 ? 0 : at - (now() - record.tier.since));
    for (const [i, window] of record.counts.windows.entries()) {
      for (const name of COUNTERS) fields.push(`${name}:${i}`, window[name]);
    }
    if (record.pin !== undefined) fields.push("pin", record.pin);
    await this.#client.hset(key, ...fields);
    if (record.pin === undefined) {
      await this.#client.hdel(key, "pin");
      await this.#client.pexpire(key, expiryMs(this.#settings));
    } else {
      await this.#client.persist(key);
    }
    const standing = await this.show(identity);
    await this.#rankPoor(identity, standing.tier, standing.score);
  }

  async reset(identity: string): Promise<boolean> {
    const { prefix } = this.#options;
    const key = senderKey(prefix, identity);
    const counts = this.#settings.score.halfLivesMs.flatMap((_, i) => COUNTERS.map((name) => `${name}:${i}`));
    // The sequences stay: a write under way must not count twice because of this.
    const removed = await this.#client.hdel(key, "t", "n", "tier", "tier_at", "pin", ...counts);
    await this.#client.pexpire(key, expiryMs(this.#settings));
    await this.#client.zrem(poorKey(prefix), identity);
    this.#snapshots.delete(identity);
    return removed > 0;
  }

  /** Writes what waits, for at most `ms`; what is left then is lost, and counted. */
  async close(ms = 2_000): Promise<void> {
    if (this.#isClosed) return;
    const { promise: late, resolve: giveUp } = Promise.withResolvers<void>();
    const timer = setTimeout(giveUp, ms);
    if (this.#pending.size > 0 && this.#isReady) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#idle = resolve;
      this.#flush();
      await Promise.race([promise, late]);
    }
    await Promise.race([Promise.all(this.#rankings), late]);
    clearTimeout(timer);
    this.#isClosed = true;
    if (this.#pending.size > 0) this.#options.telemetry.redisLostWrites(this.#pending.updates);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#client.disconnect();
  }

  async #readWithin(identity: string): Promise<Standing> {
    const { budgetMs, telemetry } = this.#options;
    const { promise, resolve } = Promise.withResolvers<Standing>();
    const timer = setTimeout(() => {
      this.#isSlow = true;
      telemetry.redisFallback("slow");
      resolve(this.#fromSnapshot(identity, "snapshot"));
    }, budgetMs);
    this.#script(identity, undefined).then(
      (reply) => {
        clearTimeout(timer);
        this.#learn(identity, reply);
        resolve(this.#fromSnapshot(identity, "store"));
      },
      () => {
        clearTimeout(timer);
        telemetry.redisFallback("down");
        resolve(this.#fromSnapshot(identity, "snapshot"));
      },
    );
    return promise;
  }

  #fromSnapshot(identity: string, source: Standing["source"]): Standing {
    const snapshot = this.#snapshots.get(identity);
    return this.#standing(identity, snapshot ?? { record: undefined, known: false }, source);
  }

  #standing(
    identity: string,
    { record, known }: { readonly record: SenderRecord | undefined; readonly known: boolean },
    source: Standing["source"] = "store",
  ): Standing {
    return standingOf(identity, record, this.#settings, this.#options.now(), source, known);
  }

  /** Redis' word, with what still waits here. */
  #learn(identity: string, { record, known }: SenderReply): void {
    const waiting = this.#pending.waiting(identity);
    const { halfLivesMs } = this.#settings.score;
    const counts = waiting === undefined ? record.counts : merged(record.counts, waiting, halfLivesMs);
    this.#snapshots.set(identity, {
      record: { ...record, counts },
      known: known || waiting !== undefined,
      confirmedAt: this.#monotonic(),
    });
  }

  #tellPending(): void {
    const { size } = this.#pending;
    if (size === this.#toldPending) return;
    this.#toldPending = size;
    this.#options.telemetry.redisPendingWrites(size);
  }

  #flushSoon(): void {
    if (this.#flushScheduled || !this.#isReady || this.#isClosed) return;
    this.#flushScheduled = true;
    const flush = () => {
      this.#flushScheduled = false;
      this.#flush();
    };
    // A moment's patience makes one round trip of many writes, and one write of what a busy sender did meanwhile; a
    // backlog needs none.
    if (this.#pending.size >= BACKLOG) setImmediate(flush);
    else this.#later(this.#options.flushMs ?? FLUSH_MS, flush);
  }

  /** Everything that waits now is due. */
  #flush(): void {
    this.#due = this.#pending.size - this.#pending.sent;
    this.#sendDue();
  }

  #sendDue(): void {
    if (!this.#isReady || this.#isClosed) return;
    const writes = this.#pending.take(WINDOW, this.#options.now());
    this.#due -= writes.length;
    for (const write of writes) {
      this.#script(write.identity, write).then(
        (reply) => this.#written(write, reply),
        (error: Error) => this.#notWritten(write, error),
      );
    }
  }

  #written(write: PendingWrite, reply: SenderReply): void {
    this.#pending.done(write);
    this.#learn(write.identity, reply);
    this.#tellPending();
    this.#rankSoon(write.identity, reply);
    this.#goOn();
  }

  #goOn(): void {
    if (this.#pending.size === 0) this.#idle?.();
    else if (this.#due <= 0) this.#flushSoon();
    else if (this.#pending.sent <= WINDOW / 2) this.#sendDue();
  }

  #notWritten(write: PendingWrite, error: Error): void {
    const { telemetry } = this.#options;
    const isAnswer = error.name === "ReplyError";
    if (isAnswer && !TRANSIENT.test(error.message)) {
      telemetry.log(
        "error",
        "redis_write_refused",
        `Redis refused a write for good: ${error.message}`,
        {},
        error,
      );
      telemetry.redisLostWrites(write.updates);
      this.#pending.done(write);
      this.#goOn();
      return;
    }
    this.#pending.unsure(write);
    this.#due = 0;
    // A lost connection says "ready" when it is back; Redis that answers so has to be asked again.
    if (this.#retryScheduled) return;
    this.#retryScheduled = true;
    this.#later(RETRY_MS, () => {
      this.#retryScheduled = false;
      this.#flushSoon();
    });
  }

  /** Runs the sender's script: reads, and writes where `write` is given. */
  async #script(identity: string, write: PendingWrite | undefined): Promise<SenderReply> {
    const { prefix, epoch, worker, telemetry } = this.#options;
    const started = performance.now();
    const args = [
      senderKey(prefix, identity),
      write === undefined ? "" : epoch,
      worker,
      write?.sequence ?? 0,
      write?.counts.total ?? 0,
      expiryMs(this.#settings),
      ...(write === undefined ? [] : talliesOf(write.counts)),
    ] as const;
    const reply = await runScript(this.#client, this.#senderScript, args);
    telemetry.redisCall(performance.now() - started);
    this.#isSlow = false;
    return senderReply(reply as string, this.#settings, this.#options.now());
  }

  /** Keeps the list of the poor up to date: at each change of tier, and once a minute for who is in it. */
  #rankSoon(identity: string, { tierBefore, record, score }: SenderReply): void {
    // One that is pinned stays in its tier whatever is counted.
    const tier = record.pin ?? record.tier.tier;
    const now = this.#monotonic();
    const isDue =
      this.#isPoor(tier) && now - (this.#ranked.get(identity) ?? Number.NEGATIVE_INFINITY) >= RANK_MS;
    if ((record.pin ?? tierBefore) === tier && !isDue) return;
    this.#ranked.set(identity, now);
    const ranking = this.#rankPoor(identity, tier, score).catch(() => {
      // Only a list for people: the sender's next write tries again.
      this.#ranked.delete(identity);
    });
    this.#rankings.add(ranking);
    void ranking.finally(() => this.#rankings.delete(ranking));
  }

  #isPoor(tier: string): boolean {
    return tierRank(tier, this.#settings.ladder) < 0;
  }

  /** The list that `warp reputation top` reads: senders in a tier below neutral. */
  async #rankPoor(identity: string, tier: string, score: number): Promise<void> {
    const key = poorKey(this.#options.prefix);
    if (this.#isPoor(tier)) {
      await this.#client.zadd(key, score, identity);
      await this.#client.zremrangebyrank(key, POOR_KEPT, -1);
    } else {
      await this.#client.zrem(key, identity);
    }
  }

  #announce({ proxy, version, workers }: NonNullable<RedisStoreOptions["presence"]>): void {
    const key = proxyKey(this.#options.prefix, proxy);
    const say = async () => {
      const seen = new Date(this.#options.now()).toISOString();
      await this.#client.hset(key, { version, workers, last_seen: seen });
      await this.#client.expire(key, PRESENCE_TTL_S);
    };
    const timer = setInterval(() => {
      if (this.#isReady) say().catch(() => undefined /* the next one comes in 20 s */);
    }, PRESENCE_MS);
    timer.unref();
    this.#timers.add(timer);
    this.#client.once("ready", () => {
      say().catch(() => undefined /* as above */);
    });
  }

  #later(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, ms);
    timer.unref();
    this.#timers.add(timer);
  }
}
