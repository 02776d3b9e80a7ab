/**
 * Another leg for the one at hand: in plaintext after TLS failed (policy `may`), anew after one was reset, or from another
 * source IP. What was said on the old one is said again: greeting, EHLO, TLS, EHLO. The new leg has to cover the old: what
 * the client was told must stay true.
 */
import type { Decision } from "../egress/contract.ts";
import { legFits } from "../egress/fit.ts";
import { judgeTls, type TlsRequirement } from "../egress/tls-policy.ts";
import type { LegReason } from "../events/telemetry.ts";
import { offeredSize } from "../smtp/capabilities.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { Timer } from "./clock.ts";
import { type Leg, LegLost } from "./leg.ts";
import { DialFailed } from "./leg-dialer.ts";
import { type Hello, type Introduction, plaintextFacts } from "./leg-maker.ts";
import type { Session } from "./session.ts";

/** The destination refused what was said again; or no leg covers. One of the two is the answer to the command at hand. */
export class ReplayRefused extends Error {
  override readonly name = "ReplayRefused";
  readonly reply: Reply | undefined;
  readonly own: OwnReply | undefined;
  /** Where the leg that was refused left from; empty where there was none. */
  readonly sourceIp: string;
  constructor(answer: { reply: Reply } | { own: OwnReply }, sourceIp = "") {
    super("the destination refused on a new connection");
    this.sourceIp = sourceIp;
    this.reply = "reply" in answer ? answer.reply : undefined;
    this.own = "own" in answer ? answer.own : undefined;
  }
}

/** How long the leg before is kept idle, for a sender that leaves from there (ms). */
const PARKED_MS = 30_000;
const QUIT_MS = 5000;
/** Capabilities that a new leg need not have: warp pipelines by itself, and AUTH pins. STARTTLS is warp's own. */
const NOT_COVERED: ReadonlySet<string> = new Set(["PIPELINING", "AUTH", "STARTTLS", "SIZE"]);

export class LegReplacement {
  private readonly session: Session;
  private parked: { readonly leg: Leg; readonly timer: Timer } | undefined;

  constructor(session: Session) {
    this.session = session;
  }

  /** Source IPs of the legs at hand: the one in use and the parked one. */
  get ownIps(): readonly string[] {
    const ips: string[] = [];
    for (const leg of [this.session.leg, this.parked?.leg]) {
      if (leg !== undefined && leg.lost === undefined) ips.push(leg.sourceIp);
    }
    return ips;
  }

  private get requirement(): TlsRequirement {
    return this.session.env.tls.rules.forDestination(this.session.destination.ip);
  }

  /** The client's own EHLO or HELO on the leg at hand. Rejects with LegLost, DialFailed, ReplayRefused. */
  async introduceFirst(hello: Hello): Promise<Introduction> {
    const { session, requirement } = this;
    const leg = session.leg as Leg;
    session.settingUp = leg;
    try {
      return await session.maker.introduce(leg, hello, requirement, true);
    } catch (error) {
      const opportunistic =
        requirement.policy === "may" && leg.tlsBegun && !session.pinned && session.isServing;
      if (!(error instanceof LegLost) || !opportunistic) throw error;
      session.env.telemetry.log("info", "tls_fallback", error.message, session.logFields());
      return await this.fallBack(hello, error);
    } finally {
      session.settingUp = undefined;
    }
  }

  /** Any encryption beats plaintext, but plaintext beats no mail (RFC 7435): on a connection of its own. */
  private async fallBack(hello: Hello, loss: LegLost): Promise<Introduction> {
    const { session } = this;
    session.dropLeg();
    const leg = await this.dial(session.decision as Decision, "tls_fallback");
    leg.plaintextOnly = true;
    leg.tls = plaintextFacts("may", loss.message);
    await this.greet(leg);
    session.useLeg(leg);
    return await session.maker.introduce(leg, hello, this.requirement, false);
  }

  /** A leg where the one before was reset. */
  async renew(): Promise<void> {
    const { session } = this;
    session.useLeg(await this.bringUpCovering(session.decision as Decision, "abort", 0));
  }

  /** The leg that the decision asks for: a parked one, or a new one; the old one is parked. `size`: octets declared. */
  async route(decision: Decision, size: number): Promise<void> {
    const { session } = this;
    if (decision.kind === "none") throw new ReplayRefused({ own: OWN.noUsableLeg });
    const old = session.leg;
    const leg = this.unpark(decision, size) ?? (await this.bringUpCovering(decision, "route", size));
    if (old !== undefined && old.lost === undefined) this.park(old);
    session.useLeg(leg);
    session.recorder.note("leg_replaced", `route: leg ${leg.number} from ${leg.sourceIp}`, {
      leg: leg.number,
    });
  }

