/**
 * Source IPs and providers, shared in Redis: answers, states and messages of the day. Everything goes out in the
 * background, at most every quarter of a second per pair, and what is lost while Redis is away is lost: these numbers
 * decay within minutes. Messages of the day are sent again until Redis has them (a repeated one may count twice).
 * Which pairs cool down stands in one list, read every two seconds, so that nobody has to ask for each pair. Times in Redis
 * are Redis' own: what goes there and what comes back is the time that is left, so a host whose clock is wrong cools
 * nothing longer than the others.
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
import { RedisTroubles } from "./redis-troubles.ts";
import { COOL_SCRIPT, COOLING_SCRIPT, IP_SCRIPT, MESSAGES_SCRIPT } from "./reputation-scripts.ts";

export interface RedisLedgerOptions {
  readonly client: RedisClient;
  readonly prefix: string;
  /** ms since 1970; this host's clock, for what the listener is told. */
  readonly now: () => number;
  /** ms of a clock that nobody sets. */
  readonly monotonic?: () => number;
  /** Half-life of the answers, ms. */
  readonly halfLifeMs?: number;
  /** The same trouble is told once, until it is over. */
  readonly onError?: (error: Error) => void;
}

const FLUSH_MS = 250;
const REFRESH_MS = 2_000;
const MAX_PAIRS = 20_000;
const MAX_COOLING = 1_000;
const IP_TTL_MS = 2 * 86_400_000;
const MESSAGES_TTL_S = 3 * 86_400;
const IP = script(IP_SCRIPT);
const COOL = script(COOL_SCRIPT);
const COOLING = script(COOLING_SCRIPT);
const MESSAGES = script(MESSAGES_SCRIPT);

interface Outgoing {
  readonly ip: string;
  readonly provider: string;
  ok: number;
  throttled: number;
  blocked: number;
  state: SharedState | undefined;
  baselines: () => Baselines;
}
interface SharedState {
  readonly change: IpStateChange;
  /** When it was (monotonic clock). */
  readonly at: number;
}
type Baselines = Readonly<Partial<Record<Stage, number>>>;
const NO_BASELINES = (): Baselines => ({});

export class RedisIpLedger implements IpLedger {
  readonly #options: RedisLedgerOptions;
  readonly #monotonic: () => number;
  readonly #troubles: RedisTroubles;
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #known = new DayMessages();
  /** Counted here and not confirmed, per pair and day. */
  readonly #unsent = new Map<string, { ip: string; provider: string; day: string; messages: number }>();
  #lastId = { pair: "", day: "", id: "" };
  readonly #refreshed = new BoundedMap<string, number>(MAX_PAIRS);
  readonly #timer: NodeJS.Timeout;
  /** Pair → end of cooling, as listed the last time. */
  #cooling: ReadonlyMap<string, string> = new Map();
  #polledAt = Number.NEGATIVE_INFINITY;
  #listener: ((ip: string, provider: string, shared: SharedIp) => void) | undefined;

