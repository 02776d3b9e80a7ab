/** `warp egress explain`: which rule, tier, pool and source IP a message would get, and why. */

import { readIp, Unreadable } from "../config/scalars.ts";
import type { Config } from "../config/schema.ts";
import { dayOf, type IpLedger } from "../deliverability/ledger.ts";
import type { Explanation } from "../egress/explanation.ts";
import { EgressRouter } from "../egress/router.ts";
import { noTelemetry } from "../events/telemetry.ts";
import { LocalAddresses } from "../net/local-addresses.ts";
import { identityOf } from "../reputation/identity.ts";
import type { Standing } from "../reputation/store.ts";
import { MemoryReputationStore } from "../stores/reputation-memory.ts";
import { escapeText } from "../telemetry/escape.ts";
import type { SettingsOf } from "./commands.ts";
import { type CommandSpec, ParsedOptions, runCommand, UsageError } from "./options.ts";
import { reputationSettings, routerSettings } from "./proxy/egress.ts";
import { openCounters, readTier } from "./reputation/source.ts";

export const spec: CommandSpec = {
  name: "egress",
  summary: "Explain the choice of the source IP",
  description: [
    "explain: goes through the rules of the configuration for one message, with the sender's tier and the states of the IPs as Redis or reputation.state_file have them, and says which rule decides, and which IPs of the pool could be used in which order. What only the running proxy knows (open connections, IPs that bind did not find) is not looked at, nor is a SelectRoute hook asked.",
  ],
  operands: [{ name: "ACTION", help: "What to do", choices: ["explain"] }],
  options: [
    { name: "from", value: "ADDRESS", help: "MAIL FROM; <> is the null sender" },
    { name: "to", value: "ADDRESS", help: "RCPT TO" },
    { name: "client", value: "ADDRESS", help: "IP of the client", default: "127.0.0.1" },
    { name: "destination", value: "ADDRESS", help: "IP of the destination", default: "an unknown one, IPv4" },
    { name: "provider", value: "NAME", help: "MX group of the destination, as events name it: google.com" },
    { name: "auth-user", value: "USER", help: "User of an accepted AUTH" },
    { name: "tier", value: "TIER", help: "Assume this tier instead of looking it up" },
    { name: "config", value: "FILE", help: "Configuration file (YAML)", completes: "file" },
    { name: "redis", value: "URL", help: "Redis with the counters" },
    { name: "json", help: "One JSON object" },
  ],
  examples: [
    [
      "warp egress explain --from alice@example.com --to bob@gmail.com --provider google.com --config warp.yaml",
      "Why her mail leaves from where it leaves.",
    ],
  ],
};

const UNKNOWN_DESTINATION = "0.0.0.0";
const REFRESH_MS = 1_000;

export async function egressCommand(argv: readonly string[], settingsOf: SettingsOf): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const from = options.value("from");
    if (from === undefined) throw new UsageError("--from is missing; <> is the null sender");
    const config = settingsOf(settingsOnly(options));
    const question = readQuestion(from, options, config);
    const answer = await explain(question, config);
    const text = options.flag("json") ? `${JSON.stringify(asJson(answer))}\n` : asText(answer, question);
    process.stdout.write(text);
    return answer.explanation.decision.kind === "none" ? 1 : 0;
  });
}

/** `--client` and `--destination` are the message's here, not the proxy's. */
function settingsOnly(options: ParsedOptions): ParsedOptions {
  const said = options.occurrences.filter(({ name }) => name === "config" || name === "redis");
  return new ParsedOptions(spec, said, []);
}

interface Question {
  readonly mailFrom: string;
  readonly recipient: string | undefined;
  readonly clientIp: string;
  readonly destinationIp: string;
  readonly provider: string | undefined;
  readonly authUser: string;
  readonly tier: string | undefined;
}
interface Answer {
  readonly explanation: Explanation;
  readonly standing: Standing | undefined;
  readonly identity: string;
}

function readQuestion(from: string, options: ParsedOptions, config: Config): Question {
  const bare = (address: string) => address.replace(/^<(.*)>$/s, "$1");
  const to = options.value("to");
  return {
    mailFrom: bare(from),
    recipient: to === undefined ? undefined : bare(to),
    clientIp: readAddress("client", options) ?? "127.0.0.1",
    destinationIp: readAddress("destination", options) ?? UNKNOWN_DESTINATION,
    provider: options.value("provider"),
    authUser: options.value("auth-user") ?? "",
    tier: readTier(options, config),
  };
}

function readAddress(name: string, options: ParsedOptions): string | undefined {
  const value = options.value(name);
  if (value === undefined) return undefined;
  try {
    return readIp(value);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    throw new UsageError(`--${name} was "${value}", should be ${error.message}`);
  }
}