  /** The next IP of the pool where the first doesn't cover; once. */
  private async bringUpCovering(decision: Decision, reason: LegReason, size: number): Promise<Leg> {
    const { session } = this;
    try {
      const leg = await this.bringUp(decision, reason, size);
      if (leg !== undefined) return leg;
      const next = decision.kind === "ip" ? decision.candidates.slice(1) : [];
      if (decision.kind === "ip" && next.length > 0) {
        const second = await this.bringUp({ ...decision, candidates: next }, reason, size);
        if (second !== undefined) return second;
      }
      throw new ReplayRefused({ own: OWN.noUsableLeg });
    } finally {
      session.settingUp = undefined;
    }
  }

  /** Undefined: it doesn't cover. */
  private async bringUp(decision: Decision, reason: LegReason, size: number): Promise<Leg | undefined> {
    const { session, requirement } = this;
    const wasEncrypted = session.upstreamEncrypted;
    const leg = await this.dial(decision, reason);
    leg.plaintextOnly = session.hello !== undefined && !wasEncrypted && requirement.policy === "may";
    await this.greet(leg);
    if (session.hello !== undefined) {
      const { reply } = await session.maker.introduce(leg, session.hello, requirement, false);
      if (reply.code >= 300) throw this.refused(leg, reply);
      if (!this.covers(leg, wasEncrypted, size)) {
        leg.quit(QUIT_MS);
        return undefined;
      }
    }
    return leg;
  }

  private covers(leg: Leg, wasEncrypted: boolean, size: number): boolean {
    const { session, requirement } = this;
    if (wasEncrypted && !leg.encrypted) return false;
    if (!judgeTls(requirement, leg.tlsFacts, session.env.tls.rules.privateAuthorities).met) return false;
    const shown = session.shown?.keywords ?? new Map<string, string>();
    for (const keyword of shown.keys()) {
      if (!NOT_COVERED.has(keyword) && !leg.capabilities.has(keyword)) return false;
    }
    const offered = offeredSize(leg.capabilities);
    return offered === undefined || offered === 0 || offered >= size;
  }

  private async dial(decision: Decision, reason: LegReason): Promise<Leg> {
    const { session } = this;
    const leg = await session.dial(decision, reason);
    session.settingUp = leg;
    if (!session.isServing) {
      leg.abort();
      throw new DialFailed("aborted", "the session ended meanwhile");
    }
    return leg;
  }

  /** The greeting of a leg that the client doesn't see: recorded, not compared. */
  private async greet(leg: Leg): Promise<void> {
    const { session } = this;
    const reply = await leg.greeting(session.env.settings.timeouts.greetingMs);
    session.recorder.line("|<", reply.wire, { leg: leg.number });
    if (leg.lost !== undefined) throw leg.lost;
    if (reply.code >= 300) throw this.refused(leg, reply);
  }

  /** A 4xx to greeting or EHLO is the answer to the command at hand; a 5xx refuses the IP, not the message. */
  private refused(leg: Leg, reply: Reply): ReplayRefused {
    const { env, destination } = this.session;
    leg.quit(QUIT_MS);
    if (reply.code >= 400 && reply.code < 500) return new ReplayRefused({ reply }, leg.sourceIp);
    const text = reply.wire.subarray(0, reply.wire.length - 2);
    env.router.legRefused(leg.sourceIp, destination.ip, { code: reply.code, text });
    return new ReplayRefused({ own: OWN.greetingRefused }, leg.sourceIp);
  }

  private park(leg: Leg): void {
    this.end();
    const timer = this.session.env.clock.after(PARKED_MS, () => this.end());
    this.parked = { leg, timer };
  }

  private unpark(decision: Decision, size: number): Leg | undefined {
    const { parked, session } = this;
    if (parked === undefined || parked.leg.lost !== undefined || !legFits(decision, parked.leg.origin))
      return undefined;
    if (!this.covers(parked.leg, session.upstreamEncrypted, size)) return undefined;
    parked.timer.cancel();
    this.parked = undefined;
    return parked.leg;
  }

  /** The parked leg is not needed any more. */
  end(): void {
    this.parked?.timer.cancel();
    this.parked?.leg.quit(QUIT_MS);
    this.parked = undefined;
  }
}
