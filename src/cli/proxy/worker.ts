/**
 * The program of a worker process: runs the proxy with the sockets and the configuration that the primary gives it, and does
 * what it is told. Signals are the primary's: they reach all processes of a terminal or a service. When the primary is gone,
 * transactions finish and the worker ends, for nobody would supervise it.
 */
import { native } from "../../net/native.ts";
import { SharedState } from "../../stores/shared-state.ts";
import { endOnDefect, type Observation, observe } from "./observation.ts";
import { pluginHooks } from "./plugin-hook.ts";
import { SmtpProxy } from "./proxy.ts";
import { FIRST_SOCKET_FD, type FromWorker, SHARED_FD, type ToWorker } from "./worker-messages.ts";

// SIGUSR1 as in main.ts.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const)
  process.on(signal, () => {});
process.once("message", (message: ToWorker) => {
  if (message.kind === "start") void run(message);
});

function tell(message: FromWorker): void {
  // The primary may be gone; "disconnect" says so.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

async function run(start: ToWorker & { kind: "start" }): Promise<void> {
  const observation = observe(start.loaded.config, start.version, start.worker);
  endOnDefect(observation);
  const proxy = new SmtpProxy(start.loaded, {
    telemetry: observation.telemetry,
    sinks: observation.sinks,
    version: start.version,
    worker: start.worker,
    extraHooks: pluginHooks(start.pluginsAddress),
    sockets: start.sockets.map(openSocket),
    shared: new SharedState(native.mapSharedMemory(SHARED_FD), start.shape),
  });
  try {
    await proxy.start();
  } catch (error) {
    tell({ kind: "failed", text: (error as Error).message });
    await observation.flush();
    process.exit(1);
  }
  new Member(proxy, observation).obey();
  tell({ kind: "ready" });
}

/** The descriptor itself stays, to be lent again. */
function openSocket(index: number): number {
  return native.duplicateFd(FIRST_SOCKET_FD + index);
}

class Member {
  private readonly proxy: SmtpProxy;
  private readonly observation: Observation;
  /** Sockets that are accepted from for a sibling, by index. */
  private readonly lent = new Map<number, number>();
  private ending: Promise<void> | undefined;

  constructor(proxy: SmtpProxy, observation: Observation) {
    this.proxy = proxy;
    this.observation = observation;
  }

  obey(): void {
    process.on("message", (message: ToWorker) => void this.take(message));
    // It may have gone while the proxy started.
    if (process.connected) process.once("disconnect", () => this.primaryGone());
    else this.primaryGone();
  }

  private primaryGone(): void {
    this.observation.log.write("error", "primary_gone", "the primary is gone: transactions finish");
    void this.end(false);
  }

  private async take(message: ToWorker): Promise<void> {
    switch (message.kind) {
      case "ping":
        tell({ kind: "pong" });
        return;
      case "reload":
        return this.reload(message);
      case "export":
        tell({
          kind: "exported",
          id: message.id,
          metrics: (await this.observation.metrics?.export()) ?? [],
        });
        return;
      case "lend":
        for (const index of message.sockets) await this.lend(index);
        return;
      case "return":
        for (const index of message.sockets) this.giveBack(index);
        return;
      case "drain":
        return this.end(message.accept);
      case "adopt_journals":
        this.proxy.adoptJournals();
        return;
      case "start":
        return;
    }
  }

  private async reload({ id, loaded }: ToWorker & { kind: "reload" }): Promise<void> {
    let problem: string | undefined;
    try {
      await this.proxy.reload(loaded);
      this.observation.log.setLevel(loaded.config.log.level);
    } catch (error) {
      problem = (error as Error).message;
    }
    tell({ kind: "reloaded", id, problem });
  }

  private async lend(index: number): Promise<void> {
    if (this.lent.has(index)) return;
    const fd = openSocket(index);
    this.lent.set(index, fd);
    await this.proxy.accept(fd);
  }

  private giveBack(index: number): void {
    const fd = this.lent.get(index);
    if (fd === undefined) return;
    this.lent.delete(index);
    this.proxy.release(fd);
  }

  private async end(accept: boolean): Promise<void> {
    if (!accept) this.proxy.stopListening();
    this.ending ??= this.proxy.drain(accept);
    await this.ending;
    await this.observation.flush();
    process.exit(0);
  }
}
