/**
 * Every metric of the proxy, under the names that dashboards rely on. `Metrics` takes what the layers tell it (it is a
 * `Telemetry` but for the log), `MetricsSink` what follows from events. A call on the hot path looks a cell up and adds.
 * No sender, recipient or message is ever a label; `provider` is the 50 busiest, else `other`. Units: seconds, octets.
 */
import { AggregatorRegistry, collectDefaultMetrics, Registry } from "prom-client";
import type {
  Family,
  HookFailure,
  IpState,
  LegReason,
  LegResult,
  SessionResult,
  Side,
  SourceIpCause,
  Telemetry,
  Violation,
} from "../events/telemetry.ts";
import { OWN } from "../smtp/own-replies.ts";
import type { ExportedMetric } from "./cells.ts";
import {
  eventMetrics,
  hookMetrics,
  type MailMetrics,
  mailMetrics,
  processMetrics,
  reputationMetrics,
  sessionMetrics,
} from "./metric-definitions.ts";
import { MetricsSink } from "./metrics-sink.ts";

const IP_STATES = 10_000;
/** What a state is followed by when its time is over: cooling by probation, which is slowed, and that by normal. */
const AFTER: Readonly<Record<IpState, IpState>> = { 0: 0, 1: 0, 2: 1, 3: 1 };
interface IpStanding {
  readonly ip: string;
  readonly provider: string;
  readonly state: IpState;
  readonly until: number;
}

export interface MetricsOptions {
  readonly version: string;
  /** Metrics of the process (CPU, memory, event loop) too; default true. */
  readonly withProcess?: boolean;
  /** ms since 1970; default: the clock. */
  readonly now?: () => number;
}

export class Metrics implements Omit<Telemetry, "log"> {
  readonly registry = new Registry();
  /** For the sink: transactions, replies, stages, octets. */
  readonly mail: MailMetrics;
  readonly #sessions: ReturnType<typeof sessionMetrics>;
  readonly #hooks: ReturnType<typeof hookMetrics>;
  readonly #events: ReturnType<typeof eventMetrics>;
  readonly #reputation: ReturnType<typeof reputationMetrics>;
  readonly #process: ReturnType<typeof processMetrics>;
  readonly #now: () => number;
  /** The one told last at the end. */
  readonly #ipStates = new Map<string, IpStanding>();
  readonly #sink: MetricsSink;

  constructor(options: MetricsOptions) {
    this.#now = options.now ?? Date.now;
    this.#sessions = sessionMetrics(this.registry);
    this.mail = mailMetrics(this.registry);
    this.#hooks = hookMetrics(this.registry);
    this.#events = eventMetrics(this.registry);
    this.#reputation = reputationMetrics(this.registry);
    this.#process = processMetrics(this.registry);
    this.#process.buildInfo.cell(options.version).value = 1;
    // There from the start, so that the first increase is seen: a single one of these is a reason to look.
    for (const result of ["ok", "failed"]) this.#process.reloads.cell(result);
    const { code, reason } = OWN.noStorage;
    this.mail.ownReplies.cell(String(code), reason);
    if (options.withProcess !== false) this.#collectProcess();
    this.#sink = new MetricsSink(this.mail);
  }

