/** Those who accept: this process alone, or workers under it. The primary speaks to both in the same way. */
import type { LoadedConfig } from "../../config/load.ts";
import type { Endpoint } from "../../events/events.ts";
import { native } from "../../net/native.ts";
import { SharedState, sharedOctets } from "../../stores/shared-state.ts";
import type { ExportedMetric } from "../../telemetry/cells.ts";
import type { Observation } from "./observation.ts";
import { pluginHooks } from "./plugin-hook.ts";
import { SmtpProxy } from "./proxy.ts";

export interface Crew {
  /** Resolves when it accepts; rejects with a plain text. */
  start(): Promise<void>;
  /** Rejects where somebody could not use it; then nobody does. */
  reload(loaded: LoadedConfig): Promise<void>;
  /**
   * Transactions finish within `timeouts.drain`; resolves when everything is closed. `accept`: whoever connects meanwhile is
   * told 421; false: the sockets are left at once (to another process). May be called again with false.
   */
  drain(accept: boolean): Promise<void>;
  /** Metrics of the processes that accept, and of those that were there before them; not this process's own. */
  exportMetrics(): Promise<readonly (readonly ExportedMetric[])[]>;
  /** Why it may not be given connections, one reason per line; empty: it may. */
  notReady(): readonly string[];
  /** Processes that accept connections now. */
  readonly running: number;
  /** At once: what is unfinished is lost. */
  abort(): void;
  /** A process before this one has ended: what it left is taken over. */
  predecessorEnded(): void;
  /** Where it listens, once it does. */
  readonly addresses: readonly Endpoint[];
}

export interface CrewOptions {
  readonly loaded: LoadedConfig;
  readonly version: string;
  readonly pluginsAddress: string | undefined;
  readonly observation: Observation;
}

/** One process: the proxy runs in it. */
export class SingleCrew implements Crew {
  private readonly proxy: SmtpProxy;

  /** `sockets` stay the caller's; undefined: the proxy makes its own. */
  constructor(options: CrewOptions, sockets: readonly number[] | undefined) {
    const { loaded, version, pluginsAddress, observation } = options;
    const shape = { workers: 1, sessions: loaded.config.limits.sessions };
    this.proxy = new SmtpProxy(loaded, {
      telemetry: observation.telemetry,
      sinks: observation.sinks,
      version,
      worker: 0,
      extraHooks: pluginHooks(pluginsAddress),
      sockets: sockets?.map((fd) => native.duplicateFd(fd)),
      shared: new SharedState(new ArrayBuffer(sharedOctets(shape)), shape),
    });
  }

  get addresses(): readonly Endpoint[] {
    return this.proxy.addresses;
  }

  get running(): number {
    return this.addresses.length > 0 ? 1 : 0;
  }

  start(): Promise<void> {
    return this.proxy.start();
  }

  reload(loaded: LoadedConfig): Promise<void> {
    return this.proxy.reload(loaded);
  }

  drain(accept: boolean): Promise<void> {
    return this.proxy.drain(accept);
  }

  async exportMetrics(): Promise<readonly (readonly ExportedMetric[])[]> {
    return []; // they are this process's own
  }

  notReady(): readonly string[] {
    return [];
  }

  abort(): void {
    // It ends with this process.
  }

  predecessorEnded(): void {
    this.proxy.adoptJournals();
  }
}
