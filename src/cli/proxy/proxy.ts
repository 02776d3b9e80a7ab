/**
 * The proxy of one process, put together from its configuration: what listens, what a session is given, what takes the
 * events. `start`, `reload`, `drain`.
 *
 * A reload that changes hooks begins a new generation: hooks that are connected, and the sessions that use them. Sessions
 * that run keep the generation in which they began, with its filters, until they end; so no message ever meets a chain that
 * is half changed, and a filter cannot be walked around during a reload.
 */
import { isDeepStrictEqual } from "node:util";
import type { LoadedConfig } from "../../config/load.ts";
import type { ClientNetworks, Config } from "../../config/schema.ts";
import { replyClassOf } from "../../deliverability/classify.ts";
import type { SelectRoute } from "../../egress/contract.ts";
import type { Endpoint, EventSink, Notice } from "../../events/events.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { createHooks, type HookSettings, type Hooks } from "../../hooks/index.ts";
import { UlidSource } from "../../hooks/ulid.ts";
import { NodeDialer } from "../../net/dial.ts";
import { isIpv6Only } from "../../net/dual-stack.ts";
import { type Listener, listen } from "../../net/listener.ts";
import { isLoopback, LocalAddresses } from "../../net/local-addresses.ts";
import type { AdmissionRules } from "../../session/admission.ts";
import { systemClock } from "../../session/clock.ts";
import { OwnLegs } from "../../session/own-legs.ts";
import { Sessions, type SessionsSetup } from "../../session/sessions.ts";
import type { SharedState } from "../../stores/shared-state.ts";
import { createEgress, type Egress } from "./egress.ts";
import { markIfAllowed, type OpenFiles, openFiles, sessionsWithin } from "./host-checks.ts";
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
  /** Listening sockets of this process; undefined: it makes them itself, from the configuration. */
  readonly sockets: readonly number[] | undefined;
  /** Counts that all workers share. */
  readonly shared: SharedState;
}

interface Generation {
  readonly hooks: Hooks;
  readonly sessions: Sessions;
}

export class SmtpProxy {
  private config: Config;
  private readonly dependencies: ProxyDependencies;
  private readonly local = new LocalAddresses();
  private readonly ids = new UlidSource();
  private readonly ownLegs = new OwnLegs();
  private readonly selectRoute: SelectRoute;
  private egress!: Egress;
  /** Beside sessions, as it was at the start. */
  private files!: OpenFiles;
  private generation!: Generation;
  /** Generations whose last sessions are still running. */
  private readonly retired = new Map<Generation, Promise<void>>();
  private listeners = new Map<number, Listener>();
  private draining = false;

  constructor(loaded: LoadedConfig, dependencies: ProxyDependencies) {
    this.config = loaded.config;
    this.dependencies = dependencies;
    const hooks = () => this.generation.hooks.selectRoute;
    this.selectRoute = {
      get available() {
        return hooks().available;
      },
      ask: (question) => hooks().ask(question),
    };
  }

  /** Where it listens, once it does. */
  get addresses(): readonly Endpoint[] {
    return [...this.listeners.values()].map((listener) => listener.address);
  }

  get sessionCount(): number {
    return [this.generation, ...this.retired.keys()].reduce((sum, { sessions }) => sum + sessions.count, 0);
  }

  /** Checks all that can be checked, connects hooks and stores, and listens. Throws with a plain text. */
  async start(): Promise<void> {
    const { telemetry, version, worker, sockets } = this.dependencies;
    const hooks = this.makeHooks(this.config);
    await hooks.start();
    this.egress = await createEgress(this.config, {
      telemetry,
      version,
      worker,
      isOwnAddress: (ip) => this.local.has(ip),
      notify: (notice) => this.announce(notice),
      selectRoute: this.selectRoute,
      newId: () => this.ids.next(Date.now()),
    });
    this.files = openFiles();
    this.generation = this.makeGeneration(this.config, hooks);
    if (sockets === undefined) await this.listen();
    else for (const fd of sockets) await this.accept(fd);
  }

  /** Accepts from this listening socket, which becomes this process's to close. */
  async accept(fd: number): Promise<void> {
    const [address] = this.config.listen;
    if (address === undefined) throw new Error("nothing to listen on");
    const options = { address, reusePort: false, transparent: false, fd };
    this.listeners.set(fd, await listen(options, this.accepted));
  }

  /** Accepts no more from this socket. */
  release(fd: number): void {
    this.listeners.get(fd)?.close();
    this.listeners.delete(fd);
  }

  /** Without the addon: node:net's own sockets. */
  private async listen(): Promise<void> {
    const { listen: addresses, listenIsDefault } = this.config;
    for (const [index, address] of addresses.entries()) {
      try {
        const ipv6Only = isIpv6Only(address, addresses);
        const options = { address, reusePort: false, transparent: false, ipv6Only };
        // Negative, since no descriptor is known here.
        this.listeners.set(-1 - index, await listen(options, this.accepted));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        const absent = code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT";
        if (listenIsDefault && absent && addresses.length > 1) continue;
        throw error;
      }
    }
  }

