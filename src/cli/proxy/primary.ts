/**
 * The process that was started: it checks what can be checked, gets the sockets, starts those who accept, says where it
 * listens, and then does what signals ask for until it ends.
 *
 *   SIGTERM, SIGINT   drains: new clients are told 421, transactions finish, what is left after `timeouts.drain` is reset
 *   SIGHUP            reads the configuration again
 *   SIGUSR2           starts this program again, which takes over; a program that cannot start changes nothing
 */
import { spawn } from "node:child_process";
import type { LoadedConfig } from "../../config/load.ts";
import { DEFAULT_PORT } from "../../config/overlay.ts";
import { readIpPort } from "../../config/scalars.ts";
import type { Endpoint } from "../../events/events.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { type Plugins, startPlugins } from "../../hooks/plugins.ts";
import { native } from "../../net/native.ts";
import { serveTelemetry, type TelemetryServer } from "../../telemetry/http.ts";
import { mergedMetrics } from "../../telemetry/metrics.ts";
import { type Crew, SingleCrew } from "./crew.ts";
import { Handover, Predecessor } from "./handover.ts";
import { checkHostRights, markIfAllowed } from "./host-checks.ts";
import { endOnDefect, type Observation } from "./observation.ts";
import { afterReload } from "./reload-check.ts";
import { ServiceManager } from "./service-manager.ts";
import {
  activatedAddresses,
  closeAddresses,
  endpointText,
  ListenError,
  type OpenAddress,
  openAddresses,
} from "./sockets.ts";
import { welcome } from "./welcome.ts";
import { Workers } from "./workers.ts";

export interface PrimaryOptions {
  readonly loaded: LoadedConfig;
  /** Reads file, flags and environment again; throws what is to be told. */
  readonly reload: () => LoadedConfig;
  readonly version: string;
  readonly observation: Observation;
}

/** A signal so shortly behind the one that stops us is the same one, sent twice. */
const SAME_SIGNAL_MS = 500;
/** An address that is in use is tried again for so long. */
const BUSY_MS = 1500;
const BUSY_PAUSE_MS = 100;

/** Set for the process that a restart starts: addresses that we have from the service manager. */
const TOLD = "WARP_LISTEN_ADDRESSES";

function toldAddresses(): Endpoint[] {
  const text = process.env[TOLD] ?? "";
  delete process.env[TOLD];
  return text.split(" ").filter(Boolean).map(readIpPort);
}

export class Primary {
  private loaded: LoadedConfig;
  private readonly options: PrimaryOptions;
  private readonly manager: ServiceManager;
  private predecessors: Predecessor[] = [];
  /** Undefined: without the addon the proxy makes its own. */
  private sockets: OpenAddress[] | undefined;
  private metricsSocket: OpenAddress | undefined;
  private metricsServer: TelemetryServer | undefined;
  private activated = false;
  private plugins: Plugins | undefined;
  private crew: Crew | undefined;
  private handover: Handover | undefined;
  private listening = false;
  private ending: Promise<void> | undefined;
  private stoppingSince = 0;
  private ended!: () => void;
  private successor: number | undefined;
  private reloading: Promise<void> = Promise.resolve();

  constructor(options: PrimaryOptions) {
    this.options = options;
    this.loaded = options.loaded;
    this.manager = new ServiceManager(process.env, this.log);
  }

  private readonly log = (...line: Parameters<Observation["log"]["write"]>): void =>
    this.options.observation.log.write(...line);

  /** Runs until it is told to end. Throws where it cannot start. */
  async run(): Promise<void> {
    endOnDefect(this.options.observation);
    const ended = new Promise<void>((resolve) => {
      this.ended = resolve;
    });
    // From the first moment on: a signal that comes during the start ends it, or waits for it.
    const early = new AbortController();
    this.listenToSignals(early);
    try {
      await this.start();
    } catch (error) {
      await this.giveUp();
      throw error;
    }
    early.abort();
    await this.sayThatWeListen();
    await ended;
  }

  // ------------------------------------------------------------------------------------------------------------- start

  private async start(): Promise<void> {
    const { config } = this.loaded;
    checkHostRights(config, this.options.observation.telemetry);
    if (native.unavailable === undefined) this.sockets = await this.getSockets();
    await this.startPlugins();
    await this.serveMetrics();
    this.crew = this.makeCrew();
    await this.crew.start();
  }

