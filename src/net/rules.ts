/**
 * What the capture rules have to say, before it is said in nftables' or iptables' words (rules-nft.ts,
 * rules-iptables.ts). Pure: settings and the host's addresses in, a plan or a list of problems out.
 *
 * - OUTPUT captures this host's own mail, PREROUTING that of the configured client networks.
 * - Only what a listener can receive is captured. REDIRECT sends a connection of OUTPUT to 127.0.0.1 or ::1, one of
 *   PREROUTING to the first address of the interface it came in by. TPROXY hands it to any listener of its family.
 * - Connections of warp itself are exempt by mark and by uid; destinations that are addresses of this host are never
 *   captured: inbound mail to its MX and local submission go where they always went.
 */

import { BlockList } from "node:net";
import { isDualStack } from "./dual-stack.ts";

export type Family = "ipv4" | "ipv6";
const families = ["ipv4", "ipv6"] as const;

export interface RulesAddress {
  readonly ip: string;
  readonly port: number;
}

export interface RulesNetwork {
  readonly address: string;
  readonly prefix: number;
  readonly family: 4 | 6;
}

export interface RulesInput {
  readonly mode: "redirect" | "tproxy";
  /** Destination ports to capture. */
  readonly ports: readonly number[];
  readonly listen: readonly RulesAddress[];
  readonly clients: { readonly self: boolean; readonly networks: readonly RulesNetwork[] };
  /** SO_MARK of warp's own connections. */
  readonly mark: number;
  /** Whose connections are exempt besides the marked ones; undefined: nobody's. */
  readonly uid: number | undefined;
  /** This host's addresses, loopback included, those of one interface in the kernel's order. */
  readonly interfaces: readonly { readonly name: string; readonly ip: string }[];
}

export interface OutputCapture {
  readonly family: Family;
  readonly to: RulesAddress;
}

export interface PreroutingCapture {
  readonly family: Family;
  readonly networks: readonly RulesNetwork[];
  /** Only what comes in here; undefined: anywhere. */
  readonly inInterface: string | undefined;
  readonly to: RulesAddress;
}

export interface RulesPlan {
  readonly mode: "redirect" | "tproxy";
  readonly ports: readonly number[];
  readonly mark: number;
  readonly uid: number | undefined;
  /** tproxy: the one bit that marks packets on their way to warp; never a bit of `mark`. */
  readonly divertBit: number;
  readonly output: readonly OutputCapture[];
  readonly prerouting: readonly PreroutingCapture[];
  /** The ports of the listeners that are captured to. */
  readonly listenPorts: readonly number[];
  /** What is not captured, and why; for the reader of the rules. */
  readonly notes: readonly string[];
}

/** The routing table that holds TPROXY's local route; chosen to be nobody else's. */
export const routeTable = 2525;

/** What is asked for cannot be captured; `problems` are sentences for the operator. */
export class RulesError extends Error {
  override readonly name = "RulesError";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("; "));
    this.problems = problems;
  }
}

/** Throws a RulesError where warp could not receive what its settings say it should capture. */
export function planRules(input: RulesInput): RulesPlan {
  const problems: string[] = [];
  const notes: string[] = [];
  if (input.ports.length === 0) problems.push("capture.ports is empty: there is nothing to capture");
  if (input.mark === 0 && input.uid === undefined) {
    problems.push("nothing exempts warp's own connections: capture.mark is 0 and no uid is given (--uid)");
  }
  const output = wantsOutput(input) ? planOutput(input, problems, notes) : [];
  if (!wantsOutput(input)) {
    notes.push(
      `this host's own mail is not captured: clients has neither "self" nor an address of this host`,
    );
  }
  const prerouting = planPrerouting(input, problems, notes);
  for (const family of families) {
    if (familiesHere(input).includes(family)) continue;
    notes.push(
      `${familyName(family)} is off on this host (no interface has such an address): nothing of it is captured`,
    );
  }
  if (problems.length === 0 && output.length === 0 && prerouting.length === 0) {
    problems.push("clients names nobody whose connections could be captured");
  }
  if (problems.length > 0) throw new RulesError(problems);
  const listenPorts = [...new Set([...output, ...prerouting].map((capture) => capture.to.port))];
  const ports = [...new Set(input.ports)].sort((a, b) => a - b);
  const { mode, mark, uid } = input;
  return { mode, ports, mark, uid, divertBit: divertBitBeside(mark), output, prerouting, listenPorts, notes };
}

export function familyName(family: Family): string {
  return family === "ipv4" ? "IPv4" : "IPv6";
}

/** 0x00000077, as nftables prints a mark. */
export function markText(mark: number): string {
  return `0x${mark.toString(16).padStart(8, "0")}`;
}

/** True for a listener that is bound to no address in particular. */
export function isWildcard(ip: string): boolean {
  return ip === "0.0.0.0" || ip === "::";
}

function familyOf(ip: string): Family {
  return ip.includes(":") ? "ipv6" : "ipv4";
}

/** Without an address of a family not even its loopback works, and the kernel refuses TPROXY's route. */
function familiesHere({ interfaces }: RulesInput): Family[] {
  return families.filter((family) => interfaces.some(({ ip }) => familyOf(ip) === family));
}

/** A dual-stack listener on :: serves IPv4 too; one of the family itself is preferred. */
function listenersFor(family: Family, input: RulesInput): RulesAddress[] {
  const own = input.listen.filter((address) => familyOf(address.ip) === family);
  const dual = family === "ipv4" ? input.listen.filter((address) => isDualStack(address, input.listen)) : [];
  return [...own, ...dual];
}

