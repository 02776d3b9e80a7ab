/** The real program as a process of its own, started and ended by tests; everything is ended with the test process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The sources, unless WARP_TEST_MAIN names another build of the program. */
export const main =
  process.env.WARP_TEST_MAIN ?? fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

const LINE_MS = 20_000;
const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

export interface StartOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Descriptors from 3 on. */
  readonly fds?: readonly number[];
  /** A descriptor of the test's; by default a pipe whose lines are in `lines`. */
  readonly stderr?: number;
  /** A command that runs it: words before node's. */
  readonly under?: readonly string[];
}

export class Warp {
  readonly child: ChildProcess;
  /** Of stdout and stderr, as they came. */
  readonly lines: string[] = [];
  readonly closed: Promise<number>;
  private readonly waiting = new Set<() => void>();

  private constructor(child: ChildProcess) {
    this.child = child;
    children.add(child);
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on("line", (line) => {
        this.lines.push(line);
        for (const look of [...this.waiting]) look();
      });
    }
    this.closed = once(child, "close").then(([status, signal]) => {
      children.delete(child);
      for (const look of [...this.waiting]) look();
      return signal === null ? Number(status) : -1;
    });
  }

  /** Starts it; does not wait. */
  static launch(flags: readonly string[], { env, fds = [], stderr, under = [] }: StartOptions = {}): Warp {
    const words = [...under, process.execPath, main, ...flags];
    const child = spawn(words[0] as string, words.slice(1), {
      stdio: ["ignore", "pipe", stderr ?? "pipe", ...fds],
      env: { ...process.env, ...env },
    });
    return new Warp(child);
  }

  /** Starts it and waits until it says that it listens. */
  static async start(flags: readonly string[], options: StartOptions = {}): Promise<Warp> {
    const warp = Warp.launch(flags, options);
    await warp.line(/^warp listens to /);
    return warp;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** The first line that matches, now or later; `from`: lines before that are not looked at. */
  async line(pattern: RegExp, from = 0): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    let look: (() => void) | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        const fail = (why: string): void =>
          reject(new Error(`${why}: no line ${pattern} in\n${this.lines.slice(-40).join("\n")}`));
        look = () => {
          const found = this.lines.slice(from).find((line) => pattern.test(line));
          if (found !== undefined) resolve(found);
          else if (this.child.exitCode !== null || this.child.signalCode !== null) {
            // What it said last may still be on its way.
            void this.closed.then(() => fail(`warp ended with ${this.child.exitCode}`));
          }
        };
        this.waiting.add(look);
        timer = setTimeout(() => fail("too late"), LINE_MS);
        look();
      });
    } finally {
      clearTimeout(timer);
      if (look !== undefined) this.waiting.delete(look);
    }
  }

  /** Every record of the log with that code. */
  records(code: string): Record<string, unknown>[] {
    return this.lines
      .filter((line) => line.includes(`"code":"${code}"`))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** Waits for a record with that code. */
  async record(code: string, from = 0): Promise<Record<string, unknown>> {
    return JSON.parse(await this.line(new RegExp(`"code":"${code}"`), from)) as Record<string, unknown>;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Asks it to end; gives its exit status. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    if (this.child.exitCode !== null || this.child.signalCode !== null)
      return signal === "SIGKILL" ? -1 : this.closed;
    const exited = once(this.child, "exit");
    this.child.kill(signal);
    if (signal !== "SIGKILL") return this.closed;
    // Whoever it started may hold its output open.
    await exited;
    return -1;
  }

  /** Waits until a process that this one started says that it listens; their output is one. */
  async listensAgain(): Promise<void> {
    const first = this.lines.findIndex((line) => line.includes('"code":"listening"'));
    await this.line(/"code":"listening"/, first + 1);
  }
}

export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer();
  server.listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** A folder that is gone with the test. */
export function folder(test: { after(run: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), "warp-process-"));
  test.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
