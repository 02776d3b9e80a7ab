/** What a session is given: the operator's settings as it needs them, and the parts around it. */
import type { ConnectionOptions, SecureContext } from "node:tls";
import type { Router } from "../egress/contract.ts";
import type { TlsPolicy, TlsRules } from "../egress/tls-policy.ts";
import type { EventSink } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import type { FilterChain, HoldStore } from "../filter/contract.ts";
import type { Dialer } from "../net/dial.ts";
import type { Clock } from "./clock.ts";
import type { OwnLegs } from "./own-legs.ts";

export interface Timeouts {
  readonly dialMs: number;
  readonly greetingMs: number;
  readonly commandMs: number;
  readonly tlsMs: number;
  readonly dataStartMs: number;
  /** No progress of a message, in either direction. */
  readonly dataBlockMs: number;
  /** From the client's end of data: filters, sending and the destination's answer together. */
  readonly endOfDataMs: number;
  /** The client says nothing between commands. */
  readonly idleMs: number;
}

export interface Limits {
  readonly messageOctets: number;
  readonly commandLineOctets: number;
  readonly replyOctets: number;
  readonly recipientsRecorded: number;
}

export interface SessionSettings {
  readonly limits: Limits;
  readonly timeouts: Timeouts;
  readonly bareNewlines: "normalize" | "reject";
  /** Events of messages have their bodies, not only the header section. */
  readonly bodies: boolean;
  /** Filters have at most so much of `endOfDataMs`. */
  readonly chainBudgetMs: number;
}

/** TLS on both sides: rules, and the contexts that go with them. */
export interface SessionTls {
  readonly rules: TlsRules;
  /** Options of tls.connect for a policy; `servername` where a name is known. */
  upstream(policy: TlsPolicy, names: readonly string[]): ConnectionOptions;
  /** The operator's certificate; undefined: STARTTLS isn't offered downstream. */
  downstream(): SecureContext | undefined;
}

/** The parts around a session; one set for all sessions of a process (until a reload). */
export interface SessionEnvironment {
  readonly settings: SessionSettings;
  readonly tls: SessionTls;
  readonly dialer: Dialer;
  readonly router: Router;
  readonly chain: FilterChain;
  readonly hold: HoldStore;
  readonly sinks: readonly EventSink[];
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  /** A new ULID. */
  readonly newId: () => string;
  /** True: this host has the address. */
  readonly isLocalAddress: (ip: string) => boolean;
  /** The class of a reply for events and log (src/deliverability). */
  readonly classify: (code: number, enhancedCode: string, text: Buffer, provider: string) => string;
  /** This process's legs: a connection that is one of them is a loop. */
  readonly ownLegs: OwnLegs;
}