  private makeCrew(): Crew {
    const { version, observation } = this.options;
    const options = {
      loaded: this.loaded,
      version,
      observation,
      pluginsAddress: this.plugins?.address,
    };
    if (this.sockets === undefined) return new SingleCrew(options, undefined);
    if (this.loaded.config.workers > 1) return new Workers(options, this.sockets);
    return new SingleCrew(
      options,
      this.sockets.flatMap(({ fds }) => fds),
    );
  }

  /** From the service manager, from the process before us, or made. */
  private async getSockets(): Promise<OpenAddress[]> {
    const activated = activatedAddresses(process.env, process.pid);
    this.activated = activated.length > 0;
    this.useAddresses(activated.length > 0 ? activated.map(({ address }) => address) : toldAddresses());
    const { config } = this.loaded;
    const askedAt = performance.now();
    const log = this.logOnce();
    for (;;) {
      this.askPredecessors(activated, log);
      const given = [...activated, ...this.predecessors.flatMap(({ addresses }) => addresses)];
      try {
        const opened = openAddresses(config, given);
        closeAddresses(given.filter((one) => !opened.includes(one)));
        return opened;
      } catch (error) {
        // Between two processes a name may be free for a moment while its address is not.
        const isBusy = error instanceof ListenError && error.code === "EADDRINUSE";
        if (!isBusy || performance.now() - askedAt > BUSY_MS) throw error;
        await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
      }
    }
  }

  /** Those of the service manager; where the configuration names some, they are what counts. */
  private useAddresses(given: readonly Endpoint[]): void {
    const { config } = this.loaded;
    if (given.length === 0) return;
    if (config.listenIsDefault) {
      for (const port of new Set(config.listen.map((address) => address.port))) {
        if (port === DEFAULT_PORT || given.some((address) => address.port === port)) continue;
        const text = `port ${port} is not used: the service manager gave us ${given.map(endpointText).join(", ")}`;
        this.log("warn", "port_not_used", text);
      }
      this.loaded = { ...this.loaded, config: { ...config, listen: given } };
      return;
    }
    const wanted = new Set(config.listen.map(endpointText));
    for (const address of given) {
      if (wanted.has(endpointText(address))) continue;
      const text = `the service manager gave us ${endpointText(address)}, which listen does not name: not used`;
      this.log("warn", "socket_not_used", text);
    }
  }

  /** What is tried again is told once. */
  private logOnce(): Telemetry["log"] {
    const told = new Set<string>();
    return (...line) => {
      const [, , text] = line;
      if (!told.has(text)) this.log(...line);
      told.add(text);
    };
  }

  private askPredecessors(activated: readonly OpenAddress[], log: Telemetry["log"]): void {
    const has = new Set([
      ...activated.map(({ address }) => endpointText(address)),
      ...this.predecessors.flatMap(({ addresses }) => addresses.map(({ address }) => endpointText(address))),
    ]);
    for (const address of this.loaded.config.listen) {
      const text = endpointText(address);
      if (has.has(text)) continue;
      const predecessor = Predecessor.find(address, log);
      if (predecessor === undefined) continue;
      for (const one of predecessor.addresses) has.add(endpointText(one.address));
      this.predecessors.push(predecessor);
      this.activated ||= predecessor.activated;
      const { pid } = predecessor;
      this.log("info", "taking_over", `taking over from process ${pid}, which listens on ${text}`, { pid });
    }
  }

  private async startPlugins(): Promise<void> {
    const { config } = this.loaded;
    if (config.plugins.length === 0) return;
    const { sqlite, file, mysql, slack } = config;
    const after =
      this.predecessors.length === 0
        ? undefined
        : Promise.all(this.predecessors.map((predecessor) => predecessor.ended())).then(() => {});
    this.plugins = await startPlugins(
      config.plugins,
      { sqlite, file, mysql, slack },
      {
        log: (line) => this.log("warn", "plugins", line),
        ...(after === undefined ? {} : { after }),
      },
    );
  }

