/**
 * Worker processes under the primary: started with the proxy's sockets, supervised, started again when they die (at once,
 * then with growing pauses) or no longer answer, told of reloads and of the end. While one is away its sockets are lent to a
 * sibling, so that no connection waits for it. Numbers are stable: the journal and the log know a worker by its number.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { LoadedConfig } from "../../config/load.ts";
import type { Endpoint } from "../../events/events.ts";
import { native } from "../../net/native.ts";
import { type SharedShape, SharedState, sharedOctets } from "../../stores/shared-state.ts";
import type { ExportedMetric } from "../../telemetry/cells.ts";
import { countedBy } from "../../telemetry/metrics.ts";
import type { Crew, CrewOptions } from "./crew.ts";
import { BEAT_MS, isDebugged, Pulse } from "./pulse.ts";
import { type OpenAddress, socketsOf } from "./sockets.ts";
import type { FromWorker, ToWorker } from "./worker-messages.ts";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** A worker that lived so long is started again at once. */
const SETTLED_MS = 10_000;
const START_MS = 60_000;
const RELOAD_MS = 30_000;
const EXPORT_MS = 2000;
/** How old the last known counts of a worker may be that was killed. */
const PULL_MS = 5000;
/** Beyond `timeouts.drain`, for hooks to take the last events. */
const DRAIN_EXTRA_MS = 15_000;

interface Worker {
  readonly number: number;
  /** Indexes of its own sockets. */
  readonly sockets: readonly number[];
  child: ChildProcess | undefined;
  /** What it was started with, or given since. */
  loaded: LoadedConfig | undefined;
  /** away: it does not answer, but may come back. */
  state: "starting" | "ready" | "away" | "down";
  pulse: Pulse;
  startedAt: number;
  pauseMs: number;
  again: NodeJS.Timeout | undefined;
  metrics: readonly ExportedMetric[];
  exited: Promise<void>;
}

export class Workers implements Crew {
  readonly addresses: readonly Endpoint[];
  private readonly options: CrewOptions;
  private readonly fds: readonly number[];
  private readonly shape: SharedShape;
  private readonly sharedFd: number;
  private readonly shared: SharedState;
  private readonly workers: readonly Worker[];
  private readonly lentTo = new Map<number, Worker>();
  private readonly answers = new Map<number, (message: FromWorker | undefined) => void>();
  private loaded: LoadedConfig;
  private departed: readonly ExportedMetric[] = [];
  private nextId = 1;
  private draining = false;
  /** The listening sockets are somebody else's from now on, or nobody's. */
  private leaving = false;
  private pulling: NodeJS.Timeout | undefined;
  private beating: NodeJS.Timeout | undefined;
  private beatAt = 0;

  constructor(options: CrewOptions, addresses: readonly OpenAddress[]) {
    const { config } = options.loaded;
    this.options = options;
    this.loaded = options.loaded;
    this.addresses = addresses.map(({ address }) => address);
    this.fds = addresses.flatMap(({ fds }) => fds);
    this.shape = { workers: config.workers, sessions: config.limits.sessions };
    this.sharedFd = native.createSharedMemory(sharedOctets(this.shape));
    this.shared = new SharedState(native.mapSharedMemory(this.sharedFd), this.shape);
    this.workers = Array.from({ length: config.workers }, (_, number) => ({
      number,
      sockets: socketsOf(addresses, number, config.workers).map((fd) => this.fds.indexOf(fd)),
      child: undefined,
      loaded: undefined,
      state: "down",
      pulse: new Pulse(),
      startedAt: 0,
      pauseMs: FIRST_PAUSE_MS,
      again: undefined,
      metrics: [],
      exited: Promise.resolve(),
    }));
  }

  async start(): Promise<void> {
    try {
      await Promise.all(this.workers.map((worker) => this.spawn(worker)));
    } catch (error) {
      this.abort();
      throw error;
    }
    this.beatAt = performance.now();
    this.beating = setInterval(() => this.beat(), BEAT_MS);
    this.beating.unref();
    if (this.options.observation.metrics === undefined) return;
    this.pulling = setInterval(() => void this.exportMetrics(), PULL_MS);
    this.pulling.unref();
  }

  async reload(loaded: LoadedConfig): Promise<void> {
    const before = this.loaded;
    // Whoever is started from now on begins with it.
    this.loaded = loaded;
    const problems = await this.reloadAll(this.ready(), loaded);
    const [problem] = problems.values();
    if (problem === undefined) return;
    this.loaded = before;
    await this.reloadAll(
      this.ready().filter((worker) => !problems.has(worker)),
      before,
    );
    throw new Error(problem);
  }

