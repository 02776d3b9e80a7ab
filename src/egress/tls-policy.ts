/**
 * TLS towards the destination: which policy a rule asks for, and whether a leg meets it. A policy is a predicate over the
 * leg's facts (encrypted, chain good, names in the certificate), judged after EHLO for rules about the destination, and at
 * each RCPT for rules about the recipient's domain. The names in greeting, EHLO or PTR are the peer's own choice and are
 * never looked at. RFC 3207, RFC 7435 (opportunistic), RFC 6125 (names).
 */

export type TlsPolicy = "none" | "may" | "encrypt" | "verify";

export interface TlsRequirement {
  readonly policy: TlsPolicy;
  /** verify: the certificate carries one of these DNS names or IP addresses. */
  readonly names: readonly string[];
  /** SHA-256 fingerprints of the authorities that the rule trusts; undefined: the default ones. */
  readonly authorities: ReadonlySet<string> | undefined;
}

/** What is known of a leg once EHLO was answered. */
export interface LegTlsFacts {
  readonly encrypted: boolean;
  /** The chain leads to an authority that warp knows, the default ones or any rule's. */
  readonly chainGood: boolean;
  readonly chainError: string;
  /** SHA-256 fingerprints of the chain, leaf to root. */
  readonly chain: readonly string[];
  /** True where the certificate carries that name (a DNS name or an IP address). */
  carries(name: string): boolean;
}

export type TlsShortfall = "not_encrypted" | "not_verified";

export interface TlsVerdict {
  readonly met: boolean;
  readonly shortfall: TlsShortfall | undefined;
  /** For the log and the events: why it isn't verified, or not encrypted. */
  readonly reason: string;
  /** Chain and name were checked, and good. */
  readonly verified: boolean;
}

/** Judges one requirement. `privateAuthorities`: fingerprints trusted only where a rule names them. */
export function judgeTls(
  required: TlsRequirement,
  facts: LegTlsFacts,
  privateAuthorities: ReadonlySet<string>,
): TlsVerdict {
  const reason = unverifiedReason(required, facts, privateAuthorities);
  const verified = reason === "";
  if (required.policy === "verify" && !verified) {
    return { met: false, shortfall: facts.encrypted ? "not_verified" : "not_encrypted", reason, verified };
  }
  if (required.policy === "encrypt" && !facts.encrypted) {
    return { met: false, shortfall: "not_encrypted", reason, verified };
  }
  return { met: true, shortfall: undefined, reason, verified };
}

function unverifiedReason(
  required: TlsRequirement,
  facts: LegTlsFacts,
  privateAuthorities: ReadonlySet<string>,
): string {
  if (!facts.encrypted) return "not encrypted";
  if (!facts.chainGood) return facts.chainError || "chain not trusted";
  if (!anchorTrusted(required, facts, privateAuthorities))
    return "chain does not lead to an authority of this rule";
  if (required.names.length === 0) return "no name to check";
  if (!required.names.some((name) => facts.carries(name))) {
    return `certificate carries none of ${required.names.join(", ")}`;
  }
  return "";
}

function anchorTrusted(
  required: TlsRequirement,
  facts: LegTlsFacts,
  privateAuthorities: ReadonlySet<string>,
): boolean {
  if (required.authorities !== undefined) {
    return facts.chain.some((fingerprint) => required.authorities?.has(fingerprint));
  }
  return !facts.chain.some((fingerprint) => privateAuthorities.has(fingerprint));
}

export interface TlsRule extends TlsRequirement {
  /** True: the rule is about this destination IP. Undefined: it has no such key. */
  readonly matchesDestination: ((ip: string) => boolean) | undefined;
  readonly matchesRecipientDomain: ((domain: string) => boolean) | undefined;
}

/** The rules of the configuration, first match first. */
export class TlsRules {
  readonly privateAuthorities: ReadonlySet<string>;
  private readonly rules: readonly TlsRule[];
  private readonly byRecipient: boolean;

  constructor(rules: readonly TlsRule[], privateAuthorities: ReadonlySet<string> = new Set()) {
    this.rules = rules;
    this.privateAuthorities = privateAuthorities;
    this.byRecipient = rules.some((rule) => rule.matchesRecipientDomain !== undefined);
  }

  /** What is asked of the leg before any recipient is known: the first rule that matches by destination alone. */
  forDestination(ip: string): TlsRequirement {
    return this.rules.find((rule) => rule.matchesRecipientDomain === undefined && fits(rule, ip)) ?? MAY;
  }

  /** What is asked for this recipient; undefined: no more than of the destination. */
  forRecipient(ip: string, domain: string): TlsRequirement | undefined {
    if (!this.byRecipient) return undefined;
    const rule = this.rules.find(
      (candidate) => fits(candidate, ip) && (candidate.matchesRecipientDomain?.(domain) ?? true),
    );
    return rule?.matchesRecipientDomain === undefined ? undefined : rule;
  }
}

function fits(rule: TlsRule, ip: string): boolean {
  return rule.matchesDestination === undefined || rule.matchesDestination(ip);
}

const MAY: TlsRequirement = { policy: "may", names: [], authorities: undefined };
