/** Every metric: its name, help, labels, buckets, and how the values of several workers become one. */
import type { Registry } from "prom-client";
import { Busiest } from "./busiest.ts";
import { Counter, Gauge, Histogram } from "./cells.ts";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const OCTETS = [
  1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 10_485_760, 33_554_432, 104_857_600,
];
const PROVIDERS = 50;

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
export function mailMetrics(registry: Registry): MailMetrics {
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

export function sessionMetrics(registry: Registry) {
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

export function hookMetrics(registry: Registry) {
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

export function eventMetrics(registry: Registry) {
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

export function reputationMetrics(registry: Registry) {
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

export function processMetrics(registry: Registry) {
  return {
    workers: new Gauge(registry, { name: "warp_workers", help: "Processes that accept connections now" }),
    workersConfigured: new Gauge(registry, {
      name: "warp_workers_configured",
      help: "Processes that should accept connections",
    }),
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
