/**
 * The configuration: one schema, from which come the checking of the file, the normalised `Config`, the nearest-key
 * hints and `docs/configuration.md`. Keys are spelled as in the file (snake_case). What comes out is camelCase, fully
 * defaulted and frozen: durations as ms (`…Ms`), sizes as octets (`…Octets`), addresses and networks parsed. What is
 * absent and has no default is `undefined`. Checks that need more than one key are in `checks.ts`.
 */
import { z } from "zod";
import type { HookAddress, HostPort, IpPort, Network, ReplyText } from "./scalars.ts";
import { capture, clientNetworks, destinations } from "./sections/capture.ts";
import { pool, type RuleAction, rule } from "./sections/egress.ts";
import { filter, hook, journal } from "./sections/hooks.ts";
import { limits, timeouts } from "./sections/limits.ts";
import { log, metrics } from "./sections/observation.ts";
import { file, mysql, slack, sqlite } from "./sections/plugins.ts";
import { redis, reputation } from "./sections/reputation.ts";
import { downstreamTls, tlsRule } from "./sections/tls.ts";
import { count, ipAddress, listenAddress, listOf, shortName, text, words } from "./values.ts";

export type { HookAddress, HostPort, IpPort, Network, ReplyText, RuleAction };

/** The file, key by key. `parse.ts` runs it section by section and turns the result into `Config`. */
export const configSchema = z.strictObject({
  proxy: text
    .optional()
    .describe("Name of this proxy in events, metrics and Redis; default: the host's name."),
  listen: listOf(listenAddress)
    .prefault(["127.0.0.1:10025", "[::1]:10025"])
    .describe(
      "Where it listens. Of the default, a family that the host lacks is skipped. `[::]` takes IPv4 too, unless IPv4 addresses of the same port are listed beside it.",
    ),
  workers: count(1, 256).prefault(1).describe("Processes that accept connections."),
  capture: capture.prefault({}).describe("How connections reach warp, and which."),
  clients: clientNetworks.prefault(["self"]).describe("Who may connect; `self`: every address of this host."),
  destinations: destinations.prefault({}).describe("Where warp does not connect to."),
  outbound_ip: listOf(ipAddress)
    .prefault([])
    .describe(
      "Source IP where no rule says otherwise: at most one IPv4 and one IPv6. `0.0.0.0` and `::` mean unset.",
    ),
  downstream_tls: downstreamTls.optional().describe("Offer STARTTLS to clients."),
  tls: listOf(tlsRule)
    .prefault([{ policy: "may" }])
    .describe("TLS towards the destination; the first rule that matches wins, `may` where none does."),
  hooks: listOf(hook).prefault([]).describe("Hook servers; filters are called in this order."),
  filter: filter.prefault({}).describe("Messages that are held for filters."),
  journal: journal.optional().describe("Keep unacknowledged events on disk."),
  redis: redis.optional().describe("Shared reputation; without it, in memory."),
  plugins: listOf(words("file", "sqlite", "mysql", "slack"))
    .prefault([])
    .describe("Bundled hook servers that are started and supervised."),
  sqlite: sqlite.prefault({}).describe("Settings of the sqlite plugin."),
  file: file.prefault({}).describe("Settings of the file plugin."),
  mysql: mysql.prefault({}).describe("Settings of the mysql plugin."),
  slack: slack.prefault({}).describe("Settings of the slack plugin."),
  reputation: reputation.prefault({}).describe("How senders are counted and judged."),
  pools: z.record(shortName, pool).prefault({}).describe("Pools of source IPs, by name."),
  rules: listOf(rule)
    .prefault([])
    .describe("Choice of the source IP; the first rule that matches wins, `source: client` where none does."),
  limits: limits.prefault({}).describe("Caps; for the whole proxy, not per worker."),
  timeouts: timeouts.prefault({}).describe("Deadlines of the dialogue."),
  bare_newlines: words("normalize", "reject")
    .prefault("normalize")
    .describe("A bare CR or LF inside a message: made a CRLF, or `550 5.6.11` after the end of data."),
  log: log.prefault({}).describe("The log, on stderr."),
  metrics: metrics.optional().describe("Metrics and health over HTTP."),
});

