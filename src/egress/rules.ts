/**
 * The operator's rules: the first whose conditions all hold decides. Values of a list are joined by «or», keys by «and».
 * Names are globs (`*`, `?`) without case; addresses are matched against networks, and `self` is this host's own.
 */
import { domainGlobs, globs, ipOctets, network } from "../filter/when.ts";
import { domainOf } from "../smtp/path.ts";

export interface NetworkList {
  readonly self?: boolean;
  readonly networks: readonly { readonly address: string; readonly prefix: number }[];
}
export interface RuleMatch {
  readonly client?: NetworkList | undefined;
  readonly destination?: readonly { readonly address: string; readonly prefix: number }[] | undefined;
  readonly sender?: readonly string[] | undefined;
  readonly senderDomain?: readonly string[] | undefined;
  readonly recipientDomain?: readonly string[] | undefined;
  readonly authUser?: readonly string[] | undefined;
  readonly tier?: readonly string[] | undefined;
  readonly provider?: readonly string[] | undefined;
}
export interface RuleReply {
  readonly code: number;
  readonly enhancedCode: string;
  readonly text: string;
}
export type RuleAction =
  | { readonly kind: "pool"; readonly pool: string }
  | { readonly kind: "source"; readonly source: "client" | "system" }
  | { readonly kind: "reject" | "defer"; readonly reply: RuleReply };
export interface Rule {
  readonly name: string;
  readonly match: RuleMatch;
  readonly action: RuleAction;
}

/** What rules look at. */
export interface RuleFacts {
  readonly clientIp: string;
  readonly destinationIp: string;
  readonly provider: string;
  /** Undefined: not known yet; rules that look at it don't match. Empty: the null sender. */
  readonly mailFrom: string | undefined;
  readonly recipient: string | undefined;
  readonly authUser: string | undefined;
  readonly tier: string | undefined;
}

export interface CompiledRule extends Rule {
  readonly needsSender: boolean;
  readonly needsRecipient: boolean;
  readonly needsTier: boolean;
  /** Each condition with its outcome, in the order they are asked; for explanations. */
  explain(facts: RuleFacts): readonly { readonly key: string; readonly holds: boolean }[];
  matches(facts: RuleFacts): boolean;
}

type Condition = readonly [key: string, test: (facts: RuleFacts) => boolean];

/** `isOwnAddress` says whether an address is this host's (it may change while the program runs). */
export function compileRule(rule: Rule, isOwnAddress: (ip: string) => boolean): CompiledRule {
  const { match } = rule;
  const conditions: Condition[] = [];
  const named = (
    key: string,
    patterns: readonly string[] | undefined,
    of: (f: RuleFacts) => string | undefined,
    testOf = globs,
  ) => {
    if (patterns === undefined) return;
    const test = testOf(patterns);
    conditions.push([
      key,
      (facts) => {
        const value = of(facts);
        return value !== undefined && test(value);
      },
    ]);
  };
  if (match.client !== undefined) {
    const { networks, self = false } = match.client;
    const within = inNetworks(networks);
    conditions.push(["client", ({ clientIp }) => within(clientIp) || (self && isOwnAddress(clientIp))]);
  }
  if (match.destination !== undefined) {
    const within = inNetworks(match.destination);
    conditions.push(["destination", ({ destinationIp }) => within(destinationIp)]);
  }
  named("provider", match.provider, ({ provider }) => provider);
  named("sender", match.sender, ({ mailFrom }) => (mailFrom === "" ? "<>" : mailFrom));
  named("sender_domain", match.senderDomain, ({ mailFrom }) => mailFrom && domainOf(mailFrom), domainGlobs);
  named("auth_user", match.authUser, ({ authUser }) => authUser || undefined);
  named(
    "recipient_domain",
    match.recipientDomain,
    ({ recipient }) => recipient && domainOf(recipient),
    domainGlobs,
  );
  if (match.tier !== undefined) {
    const tiers = new Set(match.tier);
    conditions.push(["tier", ({ tier }) => tier !== undefined && tiers.has(tier)]);
  }
  const tests = conditions.map(([, test]) => test);
  const needs = (...keys: string[]) => conditions.some(([key]) => keys.includes(key));
  return {
    ...rule,
    needsSender: needs("sender", "sender_domain", "auth_user", "tier", "provider"),
    needsRecipient: needs("recipient_domain"),
    needsTier: needs("tier"),
    explain: (facts) => conditions.map(([key, test]) => ({ key, holds: test(facts) })),
    matches: (facts) => tests.every((test) => test(facts)),
  };
}

function inNetworks(list: readonly { readonly address: string; readonly prefix: number }[]) {
  const tests = list.map(({ address, prefix }) => network(address, prefix));
  return (ip: string) => {
    const octets = ipOctets(ip);
    return octets !== undefined && tests.some((test) => test(octets));
  };
}
