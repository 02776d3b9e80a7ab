/**
 * Connects to the destination of a session from the source IP that was decided on: the first candidate that this host can
 * use. Whatever counts connections (an IP's caps, what tells a loop, the metrics) knows of each from here.
 */
import type { Candidate, Decision } from "../egress/contract.ts";
import type { LegOrigin } from "../egress/fit.ts";
import type { Endpoint } from "../events/events.ts";
import type { LegReason, LegResult } from "../events/telemetry.ts";
import { DialError, type DialErrorKind, type GivingUp } from "../net/dial.ts";
import type { Transport } from "../net/transport.ts";
import type { OwnLeg } from "./own-legs.ts";
import type { SessionEnvironment } from "./settings.ts";

/** No leg could be dialled. */
export class DialFailed extends Error {
  override readonly name = "DialFailed";
  readonly kind: DialErrorKind | "no_source_ip";
  constructor(kind: DialErrorKind | "no_source_ip", message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** A connection that was made. */
export interface Dialled {
  readonly transport: Transport;
  readonly candidate: Candidate;
  readonly origin: LegOrigin;
  /** How long connecting took. */
  readonly ms: number;
  /** To be called once, when it is gone: it no longer counts. */
  readonly released: () => void;
}

/** A destination that refuses so many source IPs is dead, or refuses them all. */
const MAX_REFUSALS = 3;

export class LegDialer {
  private readonly env: SessionEnvironment;
  private readonly destination: Endpoint;
  /** The source address for a decision "client": undefined leaves it to the system. */
  private readonly clientSource: string | undefined;

  constructor(env: SessionEnvironment, destination: Endpoint, clientSource: string | undefined) {
    this.env = env;
    this.destination = destination;
    this.clientSource = clientSource;
  }

  /** Rejects with DialFailed. */
  async dial(decision: Decision, reason: LegReason, givingUp: GivingUp): Promise<Dialled> {
    const { env } = this;
    const deadline = env.clock.now() + env.settings.timeouts.dialMs;
    let last: DialFailed | undefined;
    let refusals = 0;
    for (const candidate of this.candidates(decision)) {
      const left = deadline - env.clock.now();
      if (left <= 0) break;
      try {
        return await this.dialFrom(candidate, decision, reason, left, givingUp);
      } catch (error) {
        if (!(error instanceof DialError)) throw error;
        last = this.failed(error, candidate, reason);
        if (last.kind === "no_source_ip") continue;
        // The destination answered others a moment ago: it may be this IP alone that it refuses.
        const isAlive = reason !== "connect" || decision.predicted;
        if (!isAlive || last.kind === "aborted" || ++refusals === MAX_REFUSALS) break;
      }
    }
    throw last ?? new DialFailed("no_source_ip", "no usable source IP");
  }

  private candidates(decision: Decision): readonly Candidate[] {
    if (decision.kind === "ip") return decision.candidates;
    if (decision.kind === "client") return [{ ip: this.clientSource, ehlo: undefined }];
    return [];
  }

  private async dialFrom(
    candidate: Candidate,
    decision: Decision,
    reason: LegReason,
    timeoutMs: number,
    givingUp: GivingUp,
  ): Promise<Dialled> {
    const { env, destination } = this;
    const started = env.clock.now();
    const bound = decision.kind === "ip" ? candidate.ip : undefined;
    // From here on, or a burst of dials would not see each other.
    env.router.legOpened(bound, destination.ip);
    let own: OwnLeg | undefined;
    const forget = (): void => {
      if (own !== undefined) env.ownLegs.delete(own);
    };
    const released = (): void => {
      forget();
      env.router.legClosed(bound, destination.ip);
    };
    let transport: Transport;
    try {
      transport = await env.dialer.dial(destination, {
        sourceIp: candidate.ip,
        timeoutMs,
        givingUp,
        bound: (local, remote) => {
          forget(); // of an address before, where a name has several
          own = env.ownLegs.add(local, remote);
        },
      });
    } catch (error) {
      released();
      throw error;
    }
    const ms = env.clock.now() - started;
    env.telemetry.dialled(destination.ip.includes(":") ? 6 : 4, ms);
    env.telemetry.legDialled(reason, "connected");
    const origin: LegOrigin = decision.kind === "ip" ? { kind: "ip", candidate } : { kind: "client" };
    return { transport, candidate, origin, ms, released };
  }

  private failed(error: DialError, candidate: Candidate, reason: LegReason): DialFailed {
    const { env } = this;
    const noSource = error.kind === "not_local" || error.kind === "no_port";
    env.telemetry.legDialled(reason, noSource ? "no_source_ip" : legResult(error.kind));
    if (noSource && candidate.ip !== undefined) {
      const cause = error.kind === "no_port" ? "no_port" : "not_local";
      env.telemetry.sourceIpUnusable(candidate.ip, cause);
      env.router.unusable(candidate.ip, cause);
    }
    return new DialFailed(noSource ? "no_source_ip" : error.kind, error.message, error);
  }
}

function legResult(kind: DialErrorKind): LegResult {
  if (kind === "refused" || kind === "timeout" || kind === "unreachable") return kind;
  return "failed";
}