  #collectProcess(): void {
    collectDefaultMetrics({ register: this.registry });
    // The average of prom-client's own hides one busy worker behind its idle siblings and the primary.
    const lag = this.registry.getSingleMetric("nodejs_eventloop_lag_p99_seconds");
    Object.assign(lag ?? {}, { aggregator: "max" });
  }

  /** Takes AfterTransaction and AfterConn; give it to every session. */
  get sink(): MetricsSink {
    return this.#sink;
  }
  /** The text of `/metrics`. */
  text(): Promise<string> {
    this.#showIpStates();
    return this.registry.metrics();
  }
  /** The raw values, to be sent to the primary. */
  async export(): Promise<readonly ExportedMetric[]> {
    this.#showIpStates();
    return (await this.registry.getMetricsAsJSON()) as unknown as readonly ExportedMetric[];
  }

  sessionOpened(): void {
    this.#sessions.active.cell().value++;
  }
  sessionClosed(result: SessionResult, durationMs: number): void {
    this.#sessions.active.cell().value--;
    this.#sessions.total.cell(result).value++;
    this.#sessions.duration.cell().observe(durationMs / 1000);
  }
  sessionRefused(result: SessionResult): void {
    this.#sessions.total.cell(result).value++;
  }
  legDialled(reason: LegReason, result: LegResult): void {
    this.#sessions.legs.cell(reason, result).value++;
    if (result === "connected") this.#sessions.legsActive.cell().value++;
  }
  legClosed(used: boolean): void {
    this.#sessions.legsActive.cell().value--;
    if (!used) this.#sessions.legsUnused.cell().value++;
  }
  dialled(family: Family, durationMs: number): void {
    this.#sessions.dial.cell(family === 4 ? "4" : "6").observe(durationMs / 1000);
  }
  sourceIpUnusable(ip: string, cause: SourceIpCause): void {
    this.#sessions.sourceIp.cell(ip, cause).value++;
  }
  octets(direction: "in" | "out", count: number): void {
    this.mail.octets.cell(direction).value += count;
  }
  ownReply(code: number, reason: string): void {
    this.mail.ownReplies.cell(String(code), reason).value++;
  }
  tlsHandshake(side: Side, policy: string, version: string, result: string): void {
    this.mail.tls.cell(side, policy, version, result).value++;
  }
  violation(side: Side, kind: Violation): void {
    this.mail.violations.cell(side, kind).value++;
  }

  hookUp(hook: string, up: boolean): void {
    this.#hooks.up.cell(hook).value = up ? 1 : 0;
  }
  hookVerdict(hook: string, verdict: string, shadow: boolean, durationMs: number): void {
    this.#hooks.verdicts.cell(hook, verdict, shadow ? "true" : "false").value++;
    this.#hooks.seconds.cell(hook).observe(durationMs / 1000);
  }
  hookFailure(hook: string, cause: HookFailure, applied: string): void {
    this.#hooks.failures.cell(hook, cause, applied).value++;
  }
  heldOctets(where: "memory" | "spool", octets: number): void {
    this.#hooks.held.cell(where).value = octets;
  }
  heldWait(durationMs: number): void {
    this.#hooks.heldWait.cell().observe(durationMs / 1000);
  }

  events(kind: string, count: number): void {
    this.#events.total.cell(kind).value += count;
  }
  eventsUnacked(hook: string, count: number, oldestMs: number): void {
    this.#events.unacked.cell(hook).value = count;
    this.#events.oldest.cell(hook).value = oldestMs / 1000;
  }
  eventsDropped(hook: string, count: number): void {
    this.#events.dropped.cell(hook).value += count;
  }
  journalOctets(octets: number): void {
    this.#events.journal.cell().value = octets;
  }

  redisUp(up: boolean): void {
    this.#reputation.up.cell().value = up ? 1 : 0;
  }
  redisCall(durationMs: number): void {
    this.#reputation.seconds.cell().observe(durationMs / 1000);
  }
  redisFallback(cause: "slow" | "down"): void {
    this.#reputation.fallbacks.cell(cause).value++;
  }
  redisPendingWrites(count: number): void {
    this.#reputation.pending.cell().value = count;
  }
  redisLostWrites(count: number): void {
    this.#reputation.lost.cell().value += count;
  }
  routeChoice(rule: string, pool: string, tier: string): void {
    this.#reputation.choices.cell(rule, pool, tier).value++;
  }
  ipState(ip: string, provider: string, state: IpState, until: number): void {
    const key = `${ip}|${provider}`;
    this.#ipStates.delete(key);
    if (this.#ipStates.size >= IP_STATES) this.#ipStates.delete(this.#ipStates.keys().next().value!);
    this.#ipStates.set(key, { ip, provider, state, until });
  }
  /**
   * Anew at each reading: a provider may have got or lost its place since its state was told, and a state is over by the
   * clock also where no mail asks for the IP any more. Several providers may share `other`: it shows the worst of them.
   */
  #showIpStates(): void {
    const gauge = this.#reputation.ipState;
    const now = this.#now();
    gauge.reset();
    for (const { ip, provider, state, until } of this.#ipStates.values()) {
      const cell = gauge.cell(ip, this.mail.provider.peek(provider));
      cell.value = Math.max(cell.value, until > 0 && until <= now ? AFTER[state] : state);
    }
  }

  /** Processes that accept connections, and how many there should be; the primary says it, or the only process. */
  workers(running: number, configured: number): void {
    this.#process.workers.cell().value = running;
    this.#process.workersConfigured.cell().value = configured;
  }
  configReload(result: "ok" | "failed"): void {
    this.#process.reloads.cell(result).value++;
  }
}

/** The text of `/metrics` for several processes: counters and histograms added up, gauges as each says. */
export function mergedMetrics(exports: readonly (readonly ExportedMetric[])[]): Promise<string> {
  return AggregatorRegistry.aggregate(exports as unknown as object[]).metrics();
}

/**
 * What processes that are gone have counted, as one: without it a sum would fall when one ends, which a reader of counters
 * takes for a restart. Gauges of theirs are over.
 */
export async function countedBy(
  exports: readonly (readonly ExportedMetric[])[],
): Promise<readonly ExportedMetric[]> {
  const merged = AggregatorRegistry.aggregate(exports as unknown as object[]);
  const metrics = (await merged.getMetricsAsJSON()) as unknown as readonly ExportedMetric[];
  return metrics.filter(({ type }) => type !== "gauge");
}