async function explain(question: Question, config: Config): Promise<Answer> {
  const { mailFrom, clientIp, destinationIp, authUser } = question;
  const settings = routerSettings(config);
  const identity = identityOf({ mailFrom, clientIp, authUser }, settings.identity);
  const source = await openCounters(config);
  const empty = new MemoryReputationStore({ settings: reputationSettings(config), now: Date.now });
  try {
    const found = await (source ?? empty).show(identity);
    const standing =
      question.tier === undefined ? found : { ...found, tier: question.tier, pin: question.tier };
    const ledger = source?.ledger ?? empty;
    const local = new LocalAddresses();
    const router = new EgressRouter(settings, {
      store: empty,
      ledger,
      telemetry: noTelemetry,
      now: Date.now,
      isOwnAddress: (ip) => local.has(ip),
      notify: () => undefined,
    });
    if (question.provider !== undefined) {
      router.provider(destinationIp, Buffer.from(`220 mx.${question.provider} ESMTP`), undefined);
    }
    await hear(config, ledger, router, router.provider(destinationIp));
    const facts = {
      clientIp,
      destinationIp,
      mailFrom,
      recipient: question.recipient,
      authUser: authUser === "" ? undefined : authUser,
      tier: standing.tier,
      identity,
      standing,
    };
    return { explanation: router.explain(facts), standing, identity };
  } finally {
    await source?.close();
  }
}

/** Asks Redis for the states of every IP of the pools, and waits a moment for the answers. */
async function hear(config: Config, ledger: IpLedger, router: EgressRouter, provider: string): Promise<void> {
  const ips = Object.values(config.pools).flatMap((pool) => pool.ips.map(({ ip }) => ip));
  if (config.redis === undefined || ips.length === 0) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const missing = new Set(ips);
  const timer = setTimeout(resolve, REFRESH_MS);
  ledger.listen((ip, name, shared) => {
    router.throttle.merge(ip, name, shared, Date.now());
    missing.delete(ip);
    if (missing.size === 0) resolve();
  });
  for (const ip of ips) {
    ledger.refreshMessages(ip, provider, dayOf(Date.now()));
    ledger.ask(ip, provider);
  }
  await promise;
  clearTimeout(timer);
}

function asJson({ explanation, standing, identity }: Answer): Record<string, unknown> {
  const { decision, provider, rules, ips } = explanation;
  return {
    rule: decision.rule,
    kind: decision.kind,
    pool: decision.pool,
    source_ips:
      decision.kind === "ip" ? decision.candidates.map(({ ip, ehlo }) => ({ ip: ip ?? null, ehlo })) : [],
    reply: decision.kind === "reply" ? decision.reply : undefined,
    tier: standing?.tier,
    score: standing?.score,
    sender: identity,
    provider,
    rules,
    ips,
  };
}

function asText({ explanation, standing, identity }: Answer, question: Question): string {
  const { decision, provider, rules, ips } = explanation;
  const lines = [
    `sender    ${escapeText(identity)}: tier ${standing?.tier ?? ""}, score ${standing?.score.toFixed(3)}${
      standing?.known === true ? "" : " (nothing is known of it)"
    }`,
    `provider  ${provider}${question.destinationIp === UNKNOWN_DESTINATION && question.provider === undefined ? " (no --destination and no --provider given)" : ""}`,
  ];
  for (const { name, matches, conditions } of rules) {
    const failed = conditions.filter(({ holds }) => !holds).map(({ key }) => key);
    const why =
      conditions.length === 0 ? "matches everything" : `${conditions.map(({ key }) => key).join(", ")} match`;
    lines.push(
      `rule      ${name}: ${matches ? why : `no, ${failed.join(", ")} differ${failed.length === 1 ? "s" : ""}`}`,
    );
  }
  if (!rules.some(({ matches }) => matches)) lines.push("rule      none matches: default");
  lines.push(`decision  ${decisionText(explanation)}`);
  if (question.authUser !== "" && decision.kind !== "reply") {
    lines.push("note      a login pins its leg: this decides where the client's next connection is dialled");
  }
  for (const { ip, ehlo, weight, cause, state, why } of ips) {
    const place =
      decision.kind === "ip" ? decision.candidates.findIndex((candidate) => candidate.ip === ip) + 1 : 0;
    const standingOfIp = cause === undefined ? `choice ${place}` : `not used: ${CAUSES[cause] ?? cause}`;
    const name = ehlo === undefined ? "" : ` as ${ehlo}`;
    const condition = state === "normal" ? "" : `, ${state}${why === "" ? "" : ` (${why})`}`;
    lines.push(`  ${ip}${name}, weight ${weight}: ${standingOfIp}${condition}`);
  }
  return `${lines.join("\n")}\n`;
}

const CAUSES: Readonly<Record<string, string>> = {
  family: "of the other IP family",
  not_local: "not an address of this host",
  cooling: "cooling down for this provider",
  cap: "its cap is reached",
};

function decisionText({ decision }: Explanation): string {
  switch (decision.kind) {
    case "client":
      return "the client's own address where this host has it, else the system's choice";
    case "reply":
      return `${decision.reply.code} ${decision.reply.enhancedCode} ${decision.reply.text}`.replace(
        / {2}/g,
        " ",
      );
    case "none":
      return `no IP${decision.pool === "" ? "" : ` of pool ${decision.pool}`} can be used: 451 4.4.4`;
    case "ip": {
      const { ip } = decision.candidates[0]!;
      if (ip === undefined) return "the system's choice";
      return decision.pool === "" ? `${ip} (--outbound-ip)` : `pool ${decision.pool}: ${ip}`;
    }
  }
}
