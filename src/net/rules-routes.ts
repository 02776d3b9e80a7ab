/**
 * What TPROXY needs besides rules: packets with the divert bit are delivered on this host, whatever their destination.
 * The lines are shell commands; running them again is harmless.
 */

import { markText, type RulesPlan, routeTable } from "./rules.ts";

/** Empty for redirect, which needs no routes. */
export function routeScript(plan: RulesPlan): string[] {
  if (plan.mode === "redirect") return [];
  const families = new Set([...plan.output, ...plan.prerouting].map((capture) => capture.family));
  const bit = markText(plan.divertBit);
  return [...families].sort().flatMap((family) => {
    const [command, everything] = family === "ipv4" ? ["ip -4", "0.0.0.0/0"] : ["ip -6", "::/0"];
    return [
      `${command} rule add fwmark ${bit}/${bit} lookup ${routeTable}`,
      `${command} route replace local ${everything} dev lo table ${routeTable}`,
    ];
  });
}

export function routeRemoval(): string[] {
  return ["ip -4", "ip -6"].flatMap((command) => [
    `while ${command} rule del lookup ${routeTable} 2>/dev/null; do :; done`,
    `${command} route flush table ${routeTable} 2>/dev/null || true`,
  ]);
}
