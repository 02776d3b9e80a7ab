/**
 * The choice of the source IP: rule → pool → usable IPs → rendezvous hash. The contract with the session
 * is contract.ts. Decisions are synchronous unless the store or a hook has to be asked; nothing here rejects or throws.
 */

import type { IpLedger } from "../deliverability/ledger.ts";
import { PairKeys } from "../deliverability/pair.ts";
import { providerOf } from "../deliverability/provider.ts";
import {
  DEFAULT_THROTTLE,
  IP_STATE_NUMBERS,
  type IpStateChange,
  ThrottleBook,
  type ThrottleSettings,
} from "../deliverability/throttle.ts";
import type { AddressFacts, Endpoint, Notice } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import { Identities, type IdentitySettings } from "../reputation/identity.ts";
import { DEFAULT_SPAM_SCORE } from "../reputation/outcomes.ts";
import type { ReputationStore, Standing } from "../reputation/store.ts";
import { BoundedMap } from "./bounded-map.ts";
import type {
  Candidate,
  ConnectFacts,
  Decision,
  DecisionBasis,
  RouteAnswer,
  RouteNeeds,
  Router,
  SelectRoute,
  TransactionFacts,
} from "./contract.ts";
import type { ExplainedRule, ExplainFacts, Explanation } from "./explanation.ts";
import { OutcomeSink } from "./outcomes.ts";
import { type CompiledRule, compileRule, type Rule, type RuleAction, type RuleFacts } from "./rules.ts";
import { type Pool, type PoolIp, SourceIps, type Use } from "./source-ips.ts";

export interface RouterSettings {
  readonly pools: Readonly<Record<string, Pool>>;
  readonly rules: readonly Rule[];
  /** `--outbound-ip`: used where no rule decides. */
  readonly outboundIp?: { readonly ipv4?: string | undefined; readonly ipv6?: string | undefined };
  readonly identity: IdentitySettings;
  /** Workers that share the connection caps. */
  readonly workers?: number;
  readonly spamScore?: number;
}
export interface RouterParts {
  readonly store: ReputationStore;
  readonly ledger: IpLedger;
  readonly telemetry: Telemetry;
  /** ms since 1970. */
  readonly now: () => number;
  readonly isOwnAddress: (ip: string) => boolean;
  /** Takes notices about changed states of IPs. */
  readonly notify: (notice: Notice) => void;
  readonly selectRoute?: SelectRoute | undefined;
  readonly throttle?: ThrottleSettings;
}

/** Name of the rule where no rule of the operator decided. */
export const DEFAULT_RULE = "default";

const PREDICTIONS = 20_000;
const PROVIDERS = 50_000;

/** The legs to one destination. */
interface OpenLegs {
  /** The name that they count under. */
  provider: string;
  /** Of each source IP. */
  readonly counts: Map<string, number>;
}

/** What is looked up before a decision. */
interface Sender {
  readonly identity: string;
  readonly standing: Standing | undefined;
}

export class EgressRouter implements Router {
  readonly outcomes: OutcomeSink;
  readonly throttle: ThrottleBook;
  readonly ips: SourceIps;
  readonly #parts: RouterParts;
  readonly #predictions = new BoundedMap<string, Decision>(PREDICTIONS);
  /** A client and a destination. */
  readonly #ways = new PairKeys();
  readonly #providers = new BoundedMap<string, string>(PROVIDERS);
  /** Legs that are open, by destination. */
  readonly #legs = new Map<string, OpenLegs>();
  #settings!: RouterSettings;
  #identities!: Identities;
  #rules: readonly CompiledRule[] = [];
  #asksTier = false;
  #asksSender = false;
  #asksRecipient = false;

