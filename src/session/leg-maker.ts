/**
 * Brings legs about: dials from the decided source IP, and introduces warp (EHLO, STARTTLS, EHLO again, RFC 3207) as the
 * policy of the destination asks. What a leg's trouble means for the client is the session's to say.
 */

import { checkServerIdentity } from "node:tls";
import type { Decision } from "../egress/contract.ts";
import { judgeTls, type TlsRequirement } from "../egress/tls-policy.ts";
import { endpointText } from "../events/endpoint.ts";
import type { Direction, Endpoint, TlsFacts } from "../events/events.ts";
import type { LegReason } from "../events/telemetry.ts";
import type { GivingUp } from "../net/dial.ts";
import type { PeerFacts } from "../net/transport.ts";
import { NO_CAPABILITIES, parseCapabilities } from "../smtp/capabilities.ts";
import type { Reply } from "../smtp/reply.ts";
import { type ExpectationKind, Leg, LegLost, type LegOwner, PLAINTEXT } from "./leg.ts";
import { type Dialled, LegDialer } from "./leg-dialer.ts";
import type { Recorder } from "./recorder.ts";
import type { SessionEnvironment } from "./settings.ts";

/** How the client introduced itself. */
export interface Hello {
  /** EHLO; else HELO. */
  readonly esmtp: boolean;
  /** What it said after the verb, as it came. */
  readonly name: Buffer;
  /** The line as it came, without CRLF. */
  readonly line: Buffer;
}

/** How the destination took it. */
export interface Introduction {
  /** The reply that counts: the last one to EHLO or HELO. */
  readonly reply: Reply;
  /** The reply is one to EHLO. */
  readonly esmtp: boolean;
  /** Nothing but the client's own line was said, so the reply is the one to it. */
  readonly direct: boolean;
}

/** Durations of the first leg's stages, ms. */
export interface Stages {
  connectMs?: number | undefined;
  greetingMs?: number | undefined;
  ehloMs?: number | undefined;
  tlsMs?: number | undefined;
}

export interface LegMakerContext {
  readonly env: SessionEnvironment;
  readonly owner: LegOwner;
  readonly recorder: Recorder;
  readonly client: Endpoint;
  readonly destination: Endpoint;
  /** The source address for a decision "client": undefined leaves it to the system. */
  readonly clientSource: string | undefined;
  readonly stages: Stages;
}

export class LegMaker {
  /** Legs that were connected so far. */
  count = 0;
  private readonly context: LegMakerContext;
  private readonly dialer: LegDialer;

  constructor(context: LegMakerContext) {
    this.context = context;
    this.dialer = new LegDialer(context.env, context.destination, context.clientSource);
  }

  /** Connects from the first usable candidate. Rejects with DialFailed. */
  async dial(decision: Decision, reason: LegReason, givingUp: GivingUp): Promise<Leg> {
    const { destination, recorder, stages } = this.context;
    recorder.note("connecting", `connecting to ${endpointText(destination.ip, destination.port)}`);
    const dialled = await this.dialer.dial(decision, reason, givingUp);
    stages.connectMs ??= dialled.ms;
    return this.adopt(dialled);
  }

  private adopt({ transport, origin, candidate, released }: Dialled): Leg {
    const { env, owner, recorder, destination } = this.context;
    const leg: Leg = new Leg(transport, {
      number: ++this.count,
      origin,
      sourceIp: transport.local.ip,
      ehloName: candidate.ehlo,
      replyOctets: env.settings.limits.replyOctets,
      stallMs: env.settings.timeouts.dataBlockMs,
      clock: env.clock,
      owner,
      released: () => {
        env.telemetry.legClosed(leg.used);
        released();
      },
    });
    recorder.note("connected", `connected to ${endpointText(destination.ip, destination.port)}`, {
      leg: leg.number,
    });
    return leg;
  }