  constructor(options: RedisLedgerOptions) {
    this.#options = options;
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#troubles = new RedisTroubles(this.#monotonic);
    options.client.on("ready", () => this.#troubles.over());
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
    if (out !== undefined) out.state = { change, at: this.#monotonic() };
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
    const now = this.#monotonic();
    const refreshedAt = this.#refreshed.get(pair) ?? Number.NEGATIVE_INFINITY;
    if (now - refreshedAt < REFRESH_MS || !this.#isReady) return;
    this.#refreshed.set(pair, now);
    const { client, prefix } = this.#options;
    client.get(messagesKey(prefix, ip, provider, day)).then(
      (count) => this.#known.set(pair, day, Number(count ?? 0)),
      (error: Error) => this.#failed(error),
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
    const now = this.#monotonic();
    if (now - this.#polledAt < REFRESH_MS || !this.#isReady) return;
    this.#polledAt = now;
    this.#askForCooling().catch((error: Error) => this.#failed(error));
  }

  #failed(error: Error): void {
    if (this.#troubles.isNew(error.message)) this.#options.onError?.(error);
  }

  /** Pairs that cool down somewhere: what is not known here yet is asked for. */
  async #askForCooling(): Promise<void> {
    const { client, prefix } = this.#options;
    const listed = (await runScript(client, COOLING, [coolingKey(prefix), MAX_COOLING])) as readonly string[];
    const current = new Map<string, string>();
    for (let i = 0; i + 1 < listed.length; i += 2) {
      const [pair, until] = [listed[i]!, listed[i + 1]!];
      current.set(pair, until);
      const bar = pair.indexOf("|");
      if (this.#cooling.get(pair) !== until) this.ask(pair.slice(0, bar), pair.slice(bar + 1));
    }
    this.#cooling = current;
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
    const { client, prefix, halfLifeMs = DEFAULT_THROTTLE.halfLifeMs, now } = this.#options;
    const { ip, provider, state } = out;
    const change = state?.change;
    const leftMs = state === undefined ? undefined : this.#left(state);
    try {
      const reply = (await runScript(client, IP, [
        ipKey(prefix, ip, provider),
        halfLifeMs,
        out.ok,
        out.throttled,
        out.blocked,
        change?.state ?? "",
        leftMs ?? "",
        change?.why ?? "",
        IP_TTL_MS,
        ...Object.entries(out.baselines()).flat(),
      ])) as readonly string[];
      this.#listener?.(ip, provider, sharedOf(reply, now()));
      if (change !== undefined) await this.#list(change, leftMs);
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  /** How long a state goes on, whatever became of the host's clock since; undefined: nothing runs out. */
  #left({ change, at }: SharedState): number | undefined {
    if (change.until === 0) return undefined;
    return Math.round(change.until - change.at - (this.#monotonic() - at));
  }

  async #list({ ip, provider, state }: IpStateChange, leftMs: number | undefined): Promise<void> {
    const { client, prefix } = this.#options;
    const key = coolingKey(prefix);
    const pair = pairKey(ip, provider);
    if (isCooling(state) && leftMs !== undefined) await runScript(client, COOL, [key, pair, leftMs]);
    else await client.zrem(key, pair);
  }

  async #sendMessages(unsent: {
    ip: string;
    provider: string;
    day: string;
    messages: number;
  }): Promise<void> {
    const { client, prefix } = this.#options;
    const { ip, provider, day, messages } = unsent;
    const key = messagesKey(prefix, ip, provider, day);
    // Counted here at once: the cap holds while the write is under way.
    this.#known.add(pairKey(ip, provider), day, messages);
    try {
      const total = await runScript(client, MESSAGES, [key, messages, MESSAGES_TTL_S]);
      this.#known.set(pairKey(ip, provider), day, total as number);
    } catch (error) {
      this.#known.add(pairKey(ip, provider), day, -messages);
      this.countMessages(ip, provider, day, messages);
      this.#failed(error as Error);
    }
  }
}

function nothingOf(ip: string, provider: string): Outgoing {
  return { ip, provider, ok: 0, throttled: 0, blocked: 0, state: undefined, baselines: NO_BASELINES };
}

function sharedOf(
  [ok, throttled, blocked, state, leftMs, why, ...baselines]: readonly string[],
  now: number,
): SharedIp {
  const stages: Partial<Record<Stage, number>> = {};
  for (let i = 0; i + 1 < baselines.length; i += 2) {
    const stage = baselines[i] as Stage;
    if (STAGES.includes(stage)) stages[stage] = Number(baselines[i + 1]);
  }
  return {
    answers: { ok: Number(ok), throttled: Number(throttled), blocked: Number(blocked) },
    state: state as IpStateName,
    until: leftMs === "" ? 0 : now + Number(leftMs),
    why: why!,
    baselines: stages,
  };
}
