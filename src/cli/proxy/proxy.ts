/**
 * The proxy of one process, put together from its configuration: what listens, what a session is given, what takes the
 * events. `start`, `reload`, `drain`.
 */
import type { LoadedConfig } from "../../config/load.ts";
import type { ClientNetworks, Config } from "../../config/schema.ts";
import { classifyReply } from "../../deliverability/classify.ts";
import type { Endpoint, EventSink, Notice } from "../../events/events.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { createHooks, type HookSettings, type Hooks } from "../../hooks/index.ts";
import { UlidSource } from "../../hooks/ulid.ts";
import { NodeDialer } from "../../net/dial.ts";
import { type Listener, listen } from "../../net/listener.ts";
import { isLoopback, LocalAddresses } from "../../net/local-addresses.ts";
import { native } from "../../net/native.ts";
import type { AdmissionRules } from "../../session/admission.ts";
import { systemClock } from "../../session/clock.ts";
import { Sessions, type SessionsSetup } from "../../session/sessions.ts";
import { createEgress, type Egress } from "./egress.ts";
import { networkTest, sessionTls } from "./tls.ts";

export interface ProxyDependencies {
  readonly telemetry: Telemetry;
  /** Sinks of this process beside the hooks': log, `--verbose`, metrics. */
  readonly sinks: readonly EventSink[];
  readonly version: string;
  /** Number of this worker; 0 where there is one process. */
  readonly worker: number;
  /** Hook servers that this program started itself (`--plugins`). */
  readonly extraHooks: readonly HookSettings[];
  /** Listening sockets that were handed to this process, in the order of `listen`. */
  readonly inherited: readonly number[];
}

export class Proxy {
  private config: Config;
  private readonly dependencies: ProxyDependencies;
  private readonly local = new LocalAddresses();
  private readonly ids = new UlidSource();
  private readonly ownLegs = new Set<string>();
  private readonly hooks: Hooks;
  private egress!: Egress;
  private sessions!: Sessions;
  private listeners: Listener[] = [];
  private draining = false;

  constructor(loaded: LoadedConfig, dependencies: ProxyDependencies) {
    this.config = loaded.config;
    this.dependencies = dependencies;
    const { telemetry, version, worker } = dependencies;
    this.hooks = createHooks(
      { ...this.config, hooks: [...this.config.hooks, ...dependencies.extraHooks] },
      {
        telemetry,
        version,
        worker,
        notice: (notice) => this.notify(notice),
        isOwnAddress: (ip) => this.local.has(ip),
      },
    );
  }

  /** Where it listens, once it does. */
  get addresses(): readonly Endpoint[] {
    return this.listeners.map((listener) => listener.address);
  }

  get sessionCount(): number {
    return this.sessions.count;
  }

  /** Checks all that can be checked, connects hooks and stores, and listens. Throws with a plain text. */
  async start(): Promise<void> {
    const { telemetry, version, worker } = this.dependencies;
    this.checkPlatform();
    await this.hooks.start();
    this.egress = await createEgress(this.config, {
      telemetry,
      version,
      worker,
      isOwnAddress: (ip) => this.local.has(ip),
      notify: (notice) => this.notify(notice),
      selectRoute: this.hooks.selectRoute,
      newId: () => this.ids.next(Date.now()),
    });
    this.sessions = new Sessions(this.setup(this.config));
    await this.listen();
  }

  private checkPlatform(): void {
    const { mode } = this.config.capture;
    if (mode !== "fixed" && native.unavailable !== undefined) {
      throw new Error(
        `capture.mode ${mode} needs what this platform lacks: ${native.unavailable}; fixed mode works (--destination)`,
      );
    }
  }