  private async serveMetrics(): Promise<void> {
    const { metrics } = this.loaded.config;
    if (metrics === undefined) return;
    const sources = { metrics: () => this.metricsText(), notReady: () => this.notReady() };
    try {
      if (native.unavailable !== undefined) {
        this.metricsServer = await serveTelemetry(metrics.listen, sources);
        return;
      }
      this.metricsSocket = this.inheritedMetrics() ?? {
        address: metrics.listen,
        fds: [native.createListener({ ...metrics.listen, backlog: 128 })],
      };
      const [fd = -1] = this.metricsSocket.fds;
      this.metricsServer = await serveTelemetry({ fd: native.duplicateFd(fd) }, sources);
    } catch (error) {
      throw new Error(
        `metrics.listen: cannot listen on ${endpointText(metrics.listen)}: ${(error as Error).message}`,
        { cause: error },
      );
    }
    const text = `metrics at http://${endpointText(this.metricsServer.address)}/metrics`;
    this.log("info", "metrics_listening", text);
  }

  private inheritedMetrics(): OpenAddress | undefined {
    const { metrics } = this.loaded.config;
    let found: OpenAddress | undefined;
    for (const predecessor of this.predecessors) {
      const offered = predecessor.metrics;
      if (offered === undefined) continue;
      const wanted = metrics !== undefined && endpointText(metrics.listen) === endpointText(offered.address);
      if (wanted && found === undefined) found = offered;
      else closeAddresses([offered]);
    }
    return found;
  }

  private async metricsText(): Promise<string> {
    const { metrics } = this.options.observation;
    metrics?.workers(this.crew?.running ?? 0, this.loaded.config.workers);
    const own = metrics === undefined ? [] : [await metrics.export()];
    // A scrape may come before there is anybody who accepts.
    const theirs = this.crew === undefined ? [] : await this.crew.exportMetrics();
    return mergedMetrics([...own, ...theirs]);
  }

  private notReady(): readonly string[] {
    if (!this.listening) return ["starting"];
    if (this.successor !== undefined) return ["another process has taken over"];
    if (this.ending !== undefined) return ["stopping"];
    return this.crew?.notReady() ?? [];
  }

  /** Takes the place of whoever was there before, and only then says so. */
  private async sayThatWeListen(): Promise<void> {
    const { config } = this.loaded;
    if (this.predecessors.length > 0) this.manager.takesOver();
    await Promise.all(this.predecessors.map((predecessor) => predecessor.taken()));
    for (const predecessor of this.predecessors) {
      void predecessor.ended().then(() => {
        if (this.ending === undefined) this.crew?.predecessorEnded();
      });
    }
    if (this.sockets !== undefined) {
      const { sockets: addresses, metricsSocket: metrics, activated } = this;
      const offered = { addresses, metrics, activated };
      this.handover = new Handover(offered, this.log, () => this.superseded());
      await this.handover.open();
    }
    this.listening = true;
    const addresses = this.crew?.addresses ?? [];
    const unique = [...new Set(addresses.map(endpointText))];
    for (const address of unique) {
      const text = `warp listens to ${address}`;
      process.stdout.write(`${text}\n`);
      this.log("info", "listening", text);
    }
    // A person reads it: at a terminal, or where `npm start` says that somebody tries the program.
    const greets = process.stdout.isTTY || process.env.WARP_WELCOME !== undefined;
    if (greets && addresses.length > 0) {
      const uid = markIfAllowed(config) === config.capture.mark ? undefined : process.getuid?.();
      process.stdout.write(`${welcome(config, addresses, process.argv.slice(2), uid)}\n`);
    }
    this.manager.ready(`listens to ${unique.join(", ")}`);
  }

  // ----------------------------------------------------------------------------------------------------------- signals