  async drain(accept: boolean): Promise<void> {
    this.draining = true;
    // Who connects while one worker still has a transaction is told so, also on the socket of one that has none.
    this.leaving = !accept;
    clearInterval(this.pulling);
    clearInterval(this.beating);
    for (const worker of this.workers) {
      clearTimeout(worker.again);
      if (worker.state === "starting") worker.child?.kill("SIGKILL");
      else this.send(worker, { kind: "drain", accept });
    }
    const patience = this.loaded.config.timeouts.drainMs + DRAIN_EXTRA_MS;
    const timer = setTimeout(() => this.abort(), patience);
    await Promise.all(this.workers.map(({ exited }) => exited));
    clearTimeout(timer);
  }

  async exportMetrics(): Promise<readonly (readonly ExportedMetric[])[]> {
    await Promise.all(this.ready().map((worker) => this.pull(worker)));
    return [...this.workers.map(({ metrics }) => metrics), this.departed];
  }

  notReady(): readonly string[] {
    return this.workers
      .filter(({ state }) => state !== "ready")
      .map(
        ({ number, state }) => `worker ${number} ${state === "away" ? "does not answer" : "is not running"}`,
      );
  }

  get running(): number {
    return this.ready().length;
  }

  abort(): void {
    this.draining = true;
    this.leaving = true;
    for (const { child } of this.workers) child?.kill("SIGKILL");
  }

  predecessorEnded(): void {
    // One of them is enough: what it takes over, the others find locked.
    const [first] = this.ready();
    if (first !== undefined) this.send(first, { kind: "adopt_journals" });
  }

  /** For tests and operators: process ids by number. */
  get pids(): readonly (number | undefined)[] {
    return this.workers.map(({ child }) => child?.pid);
  }

  // -------------------------------------------------------------------------------------------------------- one worker

  /** Resolves when it accepts. */
  private spawn(worker: Worker): Promise<void> {
    const program = fileURLToPath(new URL(`./worker${extname(import.meta.url)}`, import.meta.url));
    const child = spawn(process.execPath, [...process.execArgv, program], {
      stdio: ["ignore", "inherit", "inherit", "ipc", this.sharedFd, ...this.fds],
      serialization: "advanced",
    });
    worker.child = child;
    worker.loaded = this.loaded;
    worker.state = "starting";
    worker.startedAt = performance.now();
    worker.pulse = new Pulse();
    return new Promise((resolve, reject) => {
      let problem: string | undefined;
      const late = setTimeout(() => {
        problem = `did not start within ${START_MS / 1000} s`;
        child.kill("SIGKILL");
      }, START_MS);
      child.on("message", (message: FromWorker) => {
        worker.pulse.heard();
        if (worker.state === "away") this.isBack(worker);
        if (message.kind === "failed") problem = message.text;
        else if (message.kind === "ready") {
          clearTimeout(late);
          this.isReady(worker);
          resolve();
        } else if (message.kind !== "pong") this.answers.get(message.id)?.(message);
      });
      worker.exited = new Promise((exited) => {
        const gone = (why: string): void => {
          clearTimeout(late);
          if (worker.child === child) worker.child = undefined;
          reject(new Error(problem ?? `worker ${worker.number} did not start: ${why}`));
          this.ended(worker, problem ?? why);
          exited();
        };
        // A child that could not be made has no "exit".
        child.once("error", (error) => {
          if (child.pid === undefined) gone(error.message);
        });
        child.once("exit", (status, signal) => gone(signal ?? `exit status ${status}`));
      });
      this.send(worker, this.startMessage(worker));
    });
  }

  private startMessage(worker: Worker): ToWorker {
    const { version, pluginsAddress } = this.options;
    return {
      kind: "start",
      loaded: this.loaded,
      version,
      worker: worker.number,
      shape: this.shape,
      pluginsAddress,
      sockets: worker.sockets,
    };
  }

  private isReady(worker: Worker): void {
    worker.state = "ready";
    // The file was read again while it started.
    if (worker.loaded !== this.loaded) void this.reloadAll([worker], this.loaded);
    for (const socket of worker.sockets) {
      const sibling = this.lentTo.get(socket);
      if (sibling !== undefined) this.send(sibling, { kind: "return", sockets: [socket] });
      this.lentTo.delete(socket);
    }
    this.lend();
  }

  /** Asks everybody, and deals with those who did not answer for too long. */
  private beat(): void {
    const now = performance.now();
    const elapsedMs = now - this.beatAt;
    this.beatAt = now;
    for (const worker of this.workers) {
      if (worker.state !== "ready" && worker.state !== "away") continue;
      const condition = worker.pulse.beat(elapsedMs);
      if (condition === "answers") this.send(worker, { kind: "ping" });
      else if (isDebugged(worker.child?.pid, process.execArgv)) worker.pulse.heard();
      else this.isSilent(worker, condition);
    }
  }