export type RawConfig = z.output<typeof configSchema>;
export type Section = keyof RawConfig;

/** Readonly all the way down. */
export type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** Opaque traffic by port; a port in neither list is SMTP. */
export interface OpaquePorts {
  readonly relay: readonly number[];
  readonly refuse: readonly number[];
}
/** Who may connect, or which clients a match means. */
export interface ClientNetworks {
  /** Every address of this host, loopback included. */
  readonly self: boolean;
  readonly networks: readonly Network[];
}

type Hook = Omit<DeepReadonly<RawConfig["hooks"][number]>, "when"> & {
  readonly when: Omit<DeepReadonly<RawConfig["hooks"][number]["when"]>, "client"> & {
    readonly client: ClientNetworks | undefined;
  };
};
type Rule = {
  readonly name: string;
  readonly match: Omit<DeepReadonly<RawConfig["rules"][number]["match"]>, "client"> & {
    readonly client: ClientNetworks | undefined;
  };
  readonly action: RuleAction;
};

/** The whole configuration, checked, defaulted and frozen. */
export interface Config {
  readonly proxy: string;
  readonly listen: readonly IpPort[];
  /** Nobody named an address: one that the host lacks is skipped. */
  readonly listenIsDefault: boolean;
  readonly workers: number;
  readonly capture: {
    readonly mode: "redirect" | "tproxy" | "fixed";
    /** Set in `fixed`, and only there. */
    readonly destination: HostPort | undefined;
    readonly mark: number;
    /** Every destination port that is captured and connected to, opaque ones included. */
    readonly ports: readonly number[];
    readonly opaque: OpaquePorts;
  };
  readonly clients: ClientNetworks;
  readonly destinations: DeepReadonly<RawConfig["destinations"]>;
  /** Source IPs where no rule matches; undefined: the client's own, else the system's choice. */
  readonly outboundIp: { readonly ipv4: string | undefined; readonly ipv6: string | undefined };
  readonly downstreamTls: DeepReadonly<RawConfig["downstream_tls"]>;
  /** In order; the last one matches everything. `verify` always has names. */
  readonly tls: DeepReadonly<RawConfig["tls"]>;
  readonly hooks: readonly Hook[];
  /** A hook is a filter, or may turn out to be one. */
  readonly mayFilter: boolean;
  readonly filter: DeepReadonly<RawConfig["filter"]>;
  readonly journal: DeepReadonly<RawConfig["journal"]>;
  readonly redis: DeepReadonly<RawConfig["redis"]>;
  readonly plugins: DeepReadonly<RawConfig["plugins"]>;
  readonly sqlite: DeepReadonly<RawConfig["sqlite"]>;
  readonly file: DeepReadonly<RawConfig["file"]>;
  readonly mysql: DeepReadonly<RawConfig["mysql"]>;
  readonly slack: DeepReadonly<RawConfig["slack"]>;
  readonly reputation: DeepReadonly<RawConfig["reputation"]>;
  readonly pools: DeepReadonly<RawConfig["pools"]>;
  readonly rules: readonly Rule[];
  readonly limits: DeepReadonly<RawConfig["limits"]>;
  readonly timeouts: DeepReadonly<RawConfig["timeouts"]>;
  readonly bareNewlines: "normalize" | "reject";
  readonly log: DeepReadonly<RawConfig["log"]>;
  readonly metrics: DeepReadonly<RawConfig["metrics"]>;
}
export type HookConfig = Hook;
export type RuleConfig = Rule;
export type PoolConfig = Config["pools"][string];
export type TlsRuleConfig = Config["tls"][number];
