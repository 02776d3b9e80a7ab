/**
 * Source IPs and providers, shared in Redis: answers, states and messages of the day. Everything goes out in the
 * background, at most every quarter of a second per pair, and what is lost while Redis is away is lost: these numbers
 * decay within minutes. Messages of the day are sent again until Redis has them (a repeated one may count twice).
 * Which pairs cool down stands in one list, read every two seconds, so that nobody has to ask for each pair.
 */

import { STAGES, type Stage } from "../deliverability/latency.ts";
import type { IpLedger } from "../deliverability/ledger.ts";
import { pairKey } from "../deliverability/pair.ts";
import {
  DEFAULT_THROTTLE,
  type IpAnswers,
  type IpStateChange,
  type IpStateName,
  isCooling,
  type SharedIp,
} from "../deliverability/throttle.ts";
import { BoundedMap } from "../egress/bounded-map.ts";
import { DayMessages } from "./ip-messages.ts";
import type { RedisClient } from "./redis-connection.ts";
import { coolingKey, ipKey, messagesKey } from "./redis-keys.ts";
import { runScript, script } from "./redis-script.ts";
import { IP_SCRIPT } from "./reputation-scripts.ts";

export interface RedisLedgerOptions {
  readonly client: RedisClient;
  readonly prefix: string;
  readonly now: () => number;
  /** Half-life of the answers, ms. */
  readonly halfLifeMs?: number;
  readonly onError?: (error: Error) => void;
}

const FLUSH_MS = 250;
const REFRESH_MS = 2_000;
const MAX_PAIRS = 20_000;
const MAX_COOLING = 1_000;
const IP_TTL_MS = 2 * 86_400_000;
const MESSAGES_TTL_S = 3 * 86_400;
const IP = script(IP_SCRIPT);

interface Outgoing {
  readonly ip: string;
  readonly provider: string;
  ok: number;
  throttled: number;
  blocked: number;
  state: IpStateChange | undefined;
  baselines: () => Baselines;
}
type Baselines = Readonly<Partial<Record<Stage, number>>>;
const NO_BASELINES = (): Baselines => ({});

export class RedisIpLedger implements IpLedger {
  readonly #options: RedisLedgerOptions;
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #known = new DayMessages();
  /** Counted here and not confirmed, per pair and day. */
  readonly #unsent = new Map<string, { ip: string; provider: string; day: string; messages: number }>();
  #lastId = { pair: "", day: "", id: "" };
  readonly #refreshed = new BoundedMap<string, number>(MAX_PAIRS);
  readonly #timer: NodeJS.Timeout;
  /** Pair → end of cooling, as listed the last time. */
  #cooling: ReadonlyMap<string, string> = new Map();
  #polledAt = 0;
  #listener: ((ip: string, provider: string, shared: SharedIp) => void) | undefined;

