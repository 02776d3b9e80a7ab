/**
 * `warp rules`: prints the capture rules, or applies or removes them. What it prints is complete and can be applied by
 * hand: for nftables a file for `nft -f`, with the routes of TPROXY as comments, with --iptables a shell script.
 * Applying replaces whatever form was there before, so twice is once, and never lets a connection pass in between: what
 * the new rules do not replace goes when they are in force. Removing takes every form away.
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { planRules, RulesError, type RulesInput, type RulesPlan } from "../net/rules.ts";
import { iptablesInForce, iptablesRemoval, iptablesScript } from "../net/rules-iptables.ts";
import { nftRemoval, nftRuleset } from "../net/rules-nft.ts";
import { routeRemoval, routeScript } from "../net/rules-routes.ts";
import { type CommandSpec, type ParsedOptions, runCommand, UsageError } from "./options.ts";

/** The part of the configuration that the rules depend on; a `Config` is one. */
export interface RulesSettings {
  readonly capture: {
    readonly mode: "redirect" | "tproxy" | "fixed";
    readonly mark: number;
    readonly ports: readonly number[];
  };
  readonly listen: RulesInput["listen"];
  /** Nobody named an address: one that the host lacks is no listener. */
  readonly listenIsDefault: boolean;
  readonly clients: RulesInput["clients"];
}

export const spec: CommandSpec = {
  name: "rules",
  summary: "Print, apply or remove the rules that bring traffic to warp",
  description: [
    "Prints a ruleset for nftables that captures outgoing connections to the mail port: those of this host and those of the client networks that the configuration names. Destinations that are this host are never captured, nor are warp's own connections, by their mark and by their user.",
    "It captures only what a listener can receive, and exits with 1 and says so where that is not what was asked for.",
  ],
  options: [
    { name: "apply", help: "Install the rules, in place of those that are there" },
    { name: "remove", help: "Remove the rules, of whatever form" },
    { name: "iptables", help: "Use iptables and ip6tables instead of nftables" },
    {
      name: "uid",
      value: "USER",
      help: "The user that warp runs as, whose connections are not captured",
      default: "warp, where there is such a user",
    },
    { name: "config", value: "FILE", help: "Configuration file (YAML)", completes: "file" },
    { name: "ip", value: "ADDRESS", repeatable: true, help: "Where warp listens" },
    { name: "port", value: "PORT", help: "The port it listens on" },
    { name: "mode", value: "MODE", choices: ["redirect", "tproxy"], help: "How connections reach it" },
    { name: "client", value: "NETWORK", repeatable: true, help: "Whose connections to capture" },
  ],
  examples: [
    ["warp rules", "Show what would be captured and how"],
    ["warp rules --apply", "Capture from now on"],
    ["warp rules --remove", "Stop capturing; connections that are open stay as they are"],
  ],
};

/** `settingsOf` reads the configuration that the options name; what it throws is the caller's. */
export function rulesCommand(
  argv: readonly string[],
  settingsOf: (options: ParsedOptions) => RulesSettings | Promise<RulesSettings>,
): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    if (options.flag("apply") && options.flag("remove"))
      throw new UsageError("--apply and --remove exclude each other");
    if (options.flag("remove")) return remove();
    const settings = await settingsOf(options);
    try {
      const plan = planRules(inputOf(settings, uidOf(options.value("uid"))));
      const iptables = options.flag("iptables");
      if (options.flag("apply")) return apply(plan, iptables);
      process.stdout.write(iptables ? iptablesText(plan) : nftText(plan));
      return 0;
    } catch (error) {
      if (!(error instanceof RulesError)) throw error;
      for (const problem of error.problems) complain(problem);
      return 1;
    }
  });
}

function inputOf(settings: RulesSettings, uid: number | undefined): RulesInput {
  const { mode, mark, ports } = settings.capture;
  if (mode === "fixed") throw new RulesError(["mode fixed captures nothing, so it needs no rules"]);
  const interfaces = hostAddresses();
  const isHere = (ip: string) => interfaces.some((entry) => entry.ip === ip);
  const listen = settings.listenIsDefault ? settings.listen.filter(({ ip }) => isHere(ip)) : settings.listen;
  return { mode, ports, mark, uid, listen, clients: settings.clients, interfaces };
}

/** An address with a label of its own (`eth0:1`) is one more of its interface: no packet comes in by a label. */
function hostAddresses(): RulesInput["interfaces"] {
  return Object.entries(networkInterfaces()).flatMap(([label, addresses]) =>
    (addresses ?? []).map(({ address }) => ({ name: label.replace(/:.*$/, ""), ip: address })),
  );
}

/** A name or a number; without one the user `warp`, where the host has it. */
function uidOf(given: string | undefined): number | undefined {
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  const found = spawnSync("id", ["-u", given ?? "warp"], { encoding: "utf8" });
  if (found.status === 0) return Number(found.stdout.trim());
  if (given !== undefined)
    throw new UsageError(`--uid was "${given}", should be a user of this host or a number`);
  return undefined;
}

function nftText(plan: RulesPlan): string {
  const routes = routeScript(plan);
  const after = [
    ...(routes.length === 0
      ? []
      : ["The routes that TPROXY needs besides (warp rules --apply sets them too):"]),
    ...routes.map((line) => `  ${line}`),
    ...portHint(plan),
  ];
  return `#!/usr/sbin/nft -f\n${comments(heading(plan))}\n${nftRuleset(plan)}${comments(after)}`;
}

