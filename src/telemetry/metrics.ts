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
import { Busiest } from "./busiest.ts";
import { Counter, type ExportedMetric, Gauge, Histogram } from "./cells.ts";
import { MetricsSink } from "./metrics-sink.ts";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const OCTETS = [
  1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 10_485_760, 33_554_432, 104_857_600,
];
const PROVIDERS = 50;
const IP_STATES = 10_000;

export interface MetricsOptions {
  readonly version: string;
  /** Metrics of the process (CPU, memory, event loop) too; default true. */
  readonly withProcess?: boolean;
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
  readonly #ipStates = new Map<string, IpState>();
  readonly #sink: MetricsSink;

  constructor(options: MetricsOptions) {
    this.#sessions = sessionMetrics(this.registry);
    this.mail = mailMetrics(this.registry);
    this.#hooks = hookMetrics(this.registry);
    this.#events = eventMetrics(this.registry);
    this.#reputation = reputationMetrics(this.registry);
    this.#process = processMetrics(this.registry);
    this.#process.buildInfo.cell(options.version).value = 1;
    if (options.withProcess !== false) collectDefaultMetrics({ register: this.registry });
    this.#sink = new MetricsSink(this.mail);
  }

  /** Takes AfterTransaction and AfterConn; give it to every session. */
  get sink(): MetricsSink {
    return this.#sink;
  }
  /** The text of `/metrics`. */
  text(): Promise<string> {
    return this.registry.metrics();
  }
  /** The raw values, to be sent to the primary. */
  async export(): Promise<readonly ExportedMetric[]> {
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
  /** Several providers may share `other`: it shows the worst of them. */
  ipState(ip: string, provider: string, state: IpState): void {
    const key = `${ip}|${provider}`;
    if (state === 0) this.#ipStates.delete(key);
    else if (this.#ipStates.has(key) || this.#ipStates.size < IP_STATES) this.#ipStates.set(key, state);
    const label = this.mail.provider.peek(provider);
    let worst: number = state;
    if (label !== provider) {
      for (const [other, value] of this.#ipStates) {
        const [otherIp, otherProvider = ""] = other.split("|");
        if (otherIp !== ip || this.mail.provider.peek(otherProvider) !== label) continue;
        worst = Math.max(worst, value);
      }
    }
    this.#reputation.ipState.cell(ip, label).value = worst;
  }

  /** Processes that accept connections; the primary says it, or the only process. */
  workers(count: number): void {
    this.#process.workers.cell().value = count;
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

export interface MailMetrics {
  readonly provider: Busiest;
  readonly transactions: Counter;
  readonly replies: Counter;
  readonly stages: Histogram;
  readonly messageOctets: Histogram;
  readonly octets: Counter;
  readonly ownReplies: Counter;
  readonly tls: Counter;
  readonly violations: Counter;
}
function mailMetrics(registry: Registry): MailMetrics {
  const replies = new Counter(registry, {
    name: "warp_replies_total",
    help: "Replies about mail, by command, class, who made them and the destination's provider",
    labels: ["stage", "class", "origin", "provider"],
    maxCells: 20_000,
  });
  const stages = new Histogram(
    registry,
    {
      name: "warp_stage_seconds",
      help: "Time of each stage, from the command to the whole reply",
      labels: ["stage", "provider"],
    },
    SECONDS,
  );
  const provider = new Busiest(PROVIDERS, (lost) => {
    replies.remove((values) => values[3] === lost);
    stages.remove((values) => values[1] === lost);
  });
  return {
    provider,
    replies,
    stages,
    transactions: new Counter(registry, {
      name: "warp_transactions_total",
      help: "Transactions by how they ended",
      labels: ["outcome"],
    }),
    messageOctets: new Histogram(registry, { name: "warp_message_octets", help: "Size of messages" }, OCTETS),
    octets: new Counter(registry, {
      name: "warp_octets_total",
      help: "Octets from clients (in) and to them (out)",
      labels: ["direction"],
    }),
    ownReplies: new Counter(registry, {
      name: "warp_own_replies_total",
      help: "Replies that the proxy made itself",
      labels: ["code", "reason"],
    }),
    tls: new Counter(registry, {
      name: "warp_tls_handshakes_total",
      help: "TLS handshakes and what became of them",
      labels: ["side", "policy", "version", "result"],
    }),
    violations: new Counter(registry, {
      name: "warp_protocol_violations_total",
      help: "What peers did that SMTP forbids",
      labels: ["side", "kind"],
    }),
  };
}

function sessionMetrics(registry: Registry) {
  const metrics = {
    active: new Gauge(registry, { name: "warp_sessions_active", help: "Sessions now" }),
    total: new Counter(registry, {
      name: "warp_sessions_total",
      help: "Connections of clients by what became of them",
      labels: ["result"],
    }),
    duration: new Histogram(
      registry,
      { name: "warp_session_duration_seconds", help: "Length of sessions" },
      SECONDS,
    ),
    legsActive: new Gauge(registry, { name: "warp_legs_active", help: "Connections to destinations now" }),
    legs: new Counter(registry, {
      name: "warp_legs_total",
      help: "Connections to destinations that were tried",
      labels: ["reason", "result"],
    }),
    legsUnused: new Counter(registry, {
      name: "warp_legs_unused_total",
      help: "Connections to destinations that ended without a transaction",
    }),
    dial: new Histogram(
      registry,
      { name: "warp_dial_seconds", help: "Time to connect", labels: ["family"] },
      SECONDS,
    ),
    sourceIp: new Counter(registry, {
      name: "warp_source_ip_unusable_total",
      help: "Source addresses that could not be used, and why",
      labels: ["ip", "cause"],
    }),
  };
  // Present from the start: an alert on a gauge that isn't there is silent.
  metrics.active.cell();
  metrics.legsActive.cell();
  return metrics;
}

function hookMetrics(registry: Registry) {
  return {
    up: new Gauge(registry, {
      name: "warp_hook_up",
      help: "1: the hook answers (with several workers: to all of them)",
      labels: ["hook"],
      aggregator: "min",
    }),
    verdicts: new Counter(registry, {
      name: "warp_hook_verdicts_total",
      help: "Verdicts of filters",
      labels: ["hook", "verdict", "shadow"],
    }),
    failures: new Counter(registry, {
      name: "warp_hook_failures_total",
      help: "Failures of filters, and what was done then",
      labels: ["hook", "cause", "applied"],
    }),
    seconds: new Histogram(
      registry,
      { name: "warp_hook_seconds", help: "Time to a verdict", labels: ["hook"] },
      SECONDS,
    ),
    held: new Gauge(registry, {
      name: "warp_held_octets",
      help: "Messages held for filters",
      labels: ["where"],
    }),
    heldWait: new Histogram(
      registry,
      { name: "warp_held_wait_seconds", help: "Time that messages waited for room to be held" },
      SECONDS,
    ),
  };
}

function eventMetrics(registry: Registry) {
  return {
    total: new Counter(registry, {
      name: "warp_events_total",
      help: "Events for observers",
      labels: ["kind"],
    }),
    unacked: new Gauge(registry, {
      name: "warp_events_unacked",
      help: "Events that an observer has not stored yet",
      labels: ["hook"],
    }),
    oldest: new Gauge(registry, {
      name: "warp_events_oldest_unacked_seconds",
      help: "Age of the oldest of them",
      labels: ["hook"],
      aggregator: "max",
    }),
    dropped: new Counter(registry, {
      name: "warp_events_dropped_total",
      help: "Events that an observer will never get, announced to it as a gap",
      labels: ["hook"],
    }),
    journal: new Gauge(registry, { name: "warp_journal_octets", help: "Size of the journal on disk" }),
  };
}

function reputationMetrics(registry: Registry) {
  return {
    up: new Gauge(registry, { name: "warp_redis_up", help: "1: Redis answers", aggregator: "min" }),
    seconds: new Histogram(
      registry,
      { name: "warp_redis_seconds", help: "Time of a call of Redis" },
      SECONDS,
    ),
    fallbacks: new Counter(registry, {
      name: "warp_redis_fallbacks_total",
      help: "Decisions made from the local snapshot",
      labels: ["cause"],
    }),
    pending: new Gauge(registry, {
      name: "warp_redis_pending_writes",
      help: "Counts that wait to be written",
    }),
    lost: new Counter(registry, {
      name: "warp_redis_lost_writes_total",
      help: "Counts that could not be kept until Redis was back",
    }),
    choices: new Counter(registry, {
      name: "warp_route_choices_total",
      help: "Choices of the source IP",
      labels: ["rule", "pool", "tier"],
    }),
    ipState: new Gauge(registry, {
      name: "warp_ip_state",
      help: "0 normal, 1 slowed, 2 throttled, 3 blocked",
      labels: ["ip", "provider"],
      aggregator: "max",
      maxCells: 20_000,
    }),
  };
}

function processMetrics(registry: Registry) {
  return {
    workers: new Gauge(registry, { name: "warp_workers", help: "Processes that accept connections" }),
    reloads: new Counter(registry, {
      name: "warp_config_reloads_total",
      help: "Reloads of the configuration",
      labels: ["result"],
    }),
    buildInfo: new Gauge(registry, {
      name: "warp_build_info",
      help: "1, with the version as a label",
      labels: ["version"],
      aggregator: "first",
    }),
  };
}