  constructor(options: RedisLedgerOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), FLUSH_MS);
    this.#timer.unref();
  }

  countAnswers(ip: string, provider: string, answers: IpAnswers, baselines: () => Baselines): void {
    const out = this.#out(ip, provider);
    if (out === undefined) return;
    out.ok += answers.ok;
    out.throttled += answers.throttled;
    out.blocked += answers.blocked;
    // What they are is asked for when they go out, not with every message.
    out.baselines = baselines;
  }

  shareState(change: IpStateChange): void {
    const out = this.#out(change.ip, change.provider);
    if (out !== undefined) out.state = change;
  }

  countMessages(ip: string, provider: string, day: string, messages: number): void {
    const id = this.#unsentId(pairKey(ip, provider), day);
    const unsent = this.#unsent.get(id);
    if (unsent !== undefined) unsent.messages += messages;
    else if (this.#unsent.size < MAX_PAIRS) this.#unsent.set(id, { ip, provider, day, messages });
  }

  messages(ip: string, provider: string, day: string): number {
    const pair = pairKey(ip, provider);
    return this.#known.get(pair, day) + (this.#unsent.get(this.#unsentId(pair, day))?.messages ?? 0);
  }

  refreshMessages(ip: string, provider: string, day: string): void {
    const pair = pairKey(ip, provider);
    const now = this.#options.now();
    if (now - (this.#refreshed.get(pair) ?? 0) < REFRESH_MS || !this.#isReady) return;
    this.#refreshed.set(pair, now);
    const { client, prefix } = this.#options;
    client.get(messagesKey(prefix, ip, provider, day)).then(
      (count) => this.#known.set(pair, day, Number(count ?? 0)),
      (error: Error) => this.#options.onError?.(error),
    );
  }

  ask(ip: string, provider: string): void {
    if (!this.#isReady) return;
    void this.#send(nothingOf(ip, provider));
  }

  listen(listener: (ip: string, provider: string, shared: SharedIp) => void): void {
    this.#listener = listener;
  }

  /** Sends what waits, once. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#isReady) await Promise.all(this.#flush());
  }

  /** Asked for with every message, and nearly always the same. */
  #unsentId(pair: string, day: string): string {
    if (this.#lastId.pair !== pair || this.#lastId.day !== day) {
      this.#lastId = { pair, day, id: `${pair}:${day}` };
    }
    return this.#lastId.id;
  }

  get #isReady(): boolean {
    return this.#options.client.status === "ready";
  }

  #out(ip: string, provider: string): Outgoing | undefined {
    const id = pairKey(ip, provider);
    let out = this.#outgoing.get(id);
    if (out === undefined && this.#outgoing.size < MAX_PAIRS) {
      out = nothingOf(ip, provider);
      this.#outgoing.set(id, out);
    }
    return out;
  }

  #tick(): void {
    this.#flush();
    const now = this.#options.now();
    if (now - this.#polledAt < REFRESH_MS || !this.#isReady) return;
    this.#polledAt = now;
    this.#askForCooling(now).catch((error: Error) => this.#options.onError?.(error));
  }

  /** Pairs that cool down somewhere: what is not known here yet is asked for. */
  async #askForCooling(now: number): Promise<void> {
    const { client, prefix } = this.#options;
    const key = coolingKey(prefix);
    const listed = await client.zrangebyscore(key, now, "+inf", "WITHSCORES", "LIMIT", 0, MAX_COOLING);
    const current = new Map<string, string>();
    for (let i = 0; i + 1 < listed.length; i += 2) {
      const [pair, until] = [listed[i]!, listed[i + 1]!];
      current.set(pair, until);
      const bar = pair.indexOf("|");
      if (this.#cooling.get(pair) !== until) this.ask(pair.slice(0, bar), pair.slice(bar + 1));
    }
    this.#cooling = current;
    await client.zremrangebyscore(key, "-inf", now);
  }

  #flush(): readonly Promise<void>[] {
    if (!this.#isReady) return [];
    const work: Promise<void>[] = [];
    for (const out of this.#outgoing.values()) work.push(this.#send(out));
    this.#outgoing.clear();
    for (const [id, unsent] of this.#unsent) {
      this.#unsent.delete(id);
      work.push(this.#sendMessages(unsent));
    }
    return work;
  }

  async #send(out: Outgoing): Promise<void> {
    const { client, prefix, halfLifeMs = DEFAULT_THROTTLE.halfLifeMs, onError } = this.#options;
    const { ip, provider, state } = out;
    try {
      const reply = (await runScript(client, IP, [
        ipKey(prefix, ip, provider),
        halfLifeMs,
        out.ok,
        out.throttled,
        out.blocked,
        state?.state ?? "",
        state?.until ?? 0,
        state?.why ?? "",
        IP_TTL_MS,
        ...Object.entries(out.baselines()).flat(),
      ])) as readonly string[];
      this.#listener?.(ip, provider, sharedOf(reply));
      if (state !== undefined) await this.#list(state);
    } catch (error) {
      onError?.(error as Error);
    }
  }

  async #list({ ip, provider, state, until }: IpStateChange): Promise<void> {
    const { client, prefix } = this.#options;
    const pair = pairKey(ip, provider);
    if (isCooling(state)) await client.zadd(coolingKey(prefix), until, pair);
    else await client.zrem(coolingKey(prefix), pair);
  }

  async #sendMessages(unsent: {
    ip: string;
    provider: string;
    day: string;
    messages: number;
  }): Promise<void> {
    const { client, prefix, onError } = this.#options;
    const { ip, provider, day, messages } = unsent;
    const key = messagesKey(prefix, ip, provider, day);
    // Counted here at once: the cap holds while the write is under way.
    this.#known.add(pairKey(ip, provider), day, messages);
    try {
      const total = await client.incrby(key, messages);
      this.#known.set(pairKey(ip, provider), day, total);
      if (total === messages) await client.expire(key, MESSAGES_TTL_S);
    } catch (error) {
      this.#known.add(pairKey(ip, provider), day, -messages);
      this.countMessages(ip, provider, day, messages);
      onError?.(error as Error);
    }
  }
}

function nothingOf(ip: string, provider: string): Outgoing {
  return { ip, provider, ok: 0, throttled: 0, blocked: 0, state: undefined, baselines: NO_BASELINES };
}

function sharedOf([ok, throttled, blocked, state, until, why, ...baselines]: readonly string[]): SharedIp {
  const stages: Partial<Record<Stage, number>> = {};
  for (let i = 0; i + 1 < baselines.length; i += 2) {
    const stage = baselines[i] as Stage;
    if (STAGES.includes(stage)) stages[stage] = Number(baselines[i + 1]);
  }
  return {
    answers: { ok: Number(ok), throttled: Number(throttled), blocked: Number(blocked) },
    state: state as IpStateName,
    until: Number(until),
    why: why!,
    baselines: stages,
  };
}