  constructor(settings: RouterSettings, parts: RouterParts) {
    this.#parts = parts;
    this.throttle = new ThrottleBook(parts.throttle ?? DEFAULT_THROTTLE, (change) => this.#changed(change));
    this.ips = new SourceIps(this.throttle, parts.ledger);
    parts.ledger.listen((ip, provider, shared) => this.throttle.merge(ip, provider, shared, parts.now()));
    this.outcomes = new OutcomeSink({
      store: parts.store,
      ledger: parts.ledger,
      throttle: this.throttle,
      now: parts.now,
      identityOf: (facts) => this.#identities.of(facts),
      spamScore: () => this.#settings.spamScore ?? DEFAULT_SPAM_SCORE,
      providerOf: (ip, greeting) => this.provider(ip, greeting),
    });
    this.configure(settings);
  }

  /** New pools and rules; what is known of IPs and connections stays. */
  configure(settings: RouterSettings): void {
    this.#settings = settings;
    this.#identities = new Identities(settings.identity);
    this.#rules = settings.rules.map((rule) => compileRule(rule, this.#parts.isOwnAddress));
    this.#asksTier = this.#rules.some(({ needsTier }) => needsTier);
    // A refusal is an answer to MAIL, so it is decided there even where it looks at the connection only.
    this.#asksSender = this.#rules.some((rule) => rule.needsSender || refuses(rule));
    this.#asksRecipient = this.#rules.some(({ needsRecipient }) => needsRecipient);
  }

  get needs(): RouteNeeds {
    return {
      sender: this.#asksSender || this.#parts.selectRoute?.available === true,
      recipient: this.#asksRecipient,
    };
  }

  atConnect(facts: ConnectFacts): Decision {
    const { sender, recipient } = this.needs;
    const isFinal = !sender && !recipient;
    if (!isFinal) {
      const predicted = this.#predicted(facts);
      if (predicted !== undefined) return predicted;
    }
    const ruleFacts = this.#connectRuleFacts(facts);
    const use = this.#use(facts.destination.ip, ruleFacts.provider, []);
    const rule = this.#rules.find((candidate) => !refuses(candidate) && candidate.matches(ruleFacts));
    const key = `${facts.client.ip}|${ruleFacts.provider}`;
    const unknown: Sender = { identity: "", standing: undefined };
    let decision = this.#decide(rule, use, key, unknown, !isFinal);
    if (!isFinal && decision.kind === "none") {
      // Nothing of that pool can be used, but the sender's rule may name another: any leg will do until MAIL.
      const others = this.#rules.filter(({ action }) => action.kind === "pool");
      const possible = others.map((other) => this.#decide(other, use, key, unknown, true));
      decision = possible.find(({ kind }) => kind === "ip") ?? decision;
    }
    if (isFinal) this.#parts.telemetry.routeChoice(decision.rule, decision.pool, decision.tier);
    return decision;
  }

  forTransaction(facts: TransactionFacts): Decision | Promise<Decision> {
    const identity = this.#identities.of({
      mailFrom: facts.mailFrom.address,
      clientIp: facts.client.ip,
      authUser: facts.authUser,
    });
    const asks = this.#asksTier || this.#parts.selectRoute?.available === true;
    const standing = asks ? this.#parts.store.standing(identity) : undefined;
    if (standing instanceof Promise) {
      return standing.then((found) => this.#transaction(facts, { identity, standing: found }));
    }
    return this.#transaction(facts, { identity, standing });
  }

  unusable(ip: string, cause: "not_local" | "no_port"): void {
    if (cause !== "not_local") return;
    const now = this.#parts.now();
    if (this.ips.isLocal(ip, now)) {
      const fields = { source_ip: ip };
      this.#parts.telemetry.log(
        "warn",
        "source_ip_not_local",
        `${ip} is not an address of this host`,
        fields,
      );
    }
    this.ips.notLocal(ip, now);
  }

