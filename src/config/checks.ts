/**
 * What one key can't say alone: checks across keys and sections. Each names the sections that it reads and runs only
 * when those could be read. Texts name the setting by their path and say what it was and what it should be.
 */
import { isIP } from "node:net";
import { nearest } from "./nearest.ts";
import type { Problem } from "./parse.ts";
import type { RawConfig, Section } from "./schema.ts";

export type Report = (problem: Problem) => void;
export interface CrossCheck {
  readonly needs: readonly Section[];
  /** Reads only the sections that it needs. */
  run(config: RawConfig, report: Report): void;
}

const CLIENT_PATIENCE_MS = 600_000;
/** Where a sender in no tier is. */
const NEUTRAL = "neutral";

export const crossChecks: readonly CrossCheck[] = [
  { needs: ["listen", "metrics"], run: checkListen },
  { needs: ["capture", "outbound_ip"], run: checkCapture },
  { needs: ["capture", "listen"], run: checkDestination },
  { needs: ["clients"], run: checkClients },
  { needs: ["capture", "tls"], run: checkTls },
  { needs: ["hooks", "plugins"], run: checkHookNames },
  { needs: ["hooks"], run: checkHooks },
  { needs: ["hooks", "filter", "limits", "timeouts"], run: checkFilter },
  { needs: ["timeouts", "limits"], run: checkTimeoutsAndLimits },
  { needs: ["hooks", "plugins", "journal"], run: checkJournal },
  { needs: ["redis"], run: checkRedis },
  { needs: ["reputation"], run: checkReputation },
  { needs: ["pools"], run: checkPools },
  { needs: ["pools", "workers"], run: checkConnectionShares },
  { needs: ["rules", "pools", "reputation"], run: checkRules },
  { needs: ["rules", "pools", "reputation", "workers", "redis"], run: checkWorkers },
];

function checkListen(config: RawConfig, report: Report): void {
  const seen = new Set<string>();
  for (const [index, { ip, port }] of config.listen.entries()) {
    const text = addressText(ip, port);
    if (port !== 0 && seen.has(text))
      report({ path: ["listen", index], text: `was "${text}", which is there twice` });
    seen.add(text);
  }
  if (config.listen.length === 0) {
    report({ path: ["listen"], text: "was an empty list, should name at least one ADDRESS:PORT" });
  }
  const metrics = config.metrics?.listen;
  if (metrics !== undefined && metrics.port !== 0 && seen.has(addressText(metrics.ip, metrics.port))) {
    const text = `was "${addressText(metrics.ip, metrics.port)}", where the proxy itself listens; should be another port`;
    report({ path: ["metrics", "listen"], text });
  }
}

function checkCapture(config: RawConfig, report: Report): void {
  const { mode, destination, ports } = config.capture;
  if (mode === "fixed" && destination === undefined) {
    report({
      path: ["capture", "destination"],
      isKey: true,
      text: "is missing; mode fixed sends every connection to it: HOST:PORT",
    });
  }
  if (mode !== "fixed" && destination !== undefined) {
    const text = `was "${destination.host}:${destination.port}", but mode ${mode} asks the kernel for the destination; should not be there, or mode should be fixed`;
    report({ path: ["capture", "destination"], text });
  }
  if (ports.length === 0)
    report({ path: ["capture", "ports"], text: "was an empty list, should name at least one port" });
  const set = config.outbound_ip.filter((ip) => ip !== "0.0.0.0" && ip !== "::");
  for (const family of [4, 6]) {
    const ips = set.filter((ip) => isIP(ip) === family);
    if (ips.length > 1) {
      const text = `was ${ips.join(", ")}: should have at most one IPv${family} address; more than one is a pool (pools, rules)`;
      report({ path: ["outbound_ip"], text });
    }
  }
  const fixedFamily = mode === "fixed" && destination !== undefined ? isIP(destination.host) : 0;
  if (fixedFamily !== 0 && set.length > 0 && !set.some((ip) => isIP(ip) === fixedFamily)) {
    const text = `was ${set.join(", ")}, should have an IPv${fixedFamily} address: the destination is ${destination!.host}`;
    report({ path: ["outbound_ip"], text });
  }
}

/** Only what the words say: a name may lead anywhere, and this host has more addresses than are here. */
function checkDestination({ capture: { destination }, listen }: RawConfig, report: Report): void {
  if (destination === undefined) return;
  const { host, port } = destination;
  const hosts = host === "localhost" ? ["127.0.0.1", "::1"] : [host];
  const isReached = (ip: string): boolean =>
    hosts.includes(ip) || ((ip === "0.0.0.0" || ip === "::") && isLoopback(host));
  const own = listen.find((address) => address.port === port && isReached(address.ip));
  if (own === undefined) return;
  const text = `was "${addressText(host, port)}", where the proxy itself listens (${addressText(own.ip, own.port)}): every connection would come back to it`;
  report({ path: ["capture", "destination"], text });
}

