/**
 * The capture rules in nftables' words: one `table inet warp` for IPv4 and IPv6. The text replaces the table as a whole,
 * so applying it twice is applying it once; `nft -f` takes it in one transaction.
 */

import {
  type Family,
  isWildcard,
  markText,
  type RulesAddress,
  type RulesNetwork,
  type RulesPlan,
} from "./rules.ts";

/** Declaring the table first makes its removal succeed also where there is none. */
export const nftRemoval = "table inet warp\ndelete table inet warp\n";

export function nftRuleset(plan: RulesPlan): string {
  const chains = plan.mode === "redirect" ? redirectChains(plan) : tproxyChains(plan);
  const body = chains
    .map(({ name, hook, rules }) =>
      [`\tchain ${name} {`, `\t\t${hook}`, ...rules.map((rule) => `\t\t${rule}`), "\t}"].join("\n"),
    )
    .join("\n\n");
  return `${nftRemoval}\ntable inet warp {\n${body}\n}\n`;
}

interface Chain {
  readonly name: string;
  readonly hook: string;
  readonly rules: readonly string[];
}

const leaveLocal = "fib daddr type local return";

function exempt(plan: RulesPlan): string[] {
  return [
    ...(plan.mark === 0 ? [] : [`meta mark ${markText(plan.mark)} return`]),
    ...(plan.uid === undefined ? [] : [`meta skuid ${plan.uid} return`]),
    leaveLocal,
  ];
}

function redirectChains(plan: RulesPlan): Chain[] {
  const chains: Chain[] = [];
  if (plan.output.length > 0) {
    const rules = plan.output.map(
      ({ family, to }) => `meta nfproto ${family} ${portMatch(plan)} redirect to :${to.port}`,
    );
    const hook = "type nat hook output priority -100; policy accept;";
    chains.push({ name: "output", hook, rules: [...exempt(plan), ...rules] });
  }
  if (plan.prerouting.length > 0) {
    const rules = plan.prerouting.map(
      ({ family, networks, inInterface, to }) =>
        `${interfaceMatch(inInterface)}${sourceMatch(family, networks)} ${portMatch(plan)} redirect to :${to.port}`,
    );
    const hook = "type nat hook prerouting priority dstnat; policy accept;";
    chains.push({ name: "prerouting", hook, rules: [leaveLocal, ...rules] });
  }
  return chains;
}

/**
 * TPROXY happens in PREROUTING alone, so this host's own packets are marked in OUTPUT, which routes them there by way of
 * the loopback interface (routes.ts has the route that this takes).
 */
function tproxyChains(plan: RulesPlan): Chain[] {
  const bit = markText(plan.divertBit);
  const setMark = `meta mark set meta mark | ${bit}`;
  const prerouting = [
    // Packets of a connection that is warp's already, in either direction, its own with the client's address included.
    `meta l4proto tcp socket transparent 1 socket wildcard 0 ${setMark} accept`,
    leaveLocal,
    ...plan.output.flatMap(({ family, to }) =>
      handOver(
        `iif lo meta mark & ${bit} == ${bit} meta nfproto ${family} ${portMatch(plan)}`,
        `tproxy ${tproxyTo(family, to)} accept`,
      ),
    ),
    ...plan.prerouting.flatMap(({ family, networks, inInterface, to }) =>
      handOver(
        `${interfaceMatch(inInterface)}${sourceMatch(family, networks)} ${portMatch(plan)}`,
        `tproxy ${tproxyTo(family, to)} ${setMark} accept`,
      ),
    ),
  ];
  const chains: Chain[] = [
    {
      name: "prerouting",
      hook: "type filter hook prerouting priority mangle; policy accept;",
      rules: prerouting,
    },
  ];
  if (plan.output.length > 0) {
    const rules = plan.output.map(({ family }) => `meta nfproto ${family} ${portMatch(plan)} ${setMark}`);
    const hook = "type route hook output priority mangle; policy accept;";
    chains.push({ name: "output", hook, rules: [...exempt(plan), ...rules] });
  }
  return chains;
}

/**
 * Where no transparent listener is there, `tproxy` ends its rule and not the packet, which would go on to the destination
 * as if nothing captured it. (iptables' TPROXY drops it by itself.)
 */
function handOver(match: string, statements: string): string[] {
  return [`${match} ${statements}`, `${match} drop`];
}

function portMatch(plan: RulesPlan): string {
  return `tcp dport { ${plan.ports.join(", ")} }`;
}

function interfaceMatch(name: string | undefined): string {
  return name === undefined ? "" : `iifname "${name}" `;
}

function sourceMatch(family: Family, networks: readonly RulesNetwork[]): string {
  if (networks.some(({ prefix }) => prefix === 0)) return `meta nfproto ${family}`;
  const list = networks.map(({ address, prefix }) => `${address}/${prefix}`).join(", ");
  return `${family === "ipv4" ? "ip" : "ip6"} saddr { ${list} }`;
}

/** A listener on no address in particular is found by its port. */
function tproxyTo(family: Family, to: RulesAddress): string {
  if (isWildcard(to.ip)) return `${family === "ipv4" ? "ip" : "ip6"} to :${to.port}`;
  return family === "ipv4" ? `ip to ${to.ip}:${to.port}` : `ip6 to [${to.ip}]:${to.port}`;
}