  /** Says a line on a leg and resolves with the reply; both recorded, the reply only where `reply` names a direction. */
  async say(
    leg: Leg,
    line: Buffer,
    timeoutMs: number,
    directions: {
      readonly line: Direction;
      readonly reply: Direction | undefined;
      readonly transactionId?: string;
    },
    kind: ExpectationKind = "plain",
  ): Promise<Reply> {
    const { recorder } = this.context;
    const { transactionId = "" } = directions;
    const about = { leg: leg.number, tls: leg.encrypted, transactionId };
    recorder.line(directions.line, line, {
      ...about,
      origin: directions.line === "->" ? "upstream" : "warp",
    });
    const reply = await leg.exchange(Buffer.concat([line, CRLF]), timeoutMs, kind);
    if (directions.reply !== undefined) recorder.line(directions.reply, reply.wire, about);
    // What came behind the reply, in the same octets, may have been the end of the leg.
    if (leg.lost !== undefined) throw leg.lost;
    return reply;
  }

  /**
   * EHLO, and TLS where it is offered and wanted. `direct`: the first line is the client's, passed on. Rejects with LegLost,
   * also where TLS fails; `leg.tls` then says why.
   */
  async introduce(
    leg: Leg,
    hello: Hello,
    requirement: TlsRequirement,
    direct: boolean,
  ): Promise<Introduction> {
    const { env, stages } = this.context;
    const { commandMs } = env.settings.timeouts;
    const name = leg.ehloName === undefined ? hello.name : Buffer.from(leg.ehloName);
    const own = { line: "|>", reply: "|<" } as const;
    const started = env.clock.now();
    this.noteTls(leg, requirement, leg.encrypted ? undefined : "not offered");
    const helo = !hello.esmtp && (requirement.policy === "none" || leg.encrypted || leg.plaintextOnly);
    const passedOn = direct && (hello.esmtp || helo) && leg.ehloName === undefined;
    if (direct && !passedOn) this.context.recorder.line(">|", hello.line, { leg: leg.number });
    const line = passedOn ? hello.line : withVerb(helo ? "HELO" : "EHLO", name);
    const first = await this.say(leg, line, commandMs, {
      line: passedOn ? "->" : "|>",
      reply: passedOn ? undefined : "|<",
    });
    if (helo) return { reply: first, esmtp: false, direct: passedOn };
    stages.ehloMs ??= env.clock.now() - started;
    const fallBack = async (refusal: Reply): Promise<Introduction> => ({
      reply: refusal.code === 421 ? refusal : await this.say(leg, withVerb("HELO", name), commandMs, own),
      esmtp: false,
      direct: false,
    });
    if (first.code >= 300) {
      return hello.esmtp ? { reply: first, esmtp: true, direct: passedOn } : fallBack(first);
    }
    leg.capabilities = parseCapabilities(first.wire);
    if (!this.wantsTls(leg, requirement)) return { reply: first, esmtp: true, direct: passedOn };
    if (passedOn) this.context.recorder.line("|<", first.wire, { leg: leg.number });
    if (!(await this.upgrade(leg, requirement))) return { reply: first, esmtp: true, direct: false };
    // RFC 3207 §4.2: what was said before TLS counts no more.
    leg.capabilities = NO_CAPABILITIES;
    const second = await this.say(leg, line, commandMs, own);
    if (second.code >= 300 && !hello.esmtp) return fallBack(second);
    if (second.code < 300) leg.capabilities = parseCapabilities(second.wire);
    return { reply: second, esmtp: true, direct: false };
  }

  private wantsTls(leg: Leg, requirement: TlsRequirement): boolean {
    if (requirement.policy === "none") {
      this.noteTls(leg, requirement, "policy none");
      return false;
    }
    return leg.capabilities.has("STARTTLS") && !leg.encrypted && !leg.plaintextOnly;
  }