function wantsOutput(input: RulesInput): boolean {
  if (input.clients.self) return true;
  const list = blockListOf(input.clients.networks);
  return input.interfaces.some(({ ip }) => !isLoopback(ip) && list.check(ip, familyOf(ip)));
}

function planOutput(input: RulesInput, problems: string[], notes: string[]): OutputCapture[] {
  const found: OutputCapture[] = [];
  const missing: string[] = [];
  for (const family of familiesHere(input)) {
    const loopback = family === "ipv4" ? "127.0.0.1" : "::1";
    const to = listenersFor(family, input).find(
      ({ ip }) => input.mode === "tproxy" || ip === loopback || isWildcard(ip),
    );
    if (to !== undefined) found.push({ family, to });
    else
      missing.push(
        `this host's ${familyName(family)} mail is not captured: ${lacking(family, loopback, input)}`,
      );
  }
  (found.length === 0 && input.clients.self ? problems : notes).push(...missing);
  return found;
}

function lacking(family: Family, loopback: string, input: RulesInput): string {
  if (input.mode === "tproxy") return `warp does not listen on an ${familyName(family)} address`;
  const wildcard = family === "ipv4" ? "0.0.0.0" : "::";
  return `REDIRECT sends it to ${loopback}, and warp listens neither there nor on ${wildcard}`;
}

function planPrerouting(input: RulesInput, problems: string[], notes: string[]): PreroutingCapture[] {
  const networks = outermost(input.clients.networks).filter((network) => !isThisHost(network, input));
  if (networks.length === 0) {
    notes.push("other hosts' mail is not captured: clients names no network of theirs");
    return [];
  }
  return familiesHere(input).flatMap((family) => {
    const mine = networks.filter((network) => network.family === (family === "ipv4" ? 4 : 6));
    if (mine.length === 0) return [];
    const listeners = preroutingListeners(family, input);
    if (listeners.length === 0) problems.push(unreceivable(family, mine, input));
    return listeners.map((listener) => ({ family, networks: mine, ...listener }));
  });
}

/** Where PREROUTING can send to: one listener for all interfaces, or one for each interface that it fits. */
function preroutingListeners(family: Family, input: RulesInput) {
  const listeners = listenersFor(family, input);
  const everywhere =
    listeners.find(({ ip }) => isWildcard(ip)) ?? (input.mode === "tproxy" ? listeners[0] : undefined);
  if (everywhere !== undefined) return [{ inInterface: undefined, to: everywhere }];
  return listeners.flatMap((to) => {
    const name = interfaceWithFirstAddress(to.ip, family, input);
    return name === undefined ? [] : [{ inInterface: name, to }];
  });
}

/** The interface for which REDIRECT chooses this address: its first of the family (IPv6: of global scope). */
function interfaceWithFirstAddress(ip: string, family: Family, input: RulesInput): string | undefined {
  const names = new Set(input.interfaces.map(({ name }) => name));
  for (const name of names) {
    const first = input.interfaces.find(
      (entry) => entry.name === name && familyOf(entry.ip) === family && !/^fe[89ab]/i.test(entry.ip),
    );
    if (first?.ip === ip && !isLoopback(ip)) return name;
  }
  return undefined;
}

function unreceivable(family: Family, networks: readonly RulesNetwork[], input: RulesInput): string {
  const names = networks.map(({ address, prefix }) => `${address}/${prefix}`).join(", ");
  const listeners = input.listen
    .map(({ ip, port }) => (ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`))
    .join(", ");
  const wildcard = family === "ipv4" ? "0.0.0.0 or ::" : "::";
  const wanted =
    input.mode === "tproxy"
      ? `listen on an ${familyName(family)} address too`
      : `listen on ${wildcard}, or on the address of the interface that they come in by`;
  return `no listener (${listeners}) can receive the ${familyName(family)} connections of clients ${names}: ${wanted}`;
}

/** A client "network" that is one of this host's own addresses is what OUTPUT captures. */
function isThisHost(network: RulesNetwork, input: RulesInput): boolean {
  if (isLoopback(network.address)) return true;
  const whole = network.family === 4 ? 32 : 128;
  return network.prefix === whole && input.interfaces.some(({ ip }) => ip === network.address);
}

function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

/** Leaves out each network that lies inside another: nftables refuses sets that overlap. */
function outermost(networks: readonly RulesNetwork[]): RulesNetwork[] {
  const unique = networks.filter(
    (network, index) => networks.findIndex((other) => sameNetwork(other, network)) === index,
  );
  return unique.filter(
    (network) =>
      !unique.some(
        (other) =>
          other.family === network.family &&
          other.prefix < network.prefix &&
          blockListOf([other]).check(network.address, network.family === 4 ? "ipv4" : "ipv6"),
      ),
  );
}

function sameNetwork(a: RulesNetwork, b: RulesNetwork): boolean {
  return a.address === b.address && a.prefix === b.prefix;
}

function blockListOf(networks: readonly RulesNetwork[]): BlockList {
  const list = new BlockList();
  for (const { address, prefix, family } of networks) {
    list.addSubnet(address, prefix, family === 4 ? "ipv4" : "ipv6");
  }
  return list;
}

/** The lowest bit from 0x100 up that warp's own mark leaves free. */
function divertBitBeside(mark: number): number {
  for (let bit = 0x100; bit < 0x80000000; bit *= 2) {
    if ((mark & bit) === 0) return bit;
  }
  throw new RulesError([`capture.mark ${markText(mark)} leaves no bit for TPROXY's own mark`]);
}
