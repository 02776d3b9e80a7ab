/**
 * Traffic that is no SMTP dialogue to read (implicit TLS on port 465): relayed untouched, with events about the connection
 * only. Half-close and reset pass as they come; a silent connection ends after the idle time.
 */

import type { Decision } from "../egress/contract.ts";
import { endpointText } from "../events/endpoint.ts";
import type { Endpoint } from "../events/events.ts";
import { GivingUp } from "../net/dial.ts";
import type { Transport } from "../net/transport.ts";
import { Deadline } from "./clock.ts";
import { DialFailed, LegDialer } from "./leg-dialer.ts";
import { plaintextFacts } from "./leg-maker.ts";
import { Recorder } from "./recorder.ts";
import type { SessionStart } from "./session.ts";
import type { SessionEnvironment } from "./settings.ts";

export class OpaqueSession {
  readonly id: string;
  private readonly env: SessionEnvironment;
  private readonly start: SessionStart;
  private readonly client: Transport;
  private readonly destination: Endpoint;
  private readonly recorder: Recorder;
  private readonly deadline: Deadline;
  private readonly startedAt: number;
  private readonly givingUp = new GivingUp();
  private server: Transport | undefined;
  private decision: Decision | undefined;
  private released: (() => void) | undefined;
  private octetsIn = 0;
  private octetsOut = 0;
  private ends = 0;
  private closed = false;
  private closedBy = "";
  private connected = false;

  constructor(env: SessionEnvironment, start: SessionStart) {
    this.env = env;
    this.start = start;
    this.client = start.transport;
    this.destination = start.destination;
    this.id = env.newId();
    this.startedAt = env.clock.now();
    this.recorder = new Recorder(this.id, env.sinks, env.clock);
    this.deadline = new Deadline(env.clock, () => this.finish("warp", true));
  }

  async run(): Promise<void> {
    const { env, client, destination } = this;
    env.telemetry.sessionOpened();
    this.recorder.note(
      "connected_from",
      `connected from ${endpointText(client.remote.ip, client.remote.port)}`,
    );
    this.recorder.note("connecting", `connecting to ${endpointText(destination.ip, destination.port)}`);
    client.pause();
    client.handler = { ...NOTHING, closed: () => this.finish("client", true) };
    try {
      const decision = await env.router.atConnect({ client: client.remote, destination });
      this.decision = decision;
      if (decision.kind === "reply" || decision.kind === "none")
        throw new DialFailed("no_source_ip", "no route");
      const dialer = new LegDialer(env, destination, this.start.clientSource);
      const { transport, released } = await dialer.dial(decision, "connect", this.givingUp);
      if (this.closed) {
        released();
        return transport.reset();
      }
      this.released = released;
      this.server = transport;
      this.pipe(transport);
    } catch (error) {
      env.router.failed(client.remote, destination);
      if (this.closed) return;
      env.telemetry.log("warn", "dial_failed", (error as Error).message, { conn: this.id }, error);
      this.finish("warp", true);
    }
  }

  private pipe(server: Transport): void {
    this.connected = true;
    this.recorder.note(
      "connected",
      `connected to ${endpointText(this.destination.ip, this.destination.port)}`,
      {
        leg: 1,
      },
    );
    this.deadline.set(this.env.settings.timeouts.idleMs);
    this.join(this.client, server, "client", (octets) => {
      this.octetsIn += octets;
    });
    this.join(server, this.client, "upstream", (octets) => {
      this.octetsOut += octets;
    });
    this.client.resume();
  }

  private join(from: Transport, to: Transport, name: string, count: (octets: number) => void): void {
    from.handler = {
      data: (chunk) => {
        count(chunk.length);
        this.deadline.set(this.env.settings.timeouts.idleMs);
        if (!to.write(chunk)) from.pause();
      },
      drained: () => to.resume(),
      ended: () => {
        this.closedBy ||= name;
        to.end();
        this.ends++;
        if (this.ends === 2) this.finish(name, false);
      },
      closed: (cause) => this.finish(name, cause !== undefined),
    };
  }

  kill(): void {
    this.finish("warp", true);
  }

  /** There is no boundary to wait for: the drain's end comes as `kill`. */
  drain(): void {}

  private finish(by: string, reset: boolean): void {
    if (this.closed) return;
    this.closed = true;
    this.closedBy ||= by;
    this.givingUp.giveUp();
    this.deadline.stop();
    for (const transport of [this.client, this.server]) {
      if (transport === undefined) continue;
      transport.handler = NOTHING;
      if (reset) transport.reset();
      else transport.close();
    }
    this.released?.();
    if (this.connected) this.env.telemetry.legClosed(true);
    this.record();
    this.start.closed();
  }

  private record(): void {
    const { env, client, destination } = this;
    const durationMs = env.clock.now() - this.startedAt;
    const none = Buffer.alloc(0);
    this.recorder.note("closed", "connections closed");
    this.recorder.emit({
      kind: "after_conn",
      at: env.clock.wall(),
      connectionId: this.id,
      session: {
        connectionId: this.id,
        client: client.remote,
        destination,
        helo: none,
        esmtp: false,
        downstreamTls: undefined,
        upstreamTls: plaintextFacts("none", "opaque: not read"),
        authUser: "",
        route: {
          sourceIp: this.server?.local.ip ?? "",
          pool: this.decision?.pool ?? "",
          rule: this.decision?.rule ?? "",
          tier: this.decision?.tier ?? "",
          pinned: true,
        },
        greeting: none,
        provider: env.router.provider(destination.ip),
      },
      mailFrom: undefined,
      mailTo: [],
      elapseMs: this.connected ? -2 : -1,
      transactions: 0,
      legs: this.connected ? 1 : 0,
      octetsIn: this.octetsIn,
      octetsOut: this.octetsOut,
      durationMs,
      closedBy: this.closedBy,
      closeReason: "opaque",
    });
    env.telemetry.octets("in", this.octetsIn);
    env.telemetry.octets("out", this.octetsOut);
    env.telemetry.sessionClosed("served", durationMs);
  }
}

const NOTHING = { data() {}, drained() {}, ended() {}, closed() {} };
