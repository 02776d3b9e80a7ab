/**
 * `--plugins sqlite,file`: the bundled hook servers as one child of the proxy, over a Unix socket in a folder that only
 * this user can enter. To the proxy it is an observer like any other. A child that dies is started again, with growing
 * pauses; what it had not acknowledged is sent again by the hook client, so nothing is lost meanwhile. It stops when the
 * proxy says so, after the last events were handed over, and also when the proxy is gone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** A plugin's setting is missing or wrong: one line, which ends the proxy's start. */
export class PluginError extends Error {
  override readonly name = "PluginError";
}

export interface PluginDependencies {
  /** One line about the child: it died, it is back. */
  readonly log: (line: string) => void;
  /** The program; default: this one's `cli/main`. */
  readonly program?: string;
  /** Where the socket's folder is made; default: the system's temporary directory. */
  readonly directory?: string;
  /** Not before this: another process still has them, and they bear only one (a file that is appended to). */
  readonly after?: Promise<void>;
  /** How long the first start is waited for before the proxy goes on without it. ms, default 30,000. */
  readonly startMs?: number;
  /** Pauses before starting again, the first and the longest. ms, default 500 and 30,000. */
  readonly backoffMs?: { readonly first: number; readonly last: number };
}

export interface Plugins {
  /** What to name the observer: stable, whatever the kinds are, so that its journal goes on. */
  readonly name: "plugins";
  /** `unix:/…`, for the hook client. */
  readonly address: string;
  readonly kinds: readonly string[];
  /** The process id of the child, where it is running. */
  readonly pid: number | undefined;
  /** How often it was started again. */
  readonly restarts: number;
  /** Files are opened anew (SIGHUP). */
  reopen(): void;
  /** Ends the child: asks, waits `graceMs` (default 15,000), kills. Idempotent. */
  stop(graceMs?: number): Promise<void>;
}

type Told = { readonly ready?: string; readonly failed?: string };
const settledMs = 60_000;

/**
 * Starts the kinds, with `settings` by kind (the configuration's sections). Resolves when the child listens; rejects with
 * a `PluginError` when it says that it can't. A child that is still busy after `startMs` (adding columns to years of rows)
 * is left to it: the observer connects when it listens.
 */
export async function startPlugins(
  kinds: readonly string[],
  settings: Readonly<Record<string, unknown>>,
  dependencies: PluginDependencies,
): Promise<Plugins> {
  const directory = await mkdtemp(join(dependencies.directory ?? tmpdir(), "warp-"));
  const supervisor = new Supervisor(kinds, settings, dependencies, directory);
  try {
    await supervisor.firstStart();
    return supervisor;
  } catch (error) {
    await supervisor.stop(0);
    throw error;
  }
}

class Supervisor implements Plugins {
  readonly name = "plugins";
  readonly address: string;
  readonly kinds: readonly string[];
  restarts = 0;
  readonly #settings: string;
  readonly #dependencies: PluginDependencies;
  readonly #directory: string;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #again: NodeJS.Timeout | undefined;
  #pauseMs: number;
  #stopped: Promise<void> | undefined;

  constructor(
    kinds: readonly string[],
    settings: Readonly<Record<string, unknown>>,
    dependencies: PluginDependencies,
    directory: string,
  ) {
    this.kinds = kinds;
    this.#settings = JSON.stringify(settings);
    this.#dependencies = dependencies;
    this.#directory = directory;
    this.address = `unix:${join(directory, "hook.sock")}`;
    this.#pauseMs = this.#backoff.first;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async firstStart(): Promise<void> {
    const { startMs = 30_000, after } = this.#dependencies;
    if (after !== undefined) {
      // Whoever needs them connects again and again until they are there.
      void after.then(() => (this.#stopped === undefined ? this.#start() : undefined));
      return;
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), startMs);
    });
    const answer = await Promise.race([this.#start(), late]);
    clearTimeout(timer);
    if (answer === "late") {
      this.#dependencies.log(
        `${this.#label} are not ready after ${startMs} ms; going on, they get their events later`,
      );
    } else if (answer.failed !== undefined) throw new PluginError(answer.failed);
  }

  reopen(): void {
    this.#child?.kill("SIGHUP");
  }

  stop(graceMs = 15_000): Promise<void> {
    this.#stopped ??= this.#end(graceMs);
    return this.#stopped;
  }

  get #label(): string {
    return `the plugins ${this.kinds.join(",")}`;
  }
  get #backoff(): { readonly first: number; readonly last: number } {
    return this.#dependencies.backoffMs ?? { first: 500, last: 30_000 };
  }

  /** Resolves with the child's first word; a death before it is one too. */
  #start(): Promise<Told> {
    const startedAt = performance.now();
    const program = this.#dependencies.program ?? ownProgram();
    const child = spawn(
      process.execPath,
      // Node 24 calls node:sqlite experimental, on stderr, at each start.
      [
        "--disable-warning=ExperimentalWarning",
        program,
        "hook",
        this.kinds.join(","),
        "--listen",
        this.address,
        "--supervised",
      ],
      {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
        env: { ...process.env, WARP_HOOK_SETTINGS: this.#settings },
      },
    );
    this.#child = child;
    return new Promise((resolve) => {
      let why: string | undefined;
      child.on("message", (told: Told) => {
        why = told.failed;
        resolve(told);
      });
      // A child that could not be started has no exit.
      child.on("error", (error) => {
        why ??= error.message;
        if (child.pid === undefined) child.emit("exit", null, null);
      });
      this.#exited = new Promise((exited) => {
        child.once("exit", (status, signal) => {
          resolve({ failed: `${this.#label} did not start: ${why ?? ending(status, signal)}` });
          exited();
          this.#ended(child, why ?? ending(status, signal), performance.now() - startedAt);
        });
      });
    });
  }

  #ended(child: ChildProcess, why: string, aliveMs: number): void {
    if (this.#child === child) this.#child = undefined;
    if (this.#stopped !== undefined) return;
    if (aliveMs > settledMs) this.#pauseMs = this.#backoff.first;
    this.#dependencies.log(`${this.#label} ended (${why}), starting them again in ${this.#pauseMs} ms`);
    this.#again = setTimeout(() => {
      this.restarts += 1;
      void this.#start();
    }, this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#backoff.last);
  }

  async #end(graceMs: number): Promise<void> {
    clearTimeout(this.#again);
    const child = this.#child;
    if (child !== undefined) {
      if (child.connected) child.send("stop", () => {});
      const kill = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await this.#exited;
      clearTimeout(kill);
    }
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function ending(status: number | null, signal: string | null): string {
  return signal === null ? `exit status ${status}` : signal;
}

/** `cli/main` beside us, in the sources (.ts) and in the build (.js). */
function ownProgram(): string {
  return fileURLToPath(new URL(`../cli/main${extname(import.meta.url)}`, import.meta.url));
}
