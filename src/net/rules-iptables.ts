/**
 * The capture rules in iptables' words, for hosts that are kept that way: chains of warp's own (WARP_OUTPUT,
 * WARP_PREROUTING) in the `nat` or `mangle` table of iptables and ip6tables, each with one jump to it. The lines are
 * shell commands; running them again is harmless, and no connection passes between what was there and what comes.
 */

import { type Family, isWildcard, markText, type RulesNetwork, type RulesPlan } from "./rules.ts";

const commands = { ipv4: "iptables", ipv6: "ip6tables" } as const;

interface Chain {
  readonly family: Family;
  readonly table: "nat" | "mangle";
  readonly name: "OUTPUT" | "PREROUTING";
  readonly rules: readonly string[];
}

/** The chains of a family change in one commit, and the jumps to them stay where they are. */
export function iptablesScript(plan: RulesPlan): string[] {
  const all = chainsOf(plan);
  return (["ipv4", "ipv6"] as const).flatMap((family) => {
    const chains = all.filter((chain) => chain.family === family);
    const [first] = chains;
    if (first === undefined) return [];
    const { table } = first;
    const command = `${commands[family]} -w -t ${table}`;
    return [
      `${commands[family]}-restore -w --noflush <<'END'`,
      `*${table}`,
      // This empties a chain that is there.
      ...chains.map(({ name }) => `:WARP_${name} - [0:0]`),
      ...chains.flatMap(({ name, rules }) => rules.map((rule) => `-A WARP_${name} ${rule}`)),
      "COMMIT",
      "END",
      ...chains.map(
        ({ name }) =>
          `${command} -C ${name} ${jumpTo(name)} 2>/dev/null || ${command} -A ${name} ${jumpTo(name)}`,
      ),
    ];
  });
}

/**
 * Takes every form away, that of the other mode too, but not the chains that `kept` has; a family whose command is missing
 * is passed over.
 */
export function iptablesRemoval(kept?: RulesPlan): string[] {
  const chains = kept === undefined ? [] : chainsOf(kept);
  const names = chains.map(({ family, table, name }) => `"${commands[family]} ${table} ${name}"`);
  return forEachChain([
    ...(names.length === 0 ? [] : [`case "$command $table $chain" in ${names.join("|")}) continue;; esac`]),
    `while $command -w -t $table -D $chain ${jumpTo("$chain")} 2>/dev/null; do :; done`,
    "$command -w -t $table -F WARP_$chain 2>/dev/null || true",
    "$command -w -t $table -X WARP_$chain 2>/dev/null || true",
  ]);
}

/** Succeeds where something is captured this way. */
export function iptablesInForce(): string[] {
  const isThere = `$command -w -t $table -C $chain ${jumpTo("$chain")} 2>/dev/null`;
  return [...forEachChain([`if ${isThere}; then exit 0; fi`]), "exit 1"];
}

function forEachChain(lines: readonly string[]): string[] {
  return [
    "for command in iptables ip6tables; do for table in nat mangle; do for chain in OUTPUT PREROUTING; do",
    ...lines.map((line) => `  ${line}`),
    "done; done; done",
  ];
}

function jumpTo(name: string): string {
  return `-p tcp -j WARP_${name}`;
}

function chainsOf(plan: RulesPlan): Chain[] {
  return (["ipv4", "ipv6"] as const).flatMap((family) => familyChains(plan, family));
}

function familyChains(plan: RulesPlan, family: Family): Chain[] {
  const output = plan.output.filter((capture) => capture.family === family);
  const prerouting = plan.prerouting.filter((capture) => capture.family === family);
  const table = plan.mode === "redirect" ? "nat" : "mangle";
  const chains: Chain[] = [];
  if (output.length > 0) {
    const rules = output.map(({ to }) =>
      plan.mode === "redirect"
        ? `${portMatch(plan)} ${redirectTo(to.port)}`
        : `${portMatch(plan)} ${divert(plan)}`,
    );
    chains.push({ family, table, name: "OUTPUT", rules: [...exempt(plan), ...rules] });
  }
  const rules = plan.mode === "redirect" ? redirectPrerouting(plan, family) : tproxyPrerouting(plan, family);
  if (prerouting.length > 0 || (plan.mode === "tproxy" && output.length > 0)) {
    chains.push({ family, table, name: "PREROUTING", rules });
  }
  return chains;
}

const leaveLocal = "-m addrtype --dst-type LOCAL -j RETURN";

function exempt(plan: RulesPlan): string[] {
  return [
    ...(plan.mark === 0 ? [] : [`-m mark --mark ${markText(plan.mark)} -j RETURN`]),
    ...(plan.uid === undefined ? [] : [`-m owner --uid-owner ${plan.uid} -j RETURN`]),
    leaveLocal,
  ];
}

function redirectPrerouting(plan: RulesPlan, family: Family): string[] {
  const captures = plan.prerouting.filter((capture) => capture.family === family);
  const rules = captures.map(
    ({ networks, inInterface, to }) =>
      `${interfaceMatch(inInterface)}${sourceMatch(networks)} ${portMatch(plan)} ${redirectTo(to.port)}`,
  );
  return [leaveLocal, ...rules];
}

function tproxyPrerouting(plan: RulesPlan, family: Family): string[] {
  const bit = markText(plan.divertBit);
  const handOver = (to: { ip: string; port: number }) => {
    const onIp = isWildcard(to.ip) ? "" : ` --on-ip ${to.ip}`;
    return `-j TPROXY --on-port ${to.port}${onIp} --tproxy-mark ${bit}/${bit}`;
  };
  const output = plan.output.filter((capture) => capture.family === family);
  const prerouting = plan.prerouting.filter((capture) => capture.family === family);
  return [
    `-p tcp -m socket --transparent --nowildcard ${divert(plan)}`,
    "-p tcp -m socket --transparent --nowildcard -j ACCEPT",
    leaveLocal,
    ...output.map(({ to }) => `-i lo -m mark --mark ${bit}/${bit} ${portMatch(plan)} ${handOver(to)}`),
    ...prerouting.map(
      ({ networks, inInterface, to }) =>
        `${interfaceMatch(inInterface)}${sourceMatch(networks)} ${portMatch(plan)} ${handOver(to)}`,
    ),
  ];
}

function divert(plan: RulesPlan): string {
  const bit = markText(plan.divertBit);
  return `-j MARK --set-xmark ${bit}/${bit}`;
}

function redirectTo(port: number): string {
  return `-j REDIRECT --to-ports ${port}`;
}

function portMatch(plan: RulesPlan): string {
  return `-p tcp -m multiport --dports ${plan.ports.join(",")}`;
}

function interfaceMatch(name: string | undefined): string {
  return name === undefined ? "" : `-i ${name} `;
}

/** iptables makes a rule of each network in the list. */
function sourceMatch(networks: readonly RulesNetwork[]): string {
  return `-s ${networks.map(({ address, prefix }) => `${address}/${prefix}`).join(",")}`;
}
