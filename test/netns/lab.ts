/**
 * A small network on this machine: network namespaces joined by veth pairs, with addresses of the documentation ranges.
 * Nothing leaves the machine. A lab ends everything that it started, also when the test process ends for another reason;
 * what a killed process left behind is removed by the next one.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = fileURLToPath(new URL("../..", import.meta.url));

/** False where labs can be made, else what is missing: the value of a test's `skip`. */
export function labUnavailable(...commands: string[]): string | false {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  const missing = ["ip", "nft", ...commands].filter((name) => !hasCommand(name));
  if (missing.length > 0) return `missing: ${missing.join(", ")}`;
  return false;
}

export function hasCommand(name: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${name}`], { env: environment(), stdio: "ignore" }).status === 0;
}

export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  /** Default 30,000. */
  readonly timeoutMs?: number;
}

/** One network namespace; commands run inside it see its network and this machine's files. */
export class Namespace {
  readonly name: string;
  readonly #lab: Lab;

  constructor(lab: Lab, name: string) {
    this.#lab = lab;
    this.name = name;
  }

  /** Runs to the end; throws with the output unless it exits with 0. */
  run(command: string, ...args: string[]): string {
    const done = this.attempt(command, args);
    if (done.status === 0) return done.stdout;
    throw new Error(`${command} ${args.join(" ")}: exit ${done.status}\n${done.stdout}${done.stderr}`);
  }

  /** Runs to the end, whatever the end. */
  attempt(command: string, args: readonly string[], options: RunOptions = {}): Finished {
    const done = spawnSync("ip", ["netns", "exec", this.name, command, ...args], {
      cwd: root,
      encoding: "utf8",
      env: { ...environment(), ...options.env },
      timeout: options.timeoutMs ?? 30_000,
      killSignal: "SIGKILL",
      maxBuffer: 64 * 1024 * 1024,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    if (done.error !== undefined) throw done.error;
    return { status: done.status ?? -1, stdout: done.stdout, stderr: done.stderr };
  }

  /** As `attempt`, without blocking this process, for when servers inside it have to answer. */
  async complete(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    const program = this.start(command, args, options.env);
    program.child.stdin?.end(options.input ?? "");
    const timer = setTimeout(() => program.child.kill("SIGKILL"), options.timeoutMs ?? 30_000);
    const status = await program.ended;
    clearTimeout(timer);
    return { status, stdout: program.stdout, stderr: program.stderr };
  }

  /** Starts a program that stays; the lab ends it. */
  start(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Program {
    const child = spawn("ip", ["netns", "exec", this.name, command, ...args], {
      cwd: root,
      env: { ...environment(), ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const program = new Program(command, child);
    this.#lab.own(program);
    return program;
  }

  /** A TypeScript program of the checkout, on the Node that runs the tests. */
  startNode(path: string, ...args: string[]): Program {
    return this.start(process.execPath, [join(root, path), ...args]);
  }
}

/** A running program: its output by lines, and its end. */
export class Program {
  readonly child: ChildProcess;
  /** The exit status; 128 and the number of the signal are not told apart from -1. */
  readonly ended: Promise<number>;
  stdout = "";
  stderr = "";
  readonly #name: string;
  readonly #lines: string[] = [];
  readonly #watchers = new Set<() => void>();
  #done = false;

  constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.child = child;
    const takeLine = (line: string) => {
      this.#lines.push(line);
      this.#wake();
    };
    createInterface({ input: child.stdout! }).on("line", (line) => {
      this.stdout += `${line}\n`;
      takeLine(line);
    });
    createInterface({ input: child.stderr! }).on("line", (line) => {
      this.stderr += `${line}\n`;
      takeLine(line);
    });
    // A program that ended no longer reads what a test still writes to it.
    child.stdin?.on("error", () => {});
    this.ended = new Promise((resolve) => {
      child.on("error", (error) => {
        this.stderr += `${error.message}\n`;
      });
      child.on("close", (code) => {
        this.#done = true;
        this.#wake();
        resolve(code ?? -1);
      });
    });
  }

  /** The lines of stdout and stderr so far, in the order in which they came. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Resolves once no line has come for 200 ms: under load a line may be written some ms after what it tells. */
  async quiet(): Promise<void> {
    for (let seen = -1; seen !== this.#lines.length; ) {
      seen = this.#lines.length;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** The first line, past or to come, that matches. */
  line(pattern: RegExp, timeoutMs = 15_000): Promise<string> {
    return this.until(
      () => this.#lines.find((line) => pattern.test(line)),
      `a line like ${pattern}`,
      timeoutMs,
    );
  }

  /** The first value that `find` gives, asked again after each line. Rejects at the time-out and if the program ends. */
  until<Value>(find: () => Value | undefined, what: string, timeoutMs = 15_000): Promise<Value> {
    return new Promise((resolve, reject) => {
      const finish = () => {
        clearTimeout(timer);
        this.#watchers.delete(look);
      };
      const look = () => {
        const value = find();
        if (value !== undefined) {
          finish();
          resolve(value);
        } else if (this.#done) {
          finish();
          reject(new Error(`${this.#name} ended without ${what}\n${this.#tail()}`));
        }
      };
      const timer = setTimeout(() => {
        finish();
        reject(new Error(`${this.#name}: no ${what} within ${timeoutMs} ms\n${this.#tail()}`));
      }, timeoutMs);
      this.#watchers.add(look);
      look();
    });
  }

  /** Asks it to end, and ends it after 5 s. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    if (!this.#done) this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    const status = await this.ended;
    clearTimeout(timer);
    return status;
  }

  #wake(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #tail(): string {
    return this.#lines.slice(-40).join("\n");
  }
}

let labCount = 0;

export class Lab {
  /** A folder for configurations, queues and keys; removed with the lab. */
  readonly folder: string;
  readonly #prefix: string;
  readonly #namespaces: Namespace[] = [];
  readonly #programs: Program[] = [];
  readonly #endings: (() => void | Promise<void>)[] = [];
  readonly #removeAtExit = () => this.#removeNow();

  constructor() {
    removeStale();
    labCount += 1;
    this.#prefix = `warptest-${process.pid}-${labCount}-`;
    this.folder = mkdtempSync(join(tmpdir(), "warp-netns-"));
    // Mail servers reach their folders below it as users of their own.
    chmodSync(this.folder, 0o755);
    process.on("exit", this.#removeAtExit);
  }

  namespace(name: string): Namespace {
    const namespace = new Namespace(this, `${this.#prefix}${name}`);
    ip("netns", "add", namespace.name);
    this.#namespaces.push(namespace);
    namespace.run("ip", "link", "set", "lo", "up");
    return namespace;
  }

  /** A cable between two namespaces; each end has a name and its addresses ("192.0.2.1/24"), usable at once. */
  link(
    a: Namespace,
    aName: string,
    aAddresses: string[],
    b: Namespace,
    bName: string,
    bAddresses: string[],
  ): void {
    ip("link", "add", aName, "netns", a.name, "type", "veth", "peer", "name", bName, "netns", b.name);
    for (const [namespace, name, addresses] of [
      [a, aName, aAddresses],
      [b, bName, bAddresses],
    ] as const) {
      for (const address of addresses) {
        namespace.run(
          "ip",
          "address",
          "add",
          address,
          "dev",
          name,
          ...(address.includes(":") ? ["nodad"] : []),
        );
      }
      namespace.run("ip", "link", "set", name, "up");
    }
  }

  own(program: Program): void {
    this.#programs.push(program);
  }

  /** Called when the lab ends, last one first, before its programs are ended. */
  onEnd(ending: () => void | Promise<void>): void {
    this.#endings.push(ending);
  }

  async end(): Promise<void> {
    for (const ending of this.#endings.splice(0).reverse()) await ending();
    await Promise.all(this.#programs.map((program) => program.stop()));
    process.off("exit", this.#removeAtExit);
    this.#removeNow();
  }

  #removeNow(): void {
    for (const program of this.#programs) program.child.kill("SIGKILL");
    for (const { name } of this.#namespaces.splice(0)) removeNamespace(name);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function ip(...args: string[]): string {
  const done = spawnSync("ip", args, { encoding: "utf8", env: environment() });
  if (done.status !== 0) throw new Error(`ip ${args.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/** What still runs inside goes first: a namespace lives as long as a process in it. */
function removeNamespace(name: string): void {
  const pids =
    spawnSync("ip", ["netns", "pids", name], { encoding: "utf8", env: environment() }).stdout ?? "";
  for (const pid of pids.split("\n").filter(Boolean)) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has just ended by itself.
    }
  }
  spawnSync("ip", ["netns", "delete", name], { env: environment() });
}

/** Namespaces of test processes that are no more. */
function removeStale(): void {
  for (const line of ip("netns", "list").split("\n")) {
    const [name, pid] = /^warptest-(\d+)-\S+/.exec(line) ?? [];
    if (name !== undefined && !existsSync(`/proc/${pid}`)) removeNamespace(name);
  }
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
}