  /** STARTTLS. False: refused, and the leg goes on in plaintext. Rejects with LegLost where the leg is of no use any more. */
  private async upgrade(leg: Leg, requirement: TlsRequirement): Promise<boolean> {
    const { env } = this.context;
    const { tlsMs } = env.settings.timeouts;
    leg.tlsBegun = true;
    const started = env.clock.now();
    const answer = await this.say(
      leg,
      Buffer.from("STARTTLS"),
      tlsMs,
      { line: "|>", reply: "|<" },
      "starttls",
    ).catch((error: unknown) => {
      this.handshakeFailed(leg, requirement, error instanceof LegLost ? error.message : String(error));
      throw error;
    });
    if (answer.code !== 220) {
      this.noteTls(leg, requirement, `STARTTLS answered with ${answer.code}`);
      env.telemetry.tlsHandshake("upstream", requirement.policy, "", "refused");
      if (answer.code === 421) throw this.fail(leg, "tls_failed", "421 to STARTTLS");
      return false;
    }
    const timer = env.clock.after(tlsMs, () => leg.lose("tls_timeout", "no TLS handshake in time"));
    try {
      const facts = await leg.transport.startTls(env.tls.upstream(requirement.policy, requirement.names));
      this.secured(leg, requirement, facts);
      this.context.stages.tlsMs ??= env.clock.now() - started;
      return true;
    } catch (error) {
      const late = leg.lost?.reason === "tls_timeout";
      this.handshakeFailed(leg, requirement, (error as Error).message, late ? "timeout" : "failed");
      throw (
        leg.lost ?? this.fail(leg, "tls_failed", `TLS handshake failed: ${(error as Error).message}`, error)
      );
    } finally {
      timer.cancel();
    }
  }

  private fail(leg: Leg, reason: "tls_failed", message: string, cause?: unknown): LegLost {
    leg.lose(reason, message, cause);
    return leg.lost as LegLost;
  }

  private handshakeFailed(
    leg: Leg,
    requirement: TlsRequirement,
    why: string,
    result: "failed" | "timeout" = "failed",
  ): void {
    const { env, recorder } = this.context;
    env.telemetry.tlsHandshake("upstream", requirement.policy, "", result);
    if (leg.lost?.reason === "injected_plaintext") env.telemetry.violation("upstream", "injected_plaintext");
    this.noteTls(leg, requirement, why);
    recorder.note("tls_failed", `tls failed: ${why}`, { leg: leg.number });
  }

  private secured(leg: Leg, requirement: TlsRequirement, facts: PeerFacts): void {
    const { env, recorder } = this.context;
    const certificate = facts.certificate;
    leg.tlsFacts = {
      encrypted: true,
      chainGood: facts.chainGood,
      chainError: facts.chainError,
      chain: chainFingerprints(certificate),
      carries: (name) => certificate !== undefined && checkServerIdentity(name, certificate) === undefined,
    };
    const verdict = judgeTls(requirement, leg.tlsFacts, env.tls.rules.privateAuthorities);
    leg.tls = {
      encrypted: true,
      version: facts.version,
      cipher: facts.cipher,
      peerName: peerName(certificate),
      verified: verdict.verified,
      reason: verdict.reason,
      policy: requirement.policy,
    };
    env.telemetry.tlsHandshake("upstream", requirement.policy, facts.version, "ok");
    recorder.note("tls_connected", `tls connected ${facts.version} ${facts.cipher}`, {
      leg: leg.number,
      tls: true,
    });
  }

  private noteTls(leg: Leg, requirement: TlsRequirement, reason: string | undefined): void {
    if (reason === undefined) return;
    leg.tlsFacts = PLAINTEXT;
    leg.tls = plaintextFacts(
      requirement.policy,
      leg.plaintextOnly && leg.tls !== undefined ? leg.tls.reason : reason,
    );
  }
}

const CRLF = Buffer.from("\r\n");

export function plaintextFacts(policy: string, reason: string): TlsFacts {
  return { encrypted: false, version: "", cipher: "", peerName: "", verified: false, reason, policy };
}

function withVerb(verb: "EHLO" | "HELO", name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${verb} `), name]);
}

function chainFingerprints(certificate: PeerFacts["certificate"]): string[] {
  const chain: string[] = [];
  for (
    let at = certificate;
    at !== undefined && !chain.includes(at.fingerprint256);
    at = at.issuerCertificate
  ) {
    chain.push(at.fingerprint256);
    if (chain.length > 16) break;
  }
  return chain;
}

/** For the record only: the name that the peer shows, whatever it is worth. */
function peerName(certificate: PeerFacts["certificate"]): string {
  const alternative = /(?:^|, )DNS:([^,]+)/.exec(certificate?.subjectaltname ?? "")?.[1];
  const common = certificate?.subject?.CN;
  return (alternative ?? (Array.isArray(common) ? common[0] : common) ?? "").slice(0, 255);
}