  private listenToSignals(early: AbortController): void {
    const stop = (signal: NodeJS.Signals): void => {
      if (early.signal.aborted) {
        this.stop(signal);
        return;
      }
      // Nothing is served yet: there is nothing to finish.
      this.log("info", "stopped", `${signal} during the start`);
      this.options.observation.flushSync();
      process.exit(0);
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
    process.on("SIGHUP", () => {
      if (!early.signal.aborted || this.ending !== undefined) return;
      this.reloading = this.reloading.then(() => this.reload());
    });
    process.on("SIGUSR2", () => {
      if (early.signal.aborted && this.ending === undefined) this.restart();
    });
  }

  /** A second signal is impatient: what is unfinished ends with the process. */
  private stop(signal: NodeJS.Signals): void {
    if (this.ending !== undefined) {
      // One Ctrl-C reaches us several times where a terminal's group and a parent both pass it on.
      const isSame = performance.now() - this.stoppingSince < SAME_SIGNAL_MS;
      if (this.successor !== undefined || isSame) return;
      this.log("warn", "stopped", `${signal} again: ends at once, what is unfinished is lost`);
      this.crew?.abort();
      this.options.observation.flushSync();
      process.exit(1);
    }
    this.stoppingSince = performance.now();
    this.log("info", "stopping", `${signal}: transactions finish, idle sessions are told`);
    this.manager.stopping();
    // A service manager that keeps the sockets gives them to the next process, with all who wait there.
    this.ending = this.end(!this.activated);
  }

  private superseded(): void {
    this.log(
      "info",
      "superseded",
      "another process has taken over: transactions finish here, then this ends",
    );
    this.manager.superseded();
    this.successor = 0;
    if (this.ending === undefined) this.ending = this.end(false);
    else void this.crew?.drain(false);
    this.closeSockets();
    void this.metricsServer?.close();
  }

  private async end(accept: boolean): Promise<void> {
    if (!accept) this.closeSockets();
    await this.crew?.drain(accept);
    await this.plugins?.stop();
    this.handover?.close();
    this.closeSockets();
    await this.metricsServer?.close();
    this.log("info", "stopped", "stopped");
    this.ended();
  }

  private closeSockets(): void {
    const { sockets, metricsSocket } = this;
    this.sockets = undefined;
    this.metricsSocket = undefined;
    if (sockets !== undefined) closeAddresses(sockets);
    if (metricsSocket !== undefined) closeAddresses([metricsSocket]);
  }

  private async giveUp(): Promise<void> {
    for (const predecessor of this.predecessors) predecessor.abandon();
    await this.plugins?.stop(0);
    await this.metricsServer?.close();
    this.closeSockets();
  }

  private async reload(): Promise<void> {
    const { metrics } = this.options.observation;
    this.manager.reloading();
    try {
      const next = this.options.reload();
      const before = this.loaded.config;
      for (const line of next.warnings) this.log("warn", "config", line);
      const given = this.activated ? { ...next.config, listen: before.listen } : next.config;
      const { config, later } = afterReload(before, given);
      const loaded = { ...next, config };
      await this.crew?.reload(loaded);
      this.loaded = loaded;
      this.options.observation.log.setLevel(config.log.level);
      for (const name of later) {
        const text = `${name} has changed, and needs a restart: it stays as it was`;
        this.log("warn", "reload_needs_restart", text, { setting: name });
      }
      this.plugins?.reopen();
      metrics?.configReload("ok");
      this.log("info", "reloaded", "the configuration was read again: new sessions see it");
    } catch (error) {
      metrics?.configReload("failed");
      const lines = (error as { lines?: readonly string[] }).lines ?? [(error as Error).message];
      for (const line of lines) this.log("error", "reload_failed", `nothing was changed: ${line}`);
    }
    this.manager.ready("reloaded");
  }

  /** The same command line again; it finds us by our addresses, as one that was started by hand does. */
  private restart(): void {
    if (native.unavailable !== undefined) {
      this.log("error", "restart_failed", `no restart without the addon: ${native.unavailable}`);
      return;
    }
    const [, ...rest] = process.argv;
    const addresses = this.loaded.config.listen.map(endpointText).join(" ");
    const child = spawn(process.execPath, [...process.execArgv, ...rest], {
      stdio: "inherit",
      detached: true,
      // Addresses of the service manager are nowhere else to be found.
      env: { ...process.env, ...(this.activated ? { [TOLD]: addresses } : {}) },
    });
    child.unref();
    this.log("info", "restarting", `started process ${child.pid ?? "?"}, which takes over`);
    const failed = (why: string): void => {
      if (this.successor !== undefined) return;
      this.log("error", "restart_failed", `the new process ended (${why}); this one goes on`);
      this.manager.ready("the restart failed, see the log");
    };
    child.once("error", (error) => failed(error.message));
    child.once("exit", (status, signal) => failed(signal ?? `exit status ${status}`));
  }
}
