/**
 * A session without sockets: transports that a test feeds and reads, a clock that a test moves, a dialer that hands legs
 * out. Everything runs in this process, so a dialogue can be cut at every octet.
 */
import type { ConnectionOptions, SecureContext } from "node:tls";
import type { Candidate, Decision, Router } from "../../src/egress/contract.ts";
import { type TlsRule, TlsRules } from "../../src/egress/tls-policy.ts";
import type { AfterComm, AfterConn, AfterTransaction, Endpoint, WarpEvent } from "../../src/events/events.ts";
import { noTelemetry, type Telemetry } from "../../src/events/telemetry.ts";
import {
  type ChainResult,
  type FilterChain,
  type FilterEnvelope,
  type HeldMessage,
  HoldFull,
} from "../../src/filter/contract.ts";
import { DialError, type DialOptions } from "../../src/net/dial.ts";
import type { PeerFacts, SecureFacts, Transport, TransportHandler } from "../../src/net/transport.ts";
import type { Clock } from "../../src/session/clock.ts";
import { OwnLegs } from "../../src/session/own-legs.ts";
import { Session } from "../../src/session/session.ts";
import type { SessionEnvironment } from "../../src/session/settings.ts";

export class SimulatedClock implements Clock {
  private time = 1000;
  private timers: { at: number; run: () => void }[] = [];

  wall(): number {
    return 1_700_000_000_000 + this.time;
  }

  now(): number {
    return this.time;
  }

  after(ms: number, run: () => void) {
    const timer = { at: this.time + ms, run };
    this.timers.push(timer);
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
  }

  /** Moves on, and runs what is due in its order. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.timers = this.timers.filter((other) => other !== due);
      this.time = Math.max(this.time, due.at);
      due.run();
      await settle();
    }
    this.time = end;
    await settle();
  }

  get pending(): number {
    return this.timers.length;
  }
}

/** Lets promises run that wait for nothing outside. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

const NO_HANDLER: TransportHandler = { data() {}, drained() {}, ended() {}, closed() {} };

export class SimulatedTransport implements Transport {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  encrypted = false;
  handler: TransportHandler = NO_HANDLER;
  /** What warp wrote and the test has not taken yet. */
  private written: Buffer[] = [];
  /** All that warp ever wrote. */
  total = 0;
  state: "open" | "ended" | "closed" | "reset" = "open";
  paused = false;
  /** Of what was written, what has not left yet. */
  unsent = 0;
  /** False: `write` says that it is full. */
  room = true;
  /** What the peer makes of TLS: facts, an error, or never an answer. */
  tls: PeerFacts | Error | "silent" = new Error("no TLS here");

  private interrupted: (() => void) | undefined;

  constructor(local: Endpoint, remote: Endpoint) {
    this.local = local;
    this.remote = remote;
  }

  write(chunk: Buffer): boolean {
    if (this.state === "open") {
      this.written.push(Buffer.from(chunk));
      this.total += chunk.length;
    }
    return this.room;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  end(): void {
    if (this.state === "open") this.state = "ended";
  }

  close(): void {
    this.gone("closed");
  }

  destroy(): void {
    this.gone("closed");
  }

  reset(): void {
    this.gone("reset");
  }

  private gone(state: "closed" | "reset"): void {
    if (this.state === "closed" || this.state === "reset") return;
    this.state = state;
    this.interrupted?.();
    setImmediate(() => this.handler.closed(undefined));
  }

  async startTls(_options: ConnectionOptions): Promise<PeerFacts> {
    if (this.tls === "silent") {
      return new Promise((_resolve, reject) => {
        this.interrupted = () => reject(new Error("closed during the handshake"));
      });
    }
    if (this.tls instanceof Error) throw this.tls;
    this.encrypted = true;
    return this.tls;
  }

  async acceptTls(_context: SecureContext): Promise<SecureFacts> {
    this.encrypted = true;
    return { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384" };
  }

  // ----------------------------------------------------------------------------------------------------- the test's side

  /** The peer sends octets (text: latin1). */
  feed(octets: Buffer | string): void {
    if (this.state === "closed" || this.state === "reset") return;
    this.handler.data(typeof octets === "string" ? Buffer.from(octets, "latin1") : Buffer.from(octets));
  }

  /** The peer's FIN. */
  fin(): void {
    if (this.state === "closed" || this.state === "reset") return;
    this.interrupted?.();
    this.handler.ended();
  }

  /** The peer's RST. */
  rst(): void {
    if (this.state === "closed" || this.state === "reset") return;
    this.state = "closed";
    this.interrupted?.();
    this.handler.closed(Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }));
  }

  drain(): void {
    this.room = true;
    this.handler.drained();
  }

  /** What warp wrote since the last time, as latin1. */
  take(): string {
    const text = Buffer.concat(this.written).toString("latin1");
    this.written = [];
    return text;
  }
}

