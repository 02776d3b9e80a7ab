/** `warp reputation show|top|set|reset`: reads and corrects the counters of senders. */
import type { Config } from "../config/schema.ts";
import { COUNTERS, type Counter } from "../reputation/counts.ts";
import type { Standing, StandingChange } from "../reputation/store.ts";
import { escapeText } from "../telemetry/escape.ts";
import type { SettingsOf } from "./commands.ts";
import { type CommandSpec, type ParsedOptions, runCommand, UsageError } from "./options.ts";
import {
  type CounterSource,
  openCounters,
  readIdentity,
  readTier,
  standingJson,
} from "./reputation/source.ts";

const ACTIONS = ["show", "top", "set", "reset"];

export const spec: CommandSpec = {
  name: "reputation",
  summary: "Show and correct the counters of senders",
  description: [
    "show SENDER: score, tier and counters. top: the senders of the lowest score, worst first (from Redis: those in a tier below neutral). set SENDER: overwrites counters, or pins a tier, which then holds whatever is counted. reset SENDER: forgets it.",
    "SENDER is an address, a domain, a client's IP or a user, as reputation.identity of the configuration asks for, or an identity as events have it (mail_from:alice@example.com; where several facts are taken together, only that: sender_domain+client:example.com|192.0.2.7); <> is the null sender.",
    "The counters are those in Redis where the configuration names one. Without Redis they are those of reputation.state_file, as the proxy last wrote it; it takes corrections within a second.",
  ],
  operands: [
    { name: "ACTION", help: "What to do", choices: ACTIONS },
    { name: "SENDER", help: "Of whom; not for top", optional: true },
  ],
  options: [
    { name: "config", value: "FILE", help: "Configuration file (YAML)", completes: "file" },
    { name: "redis", value: "URL", help: "Redis with the counters" },
    { name: "limit", value: "N", help: "top: at most so many", default: "20" },
    { name: "tier", value: "TIER", help: "set: pin this tier" },
    { name: "unpin", help: "set: the score decides again" },
    ...COUNTERS.map((name) => ({ name, value: "N", help: `set: overwrite the counters "${name}"` })),
    { name: "json", help: "JSON: one object; top one per line" },
  ],
  examples: [
    ["warp reputation show alice@example.com --config /etc/warp/warp.yaml", "How she stands."],
    ["warp reputation top --redis redis://127.0.0.1/0", "Who stands worst."],
    ["warp reputation set alice@example.com --tier good", "Trust her, whatever is counted."],
    ["warp reputation set alice@example.com --unpin --spam 0 --refuse 0", "Forgive her, and count on."],
  ],
};

export async function reputationCommand(argv: readonly string[], settingsOf: SettingsOf): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const [action, sender] = options.operands as [string, string | undefined];
    checkUsage(action, sender, options);
    const config = settingsOf(options);
    const change = action === "set" ? readChange(options, config) : {};
    const identity = sender === undefined ? undefined : readIdentity(sender, config);
    const source = await openCounters(config);
    if (source === undefined) {
      process.stderr.write(
        "warp reputation: the counters are in the proxy's memory alone; set redis or reputation.state_file in the configuration\n",
      );
      return 1;
    }
    try {
      return await act(action, identity, change, source, config, options);
    } finally {
      await source.close();
    }
  });
}

function checkUsage(action: string, sender: string | undefined, options: ParsedOptions): void {
  if (action !== "top" && sender === undefined) throw new UsageError(`${action} needs a SENDER`);
  if (action === "top" && sender !== undefined) throw new UsageError("top takes no SENDER");
  const corrections = ["tier", "unpin", ...COUNTERS].filter((name) => options.given(name));
  if (action === "set" && corrections.length === 0) {
    throw new UsageError("set needs --tier, --unpin or a counter");
  }
  if (action !== "set" && corrections.length > 0) {
    throw new UsageError(`--${corrections[0]} is for set`);
  }
  if (options.given("tier") && options.flag("unpin")) {
    throw new UsageError("--tier and --unpin exclude each other");
  }
}

function readChange(options: ParsedOptions, config: Config): StandingChange {
  const tier = readTier(options, config);
  const counts: Partial<Record<Counter, number>> = {};
  for (const name of COUNTERS) {
    const value = options.number(name, 0);
    if (value !== undefined) counts[name] = value;
  }
  return {
    ...(Object.keys(counts).length === 0 ? {} : { counts }),
    ...(tier === undefined ? {} : { pin: tier }),
    ...(options.flag("unpin") ? { pin: null } : {}),
  };
}

async function act(
  action: string,
  named: string | undefined,
  change: StandingChange,
  source: CounterSource,
  config: Config,
  options: ParsedOptions,
): Promise<number> {
  const json = options.flag("json");
  if (action === "top") {
    const standings = await source.top(options.number("limit", 1, 10_000) ?? 20);
    for (const standing of standings) {
      process.stdout.write(json ? `${JSON.stringify(standingJson(standing, config))}\n` : line(standing));
    }
    if (standings.length === 0 && !json) process.stdout.write("nobody\n");
    return 0;
  }
  const identity = named!;
  if (action === "reset") {
    const known = await source.reset(identity);
    if (json) process.stdout.write(`${JSON.stringify({ identity, forgotten: known })}\n`);
    else
      process.stdout.write(
        known ? `${escapeText(identity)} is forgotten\n` : `nothing was known of ${escapeText(identity)}\n`,
      );
    return 0;
  }
  if (action === "set") await source.set(identity, change);
  const standing = await source.show(identity);
  if (json) process.stdout.write(`${JSON.stringify(standingJson(standing, config))}\n`);
  else process.stdout.write(page(standing, config, source.description));
  return 0;
}

function line({ identity, score, tier, counts }: Standing): string {
  return `${score.toFixed(3)}  ${tier.padEnd(10)}  ${String(counts.total).padStart(9)}  ${escapeText(identity)}\n`;
}

function page(standing: Standing, config: Config, description: string): string {
  const { identity, score, tier, pin, since, counts, known } = standing;
  const lines = [`${escapeText(identity)} (${description})`];
  if (!known) lines.push("  nothing is known of this sender");
  const held = since === 0 ? "" : `, since ${new Date(since).toISOString()}`;
  lines.push(`  score  ${score.toFixed(3)}`);
  lines.push(`  tier   ${tier}${pin === undefined ? held : ", set by hand"}`);
  lines.push(`  recipients counted  ${counts.total}`);
  lines.push(`  ${"half-life".padEnd(10)}${COUNTERS.map((name) => name.padStart(10)).join("")}`);
  for (const [i, window] of counts.windows.entries()) {
    const halfLife = duration(config.reputation.halfLivesMs[i] ?? 0);
    lines.push(
      `  ${halfLife.padEnd(10)}${COUNTERS.map((name) => window[name].toFixed(1).padStart(10)).join("")}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function duration(ms: number): string {
  if (ms % 86_400_000 === 0) return `${ms / 86_400_000}d`;
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  if (ms % 60_000 === 0) return `${ms / 60_000}m`;
  return `${ms / 1000}s`;
}
