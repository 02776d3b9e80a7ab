/** The sessions of this process: let in, counted, drained. */
import type { Endpoint } from "../events/events.ts";
import type { Transport } from "../net/transport.ts";
import type { OwnReply } from "../smtp/own-replies.ts";
import { LocalCounts, type SessionCounts } from "../stores/session-counts.ts";
import { type AdmissionRules, admit } from "./admission.ts";
import { OpaqueSession } from "./opaque.ts";
import { Session } from "./session.ts";
import type { SessionEnvironment } from "./settings.ts";

const REFUSAL_LINGER_MS = 2000;

interface Running {
  drain(): void;
  kill(): void;
}

export interface SessionsSetup {
  readonly env: SessionEnvironment;
  readonly rules: AdmissionRules;
  /** Source address for "the client's own" (docs/design.md); undefined: the system's choice. */
  readonly clientSource: (client: Endpoint) => string | undefined;
}

export class Sessions {
  /** Of new sessions; replaced as a whole on reload. */
  setup: SessionsSetup;
  private readonly running = new Set<Running>();
  private readonly counts: SessionCounts;
  private stopping = false;
  private readonly emptied: (() => void)[] = [];

  /** `counts`: of all that share the limits, which may be more than these sessions. */
  constructor(setup: SessionsSetup, counts: SessionCounts = new LocalCounts()) {
    this.setup = setup;
    this.counts = counts;
  }

  get count(): number {
    return this.running.size;
  }

  /** A connection was accepted. `original`: asks the kernel where it was going. */
  accept(transport: Transport, original: () => Endpoint): void {
    const { env, rules, clientSource } = this.setup;
    const client = transport.remote;
    const admission = admit({ client, local: transport.local, original }, rules, env.ownLegs, {
      all: this.counts.all(),
      ofProcess: this.counts.ofProcess(),
      ofClient: this.counts.ofClient(client.ip),
      stopping: this.stopping,
    });
    if (admission.kind === "refused") {
      env.telemetry.sessionRefused(admission.result);
      env.telemetry.log(admission.code === "loop" ? "error" : "warn", admission.code, admission.why, {
        client: client.ip,
      });
      return refuse(transport, admission.reply, env);
    }
    this.counts.opened(client.ip);
    const start = {
      transport,
      destination: admission.destination,
      clientSource: clientSource(client),
      closed: () => this.left(session, client.ip),
    };
    const session: Session | OpaqueSession =
      admission.kind === "opaque" ? new OpaqueSession(env, start) : new Session(env, start);
    this.running.add(session);
    void session.run();
  }

  private left(session: Running, ip: string): void {
    this.running.delete(session);
    this.counts.closed(ip);
    if (this.running.size === 0) for (const tell of this.emptied.splice(0)) tell();
  }

  /** Resolves when none is running any more, or none is now. */
  whenEmpty(): Promise<void> {
    if (this.running.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.emptied.push(resolve));
  }

  /**
   * No new sessions; idle ones get their 421, transactions finish within `drainMs`, and what is then unfinished is reset on
   * both sides. Resolves when the last is gone.
   */
  async drain(drainMs: number): Promise<void> {
    this.stopping = true;
    if (this.running.size === 0) return;
    const emptied = this.whenEmpty();
    for (const session of [...this.running]) session.drain();
    const timer = this.setup.env.clock.after(drainMs, () => {
      for (const session of [...this.running]) session.kill();
    });
    await emptied;
    timer.cancel();
  }
}

/** Says why and closes; what the client sends meanwhile is read and dropped, so that the reply arrives. */
function refuse(transport: Transport, reply: OwnReply, env: SessionEnvironment): void {
  env.telemetry.ownReply(reply.code, reply.reason);
  const timer = env.clock.after(REFUSAL_LINGER_MS, () => transport.destroy());
  transport.handler = {
    data() {},
    drained() {},
    ended: () => transport.destroy(),
    closed: () => timer.cancel(),
  };
  transport.write(reply.wire);
  transport.end();
}