export const GOOD_TLS: PeerFacts = {
  version: "TLSv1.3",
  cipher: "TLS_AES_256_GCM_SHA384",
  chainGood: false,
  chainError: "self-signed certificate",
  certificate: undefined,
};

const BASIS = {
  rule: "default",
  pool: "",
  tier: "",
  sender: "",
  score: undefined,
  predicted: false,
} as const;

/** A decision for these IPs ("ip" or "ip/ehlo-name"). */
export function ipDecision(...ips: string[]): Decision {
  const candidates = ips.map((text): Candidate => {
    const [ip, ehlo] = text.split("/");
    return { ip, ehlo };
  });
  return { ...BASIS, kind: "ip", candidates };
}

export const CLIENT_DECISION: Decision = { ...BASIS, kind: "client" };

export interface SimulationOptions {
  limits?: Partial<SessionEnvironment["settings"]["limits"]>;
  bareNewlines?: "normalize" | "reject";
  bodies?: boolean;
  /** Rules of the TLS policy; default: one `may`. */
  tls?: TlsRule[];
  downstreamTls?: boolean;
  router?: Partial<Router>;
  filter?: (
    message: Buffer,
    envelope: FilterEnvelope,
    signal: AbortSignal,
  ) => Promise<ChainResult> | ChainResult;
  /** No message finds room. */
  holdFull?: boolean;
  dial?: (count: number, options: DialOptions) => DialError | "silent" | undefined;
  telemetry?: Partial<Telemetry>;
  clientIp?: string;
}

export class Simulation {
  readonly clock = new SimulatedClock();
  readonly client: SimulatedTransport;
  /** The legs in the order in which they were dialled. */
  readonly legs: SimulatedTransport[] = [];
  readonly dialled: (string | undefined)[] = [];
  readonly events: WarpEvent[] = [];
  readonly session: Session;
  readonly ownReplies: number[] = [];
  readonly violations: string[] = [];
  closed = false;
  /** Held messages that were begun and are not given up or released yet. */
  heldNow = 0;
  /** Pieces that were put into the store. */
  holdWrites = 0;
  /** TLS of legs to come. */
  legTls: SimulatedTransport["tls"] = GOOD_TLS;
  private readonly options: SimulationOptions;
  private ids = 0;

  constructor(options: SimulationOptions = {}) {
    this.options = options;
    const clientEnd = { ip: options.clientIp ?? "192.0.2.1", port: 40000 };
    this.client = new SimulatedTransport({ ip: "127.0.0.1", port: 10025 }, clientEnd);
    this.session = new Session(this.environment(), {
      transport: this.client,
      destination: { ip: "198.51.100.25", port: 25 },
      clientSource: undefined,
      closed: () => {
        this.closed = true;
      },
    });
  }

  /** The session runs, and its first leg is connected. */
  async start(): Promise<void> {
    void this.session.run();
    await settle();
  }

  get leg(): SimulatedTransport {
    const leg = this.legs.at(-1);
    if (leg === undefined) throw new Error("no leg was dialled");
    return leg;
  }

  /** The client says something; what the client and the last leg then got. */
  async say(text: string | Buffer): Promise<{ client: string; leg: string }> {
    this.client.feed(text);
    await settle();
    return { client: this.client.take(), leg: this.legs.at(-1)?.take() ?? "" };
  }

  /** The destination says something on the last leg. */
  async reply(text: string | Buffer): Promise<{ client: string; leg: string }> {
    this.leg.feed(text);
    await settle();
    return { client: this.client.take(), leg: this.legs.at(-1)?.take() ?? "" };
  }

  /** Greeting and EHLO with these keywords are done. */
  async greet(...keywords: string[]): Promise<void> {
    await this.start();
    await this.reply("220 mx.example ESMTP\r\n");
    await this.say("EHLO client.example\r\n");
    await this.reply(ehloReply(keywords));
  }

  /** Envelope and DATA are done: 354 was answered. */
  async data(mail = "MAIL FROM:<a@example.com>"): Promise<void> {
    await this.say(`${mail}\r\n`);
    await this.reply("250 2.1.0 ok\r\n");
    await this.say("RCPT TO:<b@example.net>\r\n");
    await this.reply("250 2.1.5 ok\r\n");
    await this.say("DATA\r\n");
    await this.reply("354 go\r\n");
  }

  get transactions(): AfterTransaction[] {
    return this.events.filter((event) => event.kind === "after_transaction");
  }

  get connections(): AfterConn[] {
    return this.events.filter((event) => event.kind === "after_conn");
  }

  /** The lines of the dialogue, each as "<direction> <data>". */
  get lines(): string[] {
    return this.events
      .filter((event): event is AfterComm => event.kind === "after_comm")
      .map((event) => `${event.direction} ${event.data.toString("latin1")}`);
  }

