/**
 * Who is let in, and where to (law: no open relay). Each connection is judged before a session is made of it; a refused one
 * gets a 421 on purpose, so that a typo in the configuration bounces no mail.
 */
import type { Endpoint } from "../events/events.ts";
import type { SessionResult } from "../events/telemetry.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import type { OwnLegs } from "./own-legs.ts";

export interface AdmissionRules {
  readonly mode: "redirect" | "tproxy" | "fixed";
  /** The destination of `fixed`. */
  readonly fixed: Endpoint | undefined;
  /** Destination ports that warp connects to (not asked in `fixed`). */
  readonly ports: ReadonlySet<number>;
  /** Of these, those that are relayed or refused without being read. */
  readonly opaqueRelay: ReadonlySet<number>;
  readonly opaqueRefuse: ReadonlySet<number>;
  readonly denySelf: boolean;
  readonly isDenied: (ip: string) => boolean;
  readonly isClient: (ip: string) => boolean;
  readonly isLocalAddress: (ip: string) => boolean;
  readonly sessions: number;
  readonly sessionsPerClient: number;
  /** As many as this process has descriptors for. */
  readonly sessionsOfProcess: number;
}

export interface Arrival {
  readonly client: Endpoint;
  /** Where the connection was accepted. */
  readonly local: Endpoint;
  /** Where it was going; called at most once, may throw. */
  readonly original: () => Endpoint;
}

export type Admission =
  | { readonly kind: "session" | "opaque"; readonly destination: Endpoint }
  | {
      readonly kind: "refused";
      readonly reply: OwnReply;
      readonly result: SessionResult;
      readonly code: string;
      readonly why: string;
    };

/** `ownLegs`: of this process. `active`: sessions now: all, of this process, of this client. */
export function admit(
  arrival: Arrival,
  rules: AdmissionRules,
  ownLegs: OwnLegs,
  active: {
    readonly all: number;
    readonly ofProcess: number;
    readonly ofClient: number;
    readonly stopping: boolean;
  },
): Admission {
  const { client, local } = arrival;
  // Its destination is this very listener: `fixed` towards itself.
  if (ownLegs.has(client, local)) return loop(rules.mode);
  if (active.stopping) return refused(OWN.stopping, "refused_limit", "stopping", "shutting down");
  if (!rules.isClient(client.ip)) {
    return refused(
      OWN.clientNotAllowed,
      "refused_client",
      "client_not_allowed",
      `${client.ip} is in none of the client networks`,
    );
  }
  if (active.all >= rules.sessions) {
    return refused(
      OWN.tooManySessions,
      "refused_limit",
      "too_many_sessions",
      `limits.sessions (${rules.sessions}) reached`,
    );
  }
  // Beyond it accept(2) fails (EMFILE), and who connects then is told nothing.
  if (active.ofProcess >= rules.sessionsOfProcess) {
    return refused(
      OWN.tooManySessions,
      "refused_limit",
      "too_many_sessions",
      `this process has descriptors for ${rules.sessionsOfProcess} sessions: raise LimitNOFILE (ulimit -n)`,
    );
  }
  if (active.ofClient >= rules.sessionsPerClient) {
    return refused(
      OWN.tooManySessions,
      "refused_limit",
      "too_many_sessions",
      `limits.sessions_per_client (${rules.sessionsPerClient}) reached by ${client.ip}`,
    );
  }
  if (rules.mode === "fixed") return opaqueOr("session", rules.fixed as Endpoint, rules);
  return admitCaptured(arrival, local, rules, ownLegs);
}

function admitCaptured(
  arrival: Arrival,
  local: Endpoint,
  rules: AdmissionRules,
  ownLegs: OwnLegs,
): Admission {
  let destination: Endpoint;
  try {
    destination = rules.mode === "tproxy" ? local : arrival.original();
  } catch (error) {
    return noDestination(`no original destination: ${(error as Error).message}`);
  }
  if (ownLegs.has(arrival.client, destination)) return loop(rules.mode);
  if (rules.mode === "redirect" && destination.ip === local.ip && destination.port === local.port) {
    return noDestination("connected to warp's own port, not captured");
  }
  if (!rules.ports.has(destination.port))
    return noDestination(`port ${destination.port} is not in capture.ports`);
  if (rules.denySelf && rules.isLocalAddress(destination.ip)) {
    return noDestination(`${destination.ip} is an address of this host (destinations.deny_self)`);
  }
  if (rules.isDenied(destination.ip)) return noDestination(`${destination.ip} is in destinations.deny`);
  return opaqueOr("session", destination, rules);
}

function opaqueOr(kind: "session", destination: Endpoint, rules: AdmissionRules): Admission {
  if (rules.opaqueRefuse.has(destination.port))
    return noDestination(`port ${destination.port} is opaque (capture.opaque_ports)`);
  return { kind: rules.opaqueRelay.has(destination.port) ? "opaque" : kind, destination };
}

function loop(mode: AdmissionRules["mode"]): Admission {
  const why =
    mode === "fixed"
      ? "warp's own connection came back to it: capture.destination leads here"
      : "warp's own connection was captured: the rules lack its exemption (mark, uid)";
  return refused(OWN.destinationRefused, "loop", "loop", why);
}

function noDestination(why: string): Admission {
  return refused(OWN.destinationRefused, "refused_destination", "destination_refused", why);
}

function refused(reply: OwnReply, result: SessionResult, code: string, why: string): Admission {
  return { kind: "refused", reply, result, code, why };
}
