/**
 * What the session needs of the choice of the source IP: a decision when the client connects, a decision per transaction,
 * and the way back for what then happened. docs/design.md.
 * Nothing here does I/O; the store and the hook behind a decision come in from outside.
 */
import type { AddressFacts, Endpoint, EventSink, SessionFacts } from "../events/events.ts";

/** Which facts any rule (or a SelectRoute hook) looks at: what must be known before the IP is decided. */
export interface RouteNeeds {
  /** Sender, its domain, tier or auth user: decided at MAIL. False for all: `atConnect` is final. */
  readonly sender: boolean;
  /** The recipient's domain: decided at the first RCPT; warp answers MAIL itself. */
  readonly recipient: boolean;
}

export interface ConnectFacts {
  readonly client: Endpoint;
  readonly destination: Endpoint;
}

export interface TransactionFacts extends ConnectFacts {
  readonly transactionId: string;
  /** Only a hook asks for them. */
  readonly session: () => SessionFacts;
  readonly mailFrom: AddressFacts;
  /** The first one; undefined while it is not known, or not needed. */
  readonly recipient: AddressFacts | undefined;
  /** Of AUTH PLAIN and LOGIN, once accepted; else empty. */
  readonly authUser: string;
  /** Source IPs of the legs that this session has open, idle ones included: caps on connections don't hinder their use. */
  readonly ownLegs: readonly string[];
}

/** One source IP that may be used, with the name to say in EHLO from there. */
export interface Candidate {
  /** Textual address, as `net.Socket.localAddress` would say it. Undefined: the system chooses. */
  readonly ip: string | undefined;
  /** Replaces the client's EHLO name towards upstream; undefined: the client's own. */
  readonly ehlo: string | undefined;
}

/** What a decision rests on; goes into `RouteFacts`, the log and the metrics. */
export interface DecisionBasis {
  /** Name of the rule; "default" where none applied, "hook:NAME" where SelectRoute decided. */
  readonly rule: string;
  /** Empty where no pool was used. */
  readonly pool: string;
  /** Empty where it was not looked up (no rule needs it). */
  readonly tier: string;
  /** The identity that reputation counts for; empty where it was not looked up. */
  readonly sender: string;
  /** 0 to 1; undefined where it was not looked up. */
  readonly score: number | undefined;
  /** At connect, while a transaction may still decide otherwise. */
  readonly predicted: boolean;
}

/** A reply of the operator's rule (reject, defer) or of the hook; no CR or LF in its parts. */
export interface RouteReply {
  readonly code: number;
  readonly enhancedCode: string;
  readonly text: string;
  /** "hook" where SelectRoute refused. */
  readonly origin: "warp" | "hook";
  readonly hook: string;
}

export type Decision = DecisionBasis &
  (
    | {
        /** Bind to one of these; in order of preference, never empty. */
        readonly kind: "ip";
        readonly candidates: readonly Candidate[];
      }
    | {
        /** The client's own address where this host has it and it isn't loopback, else the system's choice. */
        readonly kind: "client";
      }
    | {
        /** A rule's reject or defer: the answer to MAIL, or to RCPT where the recipient decided. */
        readonly kind: "reply";
        readonly reply: RouteReply;
      }
    | {
        /** No usable source IP: 451 4.4.4. */
        readonly kind: "none";
        readonly causes: readonly { readonly ip: string; readonly cause: UnusableCause | "family" }[];
      }
  );

/** `not_local`: bind said EADDRNOTAVAIL. `no_port`: connect did. The other two are the router's own. */
export type UnusableCause = "not_local" | "no_port" | "cooling" | "cap";

export interface Router {
  readonly needs: RouteNeeds;
  /**
   * The IP for the leg that is dialled when the client connects: the rule that applies, or the one predicted (what this
   * client used last for this destination). Never "reply": that is an answer to a command.
   */
  atConnect(facts: ConnectFacts): Decision;
  /**
   * The IP for this transaction. Never rejects; a promise resolves within 50 ms (store) or 250 ms (with SelectRoute).
   * Call it at MAIL where `needs.sender`, at the first RCPT where `needs.recipient`.
   */
  forTransaction(facts: TransactionFacts): Decision | Promise<Decision>;
  /** The dialler could not use an IP. `not_local`: skipped, tried again after 30 s; `no_port`: counted only. */
  unusable(ip: string, cause: "not_local" | "no_port"): void;
  /** A leg bound to this IP is dialled, or gone (undefined: the system chose, ignored). For connection caps. */
  legOpened(ip: string | undefined, destinationIp: string): void;
  legClosed(ip: string | undefined, destinationIp: string): void;
  /** Remembers what a client used last for a destination: the next prediction. */
  used(client: Endpoint, destination: Endpoint, decision: Decision): void;
  /** What was predicted did not serve: nothing is, until something is used. */
  failed(client: Endpoint, destination: Endpoint): void;
  /** A leg that the client never saw was refused for good (greeting, EHLO): an answer to its IP that no event tells. */
  legRefused(
    ip: string,
    destinationIp: string,
    reply: { readonly code: number; readonly text: Buffer },
  ): void;
  /**
   * The destination's provider (MX group) from what is known: the greeting (whole reply, octets), the names in a
   * certificate. Remembered per destination IP; with nothing given it is what was remembered, else the /24 or /48.
   */
  provider(destinationIp: string, greeting?: Buffer, certificateNames?: readonly string[]): string;
  /** Counts outcomes: give it every event (it wants after_transaction and after_conn). */
  readonly outcomes: EventSink;
}

/** A hook's wish for one transaction (RPC SelectRoute); src/hooks asks. */
export interface SelectRoute {
  /** Some hook said that it selects routes. May change while the program runs. */
  readonly available: boolean;
  /** Never rejects, at most 200 ms. Undefined: the rules decide. */
  ask(question: RouteQuestion): Promise<RouteAnswer | undefined>;
}
export interface RouteQuestion {
  readonly transactionId: string;
  readonly session: SessionFacts;
  readonly mailFrom: AddressFacts;
  /** The first one, where a rule needs it. */
  readonly recipient: AddressFacts | undefined;
  /** The identity that reputation counts for. */
  readonly sender: string;
  readonly score: number;
  readonly tier: string;
  readonly pools: readonly string[];
}
/** The hook's wish; the caller checks that pool or IP exist. */
export type RouteAnswer =
  | { readonly kind: "pool"; readonly hook: string; readonly pool: string }
  | { readonly kind: "source_ip"; readonly hook: string; readonly sourceIp: string }
  | {
      readonly kind: "refuse";
      readonly hook: string;
      readonly reply: { readonly code: number; readonly enhancedCode: string; readonly text: string };
    };