  private environment(): SessionEnvironment {
    const { options } = this;
    return {
      settings: {
        limits: {
          messageOctets: 1_000_000,
          commandLineOctets: 16384,
          replyOctets: 65536,
          recipientsRecorded: 1000,
          ...options.limits,
        },
        timeouts: {
          dialMs: 25_000,
          greetingMs: 300_000,
          commandMs: 300_000,
          tlsMs: 30_000,
          dataStartMs: 120_000,
          dataBlockMs: 180_000,
          endOfDataMs: 540_000,
          idleMs: 300_000,
        },
        bareNewlines: options.bareNewlines ?? "normalize",
        bodies: options.bodies ?? false,
        chainBudgetMs: 120_000,
      },
      tls: {
        rules: new TlsRules(options.tls ?? [tlsRule("may")]),
        upstream: () => ({}),
        downstream: () => (options.downstreamTls ? ({} as SecureContext) : undefined),
      },
      dialer: { dial: (destination, dial) => this.dial(destination, dial) },
      router: { ...this.router(), ...options.router },
      chain: this.chain(),
      hold: { open: () => this.holdWriter() },
      sinks: [{ wants: () => true, emit: (event) => this.events.push(event) }],
      telemetry: {
        ...noTelemetry,
        ownReply: (code) => this.ownReplies.push(code),
        violation: (side, kind) => this.violations.push(`${side} ${kind}`),
        ...options.telemetry,
      },
      clock: this.clock,
      newId: () => `ID${++this.ids}`,
      isLocalAddress: () => false,
      classify: (code) => `class-${Math.floor(code / 100)}`,
      ownLegs: new OwnLegs(),
    };
  }

  private dial(destination: Endpoint, options: DialOptions): Promise<Transport> {
    this.dialled.push(options.sourceIp);
    const trouble = this.options.dial?.(this.dialled.length, options);
    if (trouble instanceof DialError) return Promise.reject(trouble);
    if (trouble === "silent") {
      return new Promise((_resolve, reject) => {
        this.clock.after(options.timeoutMs, () => reject(new DialError("timeout", "no answer")));
        options.givingUp.onGivenUp(() => reject(new DialError("aborted", "aborted")));
      });
    }
    const leg = new SimulatedTransport(
      { ip: options.sourceIp ?? "203.0.113.1", port: 50000 + this.legs.length },
      destination,
    );
    leg.tls = this.legTls;
    options.bound?.(leg.local, destination);
    this.legs.push(leg);
    return Promise.resolve(leg);
  }

  private router(): Router {
    return {
      needs: { sender: false, recipient: false },
      atConnect: () => CLIENT_DECISION,
      forTransaction: () => CLIENT_DECISION,
      unusable() {},
      legOpened() {},
      legClosed() {},
      used() {},
      failed() {},
      legRefused() {},
      provider: () => "example",
      outcomes: { wants: () => false, emit() {} },
    };
  }

  private chain(): FilterChain {
    const { filter } = this.options;
    return {
      required: filter !== undefined,
      run: async (message, envelope, _timeLeftMs, signal) => {
        const pieces: Buffer[] = [];
        for await (const chunk of message.chunks()) pieces.push(chunk);
        const result = filter?.(Buffer.concat(pieces), envelope, signal);
        return (await result) ?? { kind: "relay", message, outcomes: [] };
      },
    };
  }

  private holdWriter() {
    const pieces: Buffer[] = [];
    const full = this.options.holdFull === true;
    this.heldNow++;
    let isOpen = true;
    return {
      write: (chunk: Buffer): true => {
        if (full) throw new HoldFull("no room");
        this.holdWrites++;
        pieces.push(Buffer.from(chunk));
        return true;
      },
      finish: async () => {
        isOpen = false;
        return heldMessage(Buffer.concat(pieces), () => this.heldNow--);
      },
      abort: () => {
        if (isOpen) this.heldNow--;
        isOpen = false;
      },
    };
  }
}

export function heldMessage(octets: Buffer, released: () => void = () => {}): HeldMessage {
  let isHeld = true;
  return {
    octets: octets.length,
    async *chunks() {
      for (let at = 0; at < octets.length; at += 65536) yield octets.subarray(at, at + 65536);
    },
    release() {
      if (isHeld) released();
      isHeld = false;
    },
  };
}

export function tlsRule(policy: TlsRule["policy"], rule: Partial<TlsRule> = {}): TlsRule {
  return {
    policy,
    names: [],
    authorities: undefined,
    matchesDestination: undefined,
    matchesRecipientDomain: undefined,
    ...rule,
  };
}

export function ehloReply(keywords: readonly string[]): string {
  const lines = ["mx.example at your service", ...keywords];
  return lines.map((line, i) => `250${i === lines.length - 1 ? " " : "-"}${line}\r\n`).join("");
}