function checkClients(config: RawConfig, report: Report): void {
  if (config.clients.length === 0) {
    report({ path: ["clients"], text: "was an empty list, should name who may connect: self or a network" });
  }
  for (const [index, client] of config.clients.entries()) {
    if (client === "self" || client.prefix > 0) continue;
    const text = `was ${client.address}/0: everybody who reaches the listening address may send mail through this host`;
    report({ path: ["clients", index], isWarning: true, text });
  }
}

function checkTls(config: RawConfig, report: Report): void {
  const { mode, destination } = config.capture;
  let everything: number | undefined;
  for (const [index, rule] of config.tls.entries()) {
    if (
      rule.policy === "verify" &&
      rule.names.length === 0 &&
      (mode !== "fixed" || destination === undefined)
    ) {
      report({
        path: ["tls", index, "names"],
        isKey: true,
        text: "is missing; verify needs the names that the certificate may carry: a captured connection has only an IP address, and the names in greeting, EHLO and PTR are the peer's own choice",
      });
    }
    if (rule.policy !== "verify" && rule.names.length > 0) {
      const text = `was ${rule.names.join(", ")}, but policy ${rule.policy} checks no name; should not be there, or policy should be verify`;
      report({ path: ["tls", index, "names"], text });
    }
    for (const key of ["destination", "recipientDomain"] as const) {
      if (rule.match[key]?.length !== 0) continue;
      const yamlKey = key === "destination" ? key : "recipient_domain";
      report({ path: ["tls", index, "match", yamlKey], text: "was an empty list, which matches nothing" });
    }
    if (everything !== undefined) {
      const text = `is never reached: tls[${everything}] before it matches everything`;
      report({ path: ["tls", index], isWarning: true, text });
    } else if (rule.match.destination === undefined && rule.match.recipientDomain === undefined)
      everything = index;
  }
}

function checkHookNames(config: RawConfig, report: Report): void {
  const seen = new Map<string, number>();
  for (const [index, hook] of config.hooks.entries()) {
    const first = seen.get(hook.name);
    if (first !== undefined) {
      const text = `was "${hook.name}", which is the name of hooks[${first}] already; names have to be unique`;
      report({ path: ["hooks", index, "name"], text });
    } else seen.set(hook.name, index);
    if ((config.plugins as readonly string[]).includes(hook.name)) {
      const text = `was "${hook.name}", which is the name of a plugin already; names have to be unique`;
      report({ path: ["hooks", index, "name"], text });
    }
  }
  const twice = config.plugins.find((plugin, index) => config.plugins.indexOf(plugin) !== index);
  if (twice !== undefined) report({ path: ["plugins"], text: `names ${twice} twice` });
}

function checkHooks(config: RawConfig, report: Report): void {
  for (const [index, hook] of config.hooks.entries()) {
    const at = (...rest: PropertyKey[]): PropertyKey[] => ["hooks", index, ...rest];
    const { address } = hook;
    const isRemote = address.kind === "tcp" && !isLoopback(address.host);
    if (isRemote && hook.tls === undefined && !hook.insecure) {
      const text = `was "${address.host}:${address.port}", plaintext beyond loopback; should have tls beside it, or insecure: true where that network is trusted with the mail`;
      report({ path: at("address"), text });
    }
    if (hook.tls !== undefined && hook.insecure) {
      report({ path: at("insecure"), text: "was true beside tls; should be one of the two" });
    }
    if (hook.tls !== undefined && address.kind === "unix") {
      report({
        path: at("tls"),
        text: `is for TCP, but the address is unix:${address.path}; should not be there`,
      });
    }
    if (hook.tls !== undefined && (hook.tls.cert === undefined) !== (hook.tls.key === undefined)) {
      const missing = hook.tls.cert === undefined ? "cert" : "key";
      report({ path: at("tls", missing), isKey: true, text: "is missing; cert and key belong together" });
    }
    if (hook.roles?.length === 0)
      report({ path: at("roles"), text: "was an empty list, should be filter, observe or both" });
    if (hook.events !== undefined && hook.roles !== undefined && !hook.roles.includes("observe")) {
      report({
        path: at("events"),
        text: `is for observers, but roles was ${hook.roles.join(", ")}; should not be there`,
      });
    }
    if (hook.when.maxOctets !== undefined && hook.when.maxOctets < hook.when.minOctets) {
      const text = `was ${hook.when.maxOctets}, below min_octets (${hook.when.minOctets}): no message would match`;
      report({ path: at("when", "max_octets"), text });
    }
  }
}