function iptablesText(plan: RulesPlan): string {
  const lines = [
    ...routeScript(plan),
    ...iptablesScript(plan),
    ...iptablesRemoval(plan),
    ...routeRemoval(plan),
  ];
  return `#!/bin/sh\n${comments(heading(plan))}set -e\n${lines.join("\n")}\n${comments(portHint(plan))}`;
}

function heading(plan: RulesPlan): string[] {
  return [
    `Capture rules of warp, mode ${plan.mode}; warp rules --remove takes them away.`,
    ...plan.notes.map(sentence),
  ];
}

/** A port that the kernel may give to an outgoing connection is sometimes taken when warp wants to listen on it. */
function portHint(plan: RulesPlan): string[] {
  const missing = plan.listenPorts.filter((port) => !isReserved(port));
  if (missing.length === 0) return [];
  return [
    "Keep the kernel from giving warp's own port to an outgoing connection:",
    `  sysctl -w net.ipv4.ip_local_reserved_ports=${[...reservedPorts(), ...missing].join(",")}`,
  ];
}

function reservedPorts(): string[] {
  try {
    const text = readFileSync("/proc/sys/net/ipv4/ip_local_reserved_ports", "utf8");
    return text
      .trim()
      .split(",")
      .filter((range) => range !== "");
  } catch {
    return [];
  }
}

function isReserved(port: number): boolean {
  return reservedPorts().some((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return port >= first && port <= last;
  });
}

function apply(plan: RulesPlan, iptables: boolean): number {
  if (!mayChange(iptables ? "iptables" : "nft", iptables ? "iptables" : "nftables")) return 1;
  const captured = isCapturing();
  const done = iptables
    ? shell([...routeScript(plan), ...iptablesScript(plan)])
    : shell(routeScript(plan)) && nft(nftRuleset(plan));
  if (!done) {
    if (!captured) removeEverything();
    const what = captured ? "what was captured before still is" : "nothing is captured";
    complain(`the rules could not be applied; ${what}`);
    return 1;
  }
  if (!removeOthers(plan, iptables)) return 1;
  const who = [
    plan.output.length > 0 ? ["this host"] : [],
    plan.prerouting.flatMap(({ networks }) =>
      networks.map((network) => `${network.address}/${network.prefix}`),
    ),
  ].flat();
  const port = plan.ports.length === 1 ? "port" : "ports";
  console.log(`capturing connections to ${port} ${plan.ports.join(", ")} of ${[...new Set(who)].join(", ")}`);
  for (const line of [...plan.notes.map(sentence), ...portHint(plan)]) console.log(line);
  return 0;
}

function remove(): number {
  if (!mayChange()) return 1;
  if (!removeEverything()) return 1;
  console.log("capturing nothing");
  return 0;
}

function isCapturing(): boolean {
  return (
    attempt("nft", ["list", "table", "inet", "warp"]).status === 0 ||
    attempt("sh", ["-s"], asText(iptablesInForce())).status === 0
  );
}

/** What was there before and is none of the plan's. */
function removeOthers(plan: RulesPlan, iptables: boolean): boolean {
  const others = iptables
    ? (!hasCommand("nft") || nft(nftRemoval)) && shell(iptablesRemoval(plan))
    : !hasCommand("iptables") || shell(iptablesRemoval());
  return others && shell(routeRemoval(plan));
}

/** Rules first, then the routes that they lead to. */
function removeEverything(): boolean {
  const byNft = !hasCommand("nft") || nft(nftRemoval);
  const byIptables = !hasCommand("iptables") || shell(iptablesRemoval());
  return shell(routeRemoval()) && byNft && byIptables;
}

function mayChange(command?: string, debianPackage?: string): boolean {
  if (process.platform !== "linux") {
    complain(`capture rules are Linux's; this is ${process.platform}`);
    return false;
  }
  if (process.getuid?.() !== 0) {
    complain("changing the capture rules takes root");
    return false;
  }
  if (command !== undefined && !hasCommand(command)) {
    complain(`${command} is not installed (Debian: apt-get install ${debianPackage})`);
    return false;
  }
  return true;
}

function hasCommand(name: string): boolean {
  return attempt("sh", ["-c", `command -v ${name}`]).status === 0;
}

function nft(ruleset: string): boolean {
  return run("nft", ["-f", "-"], ruleset);
}

function shell(lines: readonly string[]): boolean {
  return lines.length === 0 || run("sh", ["-e", "-s"], asText(lines));
}

function run(command: string, args: readonly string[], input: string): boolean {
  const done = attempt(command, args, input);
  if (done.status === 0) return true;
  complain(
    `${command} ${args.join(" ")}: ${done.error?.message ?? (done.stderr.trim() || `exit ${done.status}`)}`,
  );
  return false;
}

function attempt(command: string, args: readonly string[], input = "") {
  return spawnSync(command, args, { input, encoding: "utf8", env: systemEnvironment() });
}

function asText(lines: readonly string[]): string {
  return `${lines.join("\n")}\n`;
}

/** nft, iptables and ip live in /usr/sbin, which not every PATH has. */
function systemEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
}

function comments(lines: readonly string[]): string {
  return lines.map((line) => `# ${line}\n`).join("");
}

function sentence(text: string): string {
  return `${text[0]?.toUpperCase()}${text.slice(1)}.`;
}

function complain(text: string): void {
  console.error(`warp rules: ${text}`);
}
