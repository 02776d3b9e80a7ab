/**
 * The capture rules in iptables' words, for hosts that are kept that way: chains of warp's own (WARP_OUTPUT,
 * WARP_PREROUTING) in the `nat` or `mangle` table of iptables and ip6tables, each with one jump to it. The lines are
 * shell commands; running them again is harmless.
 */

import { type Family, isWildcard, markText, type RulesNetwork, type RulesPlan } from "./rules.ts";

const commands = { ipv4: "iptables", ipv6: "ip6tables" } as const;

export function iptablesScript(plan: RulesPlan): string[] {
  return (["ipv4", "ipv6"] as const).flatMap((family) => familyScript(plan, family));
}

/** Takes every form away, that of the other mode too; a family whose command is missing is passed over. */
export function iptablesRemoval(): string[] {
  return [
    "for command in iptables ip6tables; do for table in nat mangle; do for chain in OUTPUT PREROUTING; do",
    "  while $command -w -t $table -D $chain -p tcp -j WARP_$chain 2>/dev/null; do :; done",
    "  $command -w -t $table -F WARP_$chain 2>/dev/null || true",
    "  $command -w -t $table -X WARP_$chain 2>/dev/null || true",
    "done; done; done",
  ];
}

function familyScript(plan: RulesPlan, family: Family): string[] {
  const output = plan.output.filter((capture) => capture.family === family);
  const prerouting = plan.prerouting.filter((capture) => capture.family === family);
  const table = plan.mode === "redirect" ? "nat" : "mangle";
  const lines: string[] = [];
  if (output.length > 0) {
    const rules = output.map(({ to }) =>
      plan.mode === "redirect"
        ? `${portMatch(plan)} ${redirectTo(to.port)}`
        : `${portMatch(plan)} ${divert(plan)}`,
    );
    lines.push(...chain(family, table, "OUTPUT", [...exempt(plan), ...rules]));
  }
  const rules = plan.mode === "redirect" ? redirectPrerouting(plan, family) : tproxyPrerouting(plan, family);
  if (prerouting.length > 0 || (plan.mode === "tproxy" && output.length > 0)) {
    lines.push(...chain(family, table, "PREROUTING", rules));
  }
  return lines;
}

function chain(family: Family, table: string, name: string, rules: readonly string[]): string[] {
  const command = `${commands[family]} -w -t ${table}`;
  return [
    `${command} -N WARP_${name}`,
    ...rules.map((rule) => `${command} -A WARP_${name} ${rule}`),
    `${command} -A ${name} -p tcp -j WARP_${name}`,
  ];
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