  legOpened(ip: string | undefined, destinationIp: string): void {
    if (ip === undefined) return;
    const open = this.#legs.get(destinationIp) ?? {
      provider: this.provider(destinationIp),
      counts: new Map<string, number>(),
    };
    open.counts.set(ip, (open.counts.get(ip) ?? 0) + 1);
    this.#legs.set(destinationIp, open);
    this.ips.opened(ip, open.provider);
  }

  legClosed(ip: string | undefined, destinationIp: string): void {
    const open = this.#legs.get(destinationIp);
    if (ip === undefined || open === undefined) return;
    this.ips.closed(ip, open.provider);
    const left = (open.counts.get(ip) ?? 0) - 1;
    if (left > 0) open.counts.set(ip, left);
    else open.counts.delete(ip);
    if (open.counts.size === 0) this.#legs.delete(destinationIp);
  }

  /** A destination's provider has another name now: its open legs count under that one. */
  #renamed(destinationIp: string, provider: string): void {
    const open = this.#legs.get(destinationIp);
    if (open === undefined) return;
    for (const [ip, legs] of open.counts) {
      this.ips.closed(ip, open.provider, legs);
      this.ips.opened(ip, provider, legs);
    }
    open.provider = provider;
  }

  used(client: Endpoint, destination: Endpoint, decision: Decision): void {
    if (decision.kind === "ip" || decision.kind === "client") {
      this.#predictions.set(this.#ways.of(client.ip, destination.ip), decision);
    }
  }

  failed(client: Endpoint, destination: Endpoint): void {
    this.#predictions.delete(this.#ways.of(client.ip, destination.ip));
  }

  legRefused(ip: string, destinationIp: string, reply: { code: number; text: Buffer }): void {
    this.outcomes.refused(ip, this.provider(destinationIp), reply);
  }

  provider(destinationIp: string, greeting?: Buffer, certificateNames?: readonly string[]): string {
    const known = this.#providers.get(destinationIp);
    if (greeting === undefined && (known !== undefined || certificateNames === undefined)) {
      return known ?? providerOf(destinationIp);
    }
    // The greeting's name first; once a name is known, a connection without one (a bare "421") doesn't take it away.
    const name = providerOf(destinationIp, greeting, greeting === undefined ? certificateNames : undefined);
    if (known !== undefined && isNetwork(name)) return known;
    if (isNetwork(name) && certificateNames === undefined) return name;
    if (name !== known) {
      this.#providers.set(destinationIp, name);
      this.#renamed(destinationIp, name);
    }
    return name;
  }

  /** What the rules look at when nothing but the connection is known. */
  #connectRuleFacts({ client, destination }: ConnectFacts): RuleFacts {
    return {
      clientIp: client.ip,
      destinationIp: destination.ip,
      provider: this.provider(destination.ip),
      mailFrom: undefined,
      recipient: undefined,
      authUser: undefined,
      tier: undefined,
    };
  }

  /** What this client used last for this destination, where it still can be used. */
  #predicted({ client, destination }: ConnectFacts): Decision | undefined {
    const last = this.#predictions.get(this.#ways.of(client.ip, destination.ip));
    if (last === undefined) return undefined;
    if (last.kind !== "ip") return { ...last, predicted: true };
    const first = last.candidates[0];
    const listed = this.#settings.pools[last.pool]?.ips.find(({ ip }) => ip === first?.ip);
    if (last.pool !== "" && listed === undefined) return undefined;
    if (first?.ip !== undefined) {
      const pool = this.#settings.pools[last.pool] ?? { ips: [] };
      const use = this.#use(destination.ip, this.provider(destination.ip), []);
      const cause = this.ips.cause(listed ?? { ip: first.ip }, pool, use);
      if (cause !== undefined) return undefined;
    }
    return { ...last, predicted: true };
  }

  #transaction(facts: TransactionFacts, sender: Sender): Decision | Promise<Decision> {
    const provider = this.provider(facts.destination.ip);
    const use = this.#use(facts.destination.ip, provider, facts.ownLegs);
    const ruleFacts = ruleFactsOf(facts, provider, sender);
    const rule = this.#rules.find((candidate) => candidate.matches(ruleFacts));
    const ruled = () => this.#decide(rule, use, sender.identity, sender, false);
    const { selectRoute } = this.#parts;
    if (!(rule !== undefined && refuses(rule)) && selectRoute?.available === true) {
      return this.#ask(selectRoute, facts, sender).then((answer) =>
        this.#chosen(this.#answered(answer, use, sender) ?? ruled()),
      );
    }
    return this.#chosen(ruled());
  }

  #chosen(decision: Decision): Decision {
    this.#parts.telemetry.routeChoice(decision.rule, decision.pool, decision.tier);
    return decision;
  }

  async #ask(hook: SelectRoute, facts: TransactionFacts, sender: Sender): Promise<RouteAnswer | undefined> {
    return hook.ask({
      transactionId: facts.transactionId,
      session: facts.session(),
      mailFrom: facts.mailFrom,
      recipient: facts.recipient,
      sender: sender.identity,
      score: sender.standing?.score ?? 0,
      tier: sender.standing?.tier ?? "",
      pools: Object.keys(this.#settings.pools),
    });
  }

  /** The hook's wish as a decision; undefined where it names what isn't there or can't be used. */
  #answered(answer: RouteAnswer | undefined, use: Use, sender: Sender): Decision | undefined {
    if (answer === undefined) return undefined;
    const basis = this.#basis(`hook:${answer.hook}`, "", sender, false);
    if (answer.kind === "refuse") {
      return { ...basis, kind: "reply", reply: { ...answer.reply, origin: "hook", hook: answer.hook } };
    }
    if (answer.kind === "pool") {
      const pool = this.#settings.pools[answer.pool];
      if (pool === undefined) return this.#ignored(answer.hook, `no pool is called ${answer.pool}`);
      const decision = this.#fromPool(pool, use, sender.identity, {
        ...basis,
        pool: answer.pool,
      });
      return decision.kind === "none"
        ? this.#ignored(answer.hook, `no IP of pool ${answer.pool} can be used now`)
        : decision;
    }
    return this.#answeredIp(answer.hook, answer.sourceIp, use, basis);
  }

  #answeredIp(hook: string, sourceIp: string, use: Use, basis: DecisionBasis): Decision | undefined {
    for (const [name, pool] of Object.entries(this.#settings.pools)) {
      const listed = pool.ips.find(({ ip }) => ip === sourceIp);
      if (listed === undefined) continue;
      const cause = this.ips.cause(listed, pool, use);
      if (cause !== undefined) return this.#ignored(hook, `${sourceIp} can't be used now (${cause})`);
      return { ...basis, pool: name, kind: "ip", candidates: [candidateOf(listed)] };
    }
    return this.#ignored(hook, `${sourceIp} is in no pool`);
  }

  #ignored(hook: string, why: string): undefined {
    this.#parts.telemetry.log("warn", "select_route_ignored", `SelectRoute of ${hook} is ignored: ${why}`, {
      hook,
    });
    return undefined;
  }

  #decide(
    rule: CompiledRule | undefined,
    use: Use,
    key: string,
    sender: Sender,
    predicted: boolean,
  ): Decision {
    const basis = this.#basis(rule?.name ?? DEFAULT_RULE, "", sender, predicted);
    const action: RuleAction | undefined = rule?.action;
    if (action === undefined) return this.#default(use, basis);
    switch (action.kind) {
      case "source":
        return action.source === "client"
          ? { ...basis, kind: "client" }
          : { ...basis, kind: "ip", candidates: [SYSTEM_CHOICE] };
      case "reject":
      case "defer":
        return { ...basis, kind: "reply", reply: { ...action.reply, origin: "warp", hook: "" } };
      case "pool": {
        const pool = this.#settings.pools[action.pool] ?? { ips: [] };
        return this.#fromPool(pool, use, key, { ...basis, pool: action.pool });
      }
    }
  }

  /** Where no rule decides: `--outbound-ip`, else the client's own address. */
  #default(use: Use, basis: DecisionBasis): Decision {
    const { ipv4, ipv6 } = this.#settings.outboundIp ?? {};
    if (ipv4 === undefined && ipv6 === undefined) return { ...basis, kind: "client" };
    const ip = use.ipv6 ? ipv6 : ipv4;
    if (ip === undefined) return { ...basis, kind: "ip", candidates: [SYSTEM_CHOICE] };
    if (!this.ips.isLocal(ip, use.now)) {
      return { ...basis, kind: "none", causes: [{ ip, cause: "not_local" }] };
    }
    return { ...basis, kind: "ip", candidates: [{ ip, ehlo: undefined }] };
  }

  #fromPool(pool: Pool, use: Use, key: string, basis: DecisionBasis): Decision {
    const choice = this.ips.choose(pool, key, use);
    for (const { ip, cause } of choice.unusable) {
      if (cause !== "family") this.#parts.telemetry.sourceIpUnusable(ip, cause);
    }
    if (choice.usable.length === 0) return { ...basis, kind: "none", causes: choice.unusable };
    return { ...basis, kind: "ip", candidates: choice.usable.map(candidateOf) };
  }

  #basis(rule: string, pool: string, { identity, standing }: Sender, predicted: boolean): DecisionBasis {
    return {
      rule,
      pool,
      tier: standing?.tier ?? "",
      sender: identity,
      score: standing?.score,
      predicted,
    };
  }

  #use(destinationIp: string, provider: string, ownLegs: readonly string[]): Use {
    const share = 1 / (this.#settings.workers ?? 1);
    return { ipv6: destinationIp.includes(":"), provider, share, now: this.#parts.now(), ownLegs };
  }

  #changed(change: IpStateChange): void {
    const { ip, provider, from, state, until, why, at } = change;
    const { telemetry, ledger, notify } = this.#parts;
    telemetry.ipState(ip, provider, IP_STATE_NUMBERS[state], until);
    ledger.shareState(change);
    const ends = until === 0 ? "" : new Date(until).toISOString();
    const text = `${ip} towards ${provider}: ${from} → ${state}${ends === "" ? "" : ` until ${ends}`} (${why})`;
    const fields = { source_ip: ip, provider, from, state, until: ends, why };
    notify({ kind: "notice", at, connectionId: "", code: "ip_state", text, fields });
  }

  /** For `warp egress explain`: every rule with its conditions, and every IP of the pool with what hinders it. */
  explain(facts: ExplainFacts): Explanation {
    const provider = this.provider(facts.destinationIp);
    const rules: ExplainedRule[] = [];
    let deciding: CompiledRule | undefined;
    for (const rule of this.#rules) {
      const conditions = rule.explain({ ...facts, provider });
      const matches = conditions.every(({ holds }) => holds);
      rules.push({ name: rule.name, matches, conditions });
      if (matches) {
        deciding = rule;
        break;
      }
    }
    const sender = { identity: facts.identity, standing: facts.standing };
    const use = this.#use(facts.destinationIp, provider, []);
    const decision = this.#decide(deciding, use, facts.identity, sender, false);
    const pool = this.#settings.pools[decision.pool];
    const ips = (pool?.ips ?? []).map((listed) => ({
      ip: listed.ip,
      ehlo: listed.ehlo,
      weight: listed.weight ?? 1,
      cause: this.ips.cause(listed, pool!, use),
      ...this.throttle.view(listed.ip, provider, use.now),
    }));
    return { provider, rules, decision, ips };
  }
}

function refuses({ action }: Rule): boolean {
  return action.kind === "reject" || action.kind === "defer";
}

function isNetwork(provider: string): boolean {
  return provider.includes("/");
}

const SYSTEM_CHOICE: Candidate = { ip: undefined, ehlo: undefined };

function candidateOf({ ip, ehlo }: PoolIp): Candidate {
  return { ip, ehlo };
}

function ruleFactsOf(facts: TransactionFacts, provider: string, sender: Sender): RuleFacts {
  const address = (of: AddressFacts | undefined) => of?.address;
  return {
    clientIp: facts.client.ip,
    destinationIp: facts.destination.ip,
    provider,
    mailFrom: facts.mailFrom.address,
    recipient: address(facts.recipient),
    authUser: facts.authUser === "" ? undefined : facts.authUser,
    tier: sender.standing?.tier,
  };
}
