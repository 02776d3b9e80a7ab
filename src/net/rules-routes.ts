/**
 * What TPROXY needs besides rules: packets with the divert bit are delivered on this host, whatever their destination.
 * The lines are shell commands; running them again is harmless.
 */

import { type Family, type RulesPlan, routeTable } from "./rules.ts";

const commands = { ipv4: "ip -4", ipv6: "ip -6" } as const;

/** Empty for redirect, which needs no routes. */
export function routeScript(plan: RulesPlan): string[] {
  return familiesOf(plan).flatMap((family) => {
    const command = commands[family];
    const everything = family === "ipv4" ? "0.0.0.0/0" : "::/0";
    return [
      // Adding it again would make a second one.
      `${command} rule list | grep -qw '${selector(plan)}' || ${command} rule add ${selector(plan)}`,
      `${command} route replace local ${everything} dev lo table ${routeTable}`,
    ];
  });
}

/** All that routeScript ever made, but not what `kept` needs. */
export function routeRemoval(kept?: RulesPlan): string[] {
  const families = kept === undefined ? [] : familiesOf(kept);
  return (["ipv4", "ipv6"] as const).flatMap((family) => {
    const command = commands[family];
    if (kept !== undefined && families.includes(family)) {
      // Those of another divert bit.
      const others = `${command} rule list | grep -w 'lookup ${routeTable}' | grep -vw '${selector(kept)}'`;
      return [
        `${others} | while IFS=: read -r pref _; do ${command} rule del pref "$pref" lookup ${routeTable}; done`,
      ];
    }
    return [
      `while ${command} rule del lookup ${routeTable} 2>/dev/null; do :; done`,
      `${command} route flush table ${routeTable} 2>/dev/null || true`,
    ];
  });
}

function familiesOf(plan: RulesPlan): Family[] {
  if (plan.mode === "redirect") return [];
  return [...new Set([...plan.output, ...plan.prerouting].map(({ family }) => family))].sort();
}

/** As `ip rule list` writes it. */
function selector({ divertBit }: RulesPlan): string {
  const bit = `0x${divertBit.toString(16)}`;
  return `fwmark ${bit}/${bit} lookup ${routeTable}`;
}