  private isSilent(worker: Worker, condition: "away" | "hung"): void {
    const { number } = worker;
    const { log } = this.options.observation;
    if (worker.state === "ready") {
      log.write("warn", "worker_silent", `worker ${number} does not answer: others accept for it`, {
        worker: number,
      });
      worker.state = "away";
      this.takeBackFrom(worker);
      this.lend();
    }
    if (condition === "away" || worker.child?.killed === true) return;
    log.write("error", "worker_hung", `worker ${number} does not answer any more: it is killed`, {
      worker: number,
    });
    worker.child?.kill("SIGKILL");
  }

  private isBack(worker: Worker): void {
    const { number } = worker;
    this.options.observation.log.write("info", "worker_back", `worker ${number} answers again`, {
      worker: number,
    });
    this.isReady(worker);
  }

  private ended(worker: Worker, why: string): void {
    worker.state = "down";
    this.shared.clear(worker.number);
    const { metrics } = worker;
    worker.metrics = [];
    void countedBy([this.departed, metrics]).then((departed) => {
      this.departed = departed;
    });
    this.takeBackFrom(worker);
    this.lend();
    if (this.draining) return;
    const settled = performance.now() - worker.startedAt > SETTLED_MS;
    const pauseMs = settled ? 0 : worker.pauseMs;
    worker.pauseMs = settled ? FIRST_PAUSE_MS : Math.min(worker.pauseMs * 2, LONGEST_PAUSE_MS);
    this.options.observation.log.write(
      "error",
      "worker_ended",
      `worker ${worker.number} ended (${why}), starting it again in ${pauseMs} ms; its sessions are lost`,
      { worker: worker.number },
    );
    worker.again = setTimeout(() => {
      // Its end tells why, and starts it once more.
      this.spawn(worker).catch(() => {});
    }, pauseMs);
  }

  private takeBackFrom(sibling: Worker): void {
    const lent = [...this.lentTo].filter(([, to]) => to === sibling).map(([socket]) => socket);
    for (const socket of lent) this.lentTo.delete(socket);
    // One that is away reads it when it comes back.
    if (lent.length > 0) this.send(sibling, { kind: "return", sockets: lent });
  }

  /** What those who are away would accept from goes to one who is there. */
  private lend(): void {
    const sibling = this.ready()[0];
    if (sibling === undefined || this.leaving) return;
    const idle = this.workers
      .filter(({ state }) => state !== "ready")
      .flatMap(({ sockets }) => sockets)
      .filter((socket) => !this.lentTo.has(socket));
    for (const socket of idle) this.lentTo.set(socket, sibling);
    if (idle.length > 0) this.send(sibling, { kind: "lend", sockets: idle });
  }

  private ready(): Worker[] {
    return this.workers.filter(({ state }) => state === "ready");
  }

  private send({ child }: Worker, message: ToWorker): void {
    // One that dies meanwhile is met by its "exit".
    if (child?.connected === true) child.send(message, () => {});
  }

  /** Undefined: no answer in time. */
  private ask(
    worker: Worker,
    message: (id: number) => ToWorker,
    ms: number,
  ): Promise<FromWorker | undefined> {
    const id = this.nextId++;
    return new Promise((resolve) => {
      const settle = (answer: FromWorker | undefined): void => {
        clearTimeout(timer);
        worker.child?.removeListener("exit", gone);
        this.answers.delete(id);
        resolve(answer);
      };
      const gone = (): void => settle(undefined);
      const timer = setTimeout(gone, ms);
      worker.child?.once("exit", gone);
      this.answers.set(id, settle);
      this.send(worker, message(id));
    });
  }

  private async pull(worker: Worker): Promise<void> {
    const { child } = worker;
    const answer = await this.ask(worker, (id) => ({ kind: "export", id }), EXPORT_MS);
    if (answer?.kind === "exported" && worker.child === child) worker.metrics = answer.metrics;
  }

  private async reloadAll(
    workers: readonly Worker[],
    loaded: LoadedConfig,
  ): Promise<ReadonlyMap<Worker, string>> {
    const problems = new Map<Worker, string>();
    await Promise.all(
      workers.map(async (worker) => {
        const answer = await this.ask(worker, (id) => ({ kind: "reload", id, loaded }), RELOAD_MS);
        const problem = answer?.kind === "reloaded" ? answer.problem : "no answer in time";
        if (problem === undefined) worker.loaded = loaded;
        // One that died meanwhile begins anew with the new file.
        if (problem !== undefined && worker.state === "ready") problems.set(worker, problem);
      }),
    );
    return problems;
  }
}