  private readonly accepted: Parameters<typeof listen>[1] = (transport, original) =>
    this.generation.sessions.accept(transport, original);

  /** New sessions see the new file. Throws, with nothing changed, where it cannot be used. */
  async reload(loaded: LoadedConfig): Promise<void> {
    const { config } = loaded;
    const before = this.generation;
    if (isDeepStrictEqual(hookSettings(this.config), hookSettings(config))) {
      before.sessions.setup = this.setup(config, before.hooks);
    } else {
      this.generation = await this.nextGeneration(config);
      this.retire(before);
    }
    this.egress.configure(config);
    this.config = config;
  }

  private async nextGeneration(config: Config): Promise<Generation> {
    const hooks = this.makeHooks(config);
    try {
      await hooks.start();
      // The sessions of a generation that begins now would know nothing of the end.
      if (this.draining) throw new Error("warp is stopping");
      return this.makeGeneration(config, hooks);
    } catch (error) {
      await hooks.stop(0);
      throw error;
    }
  }

  private retire(generation: Generation): void {
    const ended = generation.sessions
      .whenEmpty()
      .then(() => generation.hooks.stop())
      .finally(() => {
        this.retired.delete(generation);
        if (!this.draining) this.adoptJournals();
      });
    this.retired.set(generation, ended);
  }

  /**
   * Lets transactions finish, and closes everything behind the last session. `accept`: whoever connects meanwhile is told
   * 421; else the listening sockets are left at once, to whoever has them too.
   */
  async drain(accept: boolean): Promise<void> {
    if (!accept) this.stopListening();
    if (this.draining) return;
    this.draining = true;
    this.egress.leaving();
    const generations = [this.generation, ...this.retired.keys()];
    const { drainMs } = this.config.timeouts;
    await Promise.all(generations.map(({ sessions }) => sessions.drain(drainMs)));
    this.stopListening();
    await Promise.all([this.generation.hooks.stop(), ...this.retired.values()]);
    await this.egress.close();
  }

  /** Events that another process left in the journal: it has ended meanwhile. */
  adoptJournals(): void {
    this.generation.hooks.adopt();
  }

  stopListening(): void {
    for (const listener of this.listeners.values()) listener.close();
    this.listeners.clear();
  }

  /** To this process's log and sinks, and to the hooks that observe. (Hooks log and observe their own themselves.) */
  private announce(notice: Notice): void {
    this.dependencies.telemetry.log("info", notice.code, notice.text, notice.fields);
    this.notify(notice);
    for (const sink of this.generation?.hooks.sinks ?? []) if (sink.wants("notice")) sink.emit(notice);
  }

  private notify(notice: Notice): void {
    for (const sink of this.dependencies.sinks) if (sink.wants("notice")) sink.emit(notice);
  }

  // --------------------------------------------------------------------------------------------- what sessions are given

  private makeHooks(config: Config): Hooks {
    const { telemetry, version, worker, extraHooks, shared } = this.dependencies;
    return createHooks(
      { ...config, hooks: [...config.hooks, ...extraHooks] },
      {
        telemetry,
        version,
        worker,
        holdPool: shared.pool(worker, config.filter.holdTotalOctets),
        notice: (notice) => this.notify(notice),
        isOwnAddress: (ip) => this.local.has(ip),
      },
    );
  }

  private makeGeneration(config: Config, hooks: Hooks): Generation {
    const { shared, worker } = this.dependencies;
    return { hooks, sessions: new Sessions(this.setup(config, hooks), shared.counts(worker)) };
  }

  private setup(config: Config, hooks: Hooks): SessionsSetup {
    const { telemetry, sinks } = this.dependencies;
    const { capture } = config;
    return {
      env: {
        settings: {
          limits: config.limits,
          timeouts: config.timeouts,
          bareNewlines: config.bareNewlines,
          bodies: config.log.bodies,
          chainBudgetMs: config.filter.chainBudgetMs,
        },
        tls: sessionTls(config, telemetry),
        dialer: new NodeDialer({ mark: markIfAllowed(config), transparent: capture.mode === "tproxy" }),
        router: this.egress.router,
        chain: hooks.chain,
        hold: hooks.hold,
        sinks: [...sinks, this.egress.router.outcomes, ...hooks.sinks],
        telemetry,
        clock: systemClock,
        newId: () => this.ids.next(Date.now()),
        isLocalAddress: (ip) => this.local.has(ip),
        classify: replyClassOf,
        ownLegs: this.ownLegs,
      },
      rules: this.admissionRules(config),
      clientSource: (client) => this.clientSource(config, client),
    };
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
      sessions: limits.sessions,
      sessionsPerClient: limits.sessionsPerClient,
      sessionsOfProcess: sessionsWithin(this.files, config),
    };
  }

  private clientTest({ self, networks }: ClientNetworks): (ip: string) => boolean {
    const within = networkTest(networks);
    return (ip) => (self && this.local.has(ip)) || within(ip);
  }
}

/** What hooks are made from; where none of it changed, the connected ones go on. */
function hookSettings({ hooks, filter, limits }: Config): unknown {
  return { hooks, filter, messageOctets: limits.messageOctets };
}