  private async listen(): Promise<void> {
    const { listen: addresses, listenIsDefault, workers, capture } = this.config;
    for (const [index, address] of addresses.entries()) {
      try {
        const listener = await listen(
          {
            address,
            reusePort: workers > 1,
            transparent: capture.mode === "tproxy",
            fd: this.dependencies.inherited[index],
          },
          (transport, original) => this.sessions.accept(transport, original),
        );
        this.listeners.push(listener);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        const absent = code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT";
        if (listenIsDefault && absent && addresses.length > 1) continue;
        throw new Error(`cannot listen on ${address.ip}:${address.port}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
    if (this.listeners.length === 0) throw new Error("cannot listen on any address");
  }

  /** New sessions see the new file. What cannot change while it runs is the caller's to check. */
  reload(loaded: LoadedConfig): void {
    const setup = this.setup(loaded.config);
    this.config = loaded.config;
    this.egress.configure(loaded.config);
    this.sessions.setup = setup;
  }

  /** Accepts no more, lets transactions finish, and closes everything behind the last session. */
  async drain(): Promise<void> {
    if (this.draining) return;
    this.draining = true;
    for (const listener of this.listeners) listener.close();
    await this.sessions.drain(this.config.timeouts.drainMs);
    await this.hooks.stop();
    await this.egress.close();
  }

  private notify(notice: Notice): void {
    for (const sink of this.dependencies.sinks) if (sink.wants("notice")) sink.emit(notice);
    const { telemetry } = this.dependencies;
    telemetry.log("info", notice.code, notice.text, notice.fields);
  }

  // --------------------------------------------------------------------------------------------- what sessions are given

  private setup(config: Config): SessionsSetup {
    const { telemetry, sinks } = this.dependencies;
    const { capture } = config;
    return {
      env: {
        settings: {
          limits: config.limits,
          timeouts: config.timeouts,
          bareNewlines: config.bareNewlines,
          chainBudgetMs: config.filter.chainBudgetMs,
        },
        tls: sessionTls(config, telemetry),
        dialer: new NodeDialer({ mark: this.mark(config), transparent: capture.mode === "tproxy" }),
        router: this.egress.router,
        chain: this.hooks.chain,
        hold: this.hooks.hold,
        sinks: [...sinks, this.egress.router.outcomes, ...this.hooks.sinks],
        telemetry,
        clock: systemClock,
        newId: () => this.ids.next(Date.now()),
        isLocalAddress: (ip) => this.local.has(ip),
        classify: (code, enhancedCode, text, provider) =>
          code < 300 ? "accepted" : classifyReply({ code, enhancedCode, text }, provider).class,
        ownLegs: this.ownLegs,
      },
      rules: this.admissionRules(config),
      clientSource: (client) => this.clientSource(config, client),
    };
  }

  /** SO_MARK needs a right that not everybody has: without it the rules exempt warp by its uid. */
  private mark(config: Config): number {
    const { mode, mark } = config.capture;
    if (mode === "fixed" || native.unavailable !== undefined) return 0;
    try {
      native.closeFd(native.createSocket(4, { mark }));
      return mark;
    } catch (error) {
      this.dependencies.telemetry.log(
        "warn",
        "no_mark",
        "capture.mark cannot be set (CAP_NET_ADMIN is missing): the capture rules have to exempt warp by its uid",
        {},
        error,
      );
      return 0;
    }
  }

  /** The client's own address where the kernel handed us the connection, this host has it, and it isn't loopback. */
  private clientSource(config: Config, client: Endpoint): string | undefined {
    const { mode } = config.capture;
    if (mode === "fixed" || isLoopback(client.ip)) return undefined;
    if (mode === "tproxy" && config.rules.length > 0) return client.ip;
    return this.local.has(client.ip) ? client.ip : undefined;
  }

  private admissionRules(config: Config): AdmissionRules {
    const { capture, destinations, limits } = config;
    const { destination } = capture;
    return {
      mode: capture.mode,
      fixed: destination && { ip: destination.host, port: destination.port },
      ports: new Set(capture.ports),
      opaqueRelay: new Set(capture.opaque.relay),
      opaqueRefuse: new Set(capture.opaque.refuse),
      denySelf: destinations.denySelf,
      isDenied: networkTest(destinations.deny),
      isClient: this.clientTest(config.clients),
      isLocalAddress: (ip) => this.local.has(ip),
      sessions: Math.ceil(limits.sessions / config.workers),
      sessionsPerClient: Math.ceil(limits.sessionsPerClient / config.workers),
    };
  }

  private clientTest({ self, networks }: ClientNetworks): (ip: string) => boolean {
    const within = networkTest(networks);
    return (ip) => (self && this.local.has(ip)) || within(ip);
  }
}