function checkFilter(config: RawConfig, report: Report): void {
  const { filter, limits, timeouts } = config;
  if (filter.holdMemoryOctets > filter.holdTotalOctets) {
    const text = `was ${filter.holdMemoryOctets}, above hold_total (${filter.holdTotalOctets}); should be below it`;
    report({ path: ["filter", "hold_memory"], text });
  }
  if (filter.chainBudgetMs >= timeouts.endOfDataMs) {
    const text = `was ${filter.chainBudgetMs} ms, should be below timeouts.end_of_data (${timeouts.endOfDataMs} ms), of which it is a part`;
    report({ path: ["filter", "chain_budget"], text });
  }
  const filters = config.hooks.filter((hook) => hook.roles === undefined || hook.roles.includes("filter"));
  if (filters.length > 0 && limits.messageOctets > filter.holdTotalOctets) {
    const text = `was ${filter.holdTotalOctets}, should be at least limits.message (${limits.messageOctets}): a longer message could never be held for the filters`;
    report({ path: ["filter", "hold_total"], text });
  }
  for (const hook of filters) {
    if (hook.deadlineMs <= filter.chainBudgetMs) continue;
    const text = `was ${hook.deadlineMs} ms, above filter.chain_budget (${filter.chainBudgetMs} ms), which ends it before`;
    report({ path: ["hooks", config.hooks.indexOf(hook), "deadline"], isWarning: true, text });
  }
}

function checkTimeoutsAndLimits({ timeouts, limits }: RawConfig, report: Report): void {
  if (timeouts.endOfDataMs >= CLIENT_PATIENCE_MS) {
    const text = `was ${timeouts.endOfDataMs} ms; a client gives up after 10 minutes (RFC 5321 §4.5.3.2.6) and sends again what may have been delivered`;
    report({ path: ["timeouts", "end_of_data"], isWarning: true, text });
  }
  if (timeouts.dialMs > 30_000) {
    const text = `was ${timeouts.dialMs} ms; an MTA that waits 30 s for a connection has gone before it is told of a dead destination`;
    report({ path: ["timeouts", "dial"], isWarning: true, text });
  }
  if (limits.commandLineOctets < 12_288) {
    const text = `was ${limits.commandLineOctets}; AUTH may have 12288 octets (RFC 4954 §4)`;
    report({ path: ["limits", "command_line"], isWarning: true, text });
  }
}

function checkJournal(config: RawConfig, report: Report): void {
  const observes = config.hooks.some((hook) => hook.roles === undefined || hook.roles.includes("observe"));
  if (config.journal === undefined || observes || config.plugins.length > 0) return;
  report({
    path: ["journal"],
    isWarning: true,
    text: "keeps nothing: no hook observes and there are no plugins",
  });
}

function checkRedis({ redis }: RawConfig, report: Report): void {
  if (redis === undefined) return;
  const ways = (["url", "sentinels", "cluster"] as const).filter((way) => redis[way] !== undefined);
  if (ways.length !== 1) {
    const was = ways.length === 0 ? "none" : ways.join(" and ");
    report({ path: ["redis"], text: `says ${was} of url, sentinels and cluster, should say exactly one` });
  }
  for (const key of ["sentinels", "cluster"] as const) {
    if (redis[key]?.length === 0)
      report({ path: ["redis", key], text: "was an empty list, should name HOST:PORT" });
  }
  if (redis.url === undefined) return;
  for (const key of ["username", "password"] as const) {
    if (redis[key] === undefined) continue;
    const text =
      "is for sentinels and cluster; beside url it should not be there: the URL says it (rediss://USER:PASSWORD@HOST)";
    report({ path: ["redis", key], text });
  }
  if (redis.tls !== undefined && !redis.url.startsWith("rediss:")) {
    const text =
      "is for an encrypted connection; beside url it should be there only where that is rediss://…";
    report({ path: ["redis", "tls"], text });
  }
}

function checkReputation({ reputation }: RawConfig, report: Report): void {
  const [shorter, longer] = reputation.halfLivesMs;
  if (reputation.halfLivesMs.length !== 2 || !(shorter! < longer!)) {
    report({
      path: ["reputation", "half_lives"],
      text: "should be two durations, the shorter first, such as [1h, 1d]",
    });
  }
  if (reputation.identity.length === 0 || new Set(reputation.identity).size !== reputation.identity.length) {
    report({ path: ["reputation", "identity"], text: "should name at least one part, and none twice" });
  }
  for (const [name, tier] of Object.entries(reputation.tiers)) {
    if (name === NEUTRAL) {
      const text = "is the name of those who are in no tier; should be another name";
      report({ path: ["reputation", "tiers", name], isKey: true, text });
    }
    if (tier.enter === tier.leave) {
      const text = `was ${tier.leave}, the same as enter; should be above it (a tier of bad senders) or below it (of good ones), so that nobody flaps`;
      report({ path: ["reputation", "tiers", name, "leave"], text });
    }
  }
}

function checkPools({ pools }: RawConfig, report: Report): void {
  for (const [name, pool] of Object.entries(pools)) {
    const seen = new Set<string>();
    if (pool.ips.length === 0)
      report({ path: ["pools", name, "ips"], text: "was an empty list, should name addresses" });
    for (const [index, { ip }] of pool.ips.entries()) {
      const path = ["pools", name, "ips", index, "ip"];
      if (seen.has(ip))
        report({ path, text: `was "${ip}", which is in this pool twice; weight says how much it gets` });
      if (ip === "0.0.0.0" || ip === "::")
        report({ path, text: `was "${ip}", should be one address of this host` });
      seen.add(ip);
    }
  }
}

function checkRules({ rules, pools, reputation }: RawConfig, report: Report): void {
  const seen = new Map<string, number>();
  const used = new Set<string>();
  const tiers = [...Object.keys(reputation.tiers), NEUTRAL];
  let everything: number | undefined;
  for (const [index, rule] of rules.entries()) {
    const name = rule.name ?? `rule-${index + 1}`;
    const first = seen.get(name);
    if (first !== undefined) {
      report({
        path: ["rules", index, "name"],
        text: `was "${name}", which is the name of rules[${first}] already`,
      });
    } else seen.set(name, index);
    if (rule.action.kind === "pool") {
      used.add(rule.action.pool);
      if (!Object.hasOwn(pools, rule.action.pool)) {
        const text = `was "${rule.action.pool}", ${unknownName(rule.action.pool, Object.keys(pools), "pool")}`;
        report({ path: ["rules", index, "pool"], text });
      }
    }
    for (const tier of rule.match.tier ?? []) {
      if (tiers.includes(tier)) continue;
      report({
        path: ["rules", index, "match", "tier"],
        text: `was "${tier}", ${unknownName(tier, tiers, "tier")}`,
      });
    }
    if (everything !== undefined) {
      const text = `is never reached: rules[${everything}] before it matches everything`;
      report({ path: ["rules", index], isWarning: true, text });
    } else if (Object.values(rule.match).every((value) => value === undefined)) everything = index;
  }
  for (const name of Object.keys(pools)) {
    if (!used.has(name)) report({ path: ["pools", name], isWarning: true, text: "is named by no rule" });
  }
}

/** A worker that may have no connection would refuse its mail, so each has one at least (src/egress/source-ips.ts). */
function checkConnectionShares({ pools, workers }: RawConfig, report: Report): void {
  for (const [name, { maxConnections }] of Object.entries(pools)) {
    if (maxConnections === undefined || maxConnections >= workers) continue;
    const text = `was ${maxConnections}, fewer than the ${workers} workers; each may open one, so there may be ${workers}`;
    report({ path: ["pools", name, "max_connections"], isWarning: true, text });
  }
}

/** What each worker would count for itself. */
function checkWorkers({ rules, pools, reputation, workers, redis }: RawConfig, report: Report): void {
  if (workers === 1 || redis !== undefined) return;
  const refuse = (why: string): void =>
    report({ path: ["workers"], text: `was ${workers}, but ${why}; should be 1, or redis should be set` });
  const index = rules.findIndex((rule) => rule.match.tier !== undefined);
  if (index !== -1) refuse(`rules[${index}] asks for a tier and each worker would count for itself`);
  for (const [name, { ips }] of Object.entries(pools)) {
    if (ips.every(({ dailyCap }) => dailyCap === undefined)) continue;
    refuse(`pools.${name} has a daily_cap and each worker would count for itself`);
  }
  if (reputation.stateFile === undefined) return;
  const text = `is written by each of the ${workers} workers with its own counts, so those of one are kept; redis has those of all`;
  report({ path: ["reputation", "state_file"], isWarning: true, text });
}

function unknownName(name: string, known: readonly string[], what: string): string {
  if (known.length === 0) return `but there are no ${what}s`;
  const near = nearest(name, known);
  return near === undefined
    ? `should be a ${what}: ${known.join(", ")}`
    : `which is no ${what}; the nearest is ${near}`;
}
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\./.test(host) || /^::ffff:127\./i.test(host);
}
function addressText(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}
