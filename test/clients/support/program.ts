/**
 * The programs that these tests run: hooks in Python and Go, the proxy, tools. Each is waited for by a line that it
 * prints, and ended with the test; none outlives it.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../..", import.meta.url));
/** The sources, unless WARP_TEST_MAIN names another build of the program. */
export const main = join(root, process.env.WARP_TEST_MAIN ?? "src/cli/main.ts");

const stepMs = 30_000;
const path = [join(root, ".cache/venv/bin"), process.env.PATH ?? "", "/usr/local/go/bin", "/usr/sbin"].join(
  delimiter,
);
export const environment = { ...process.env, PATH: path, PYTHONUNBUFFERED: "1" };

/** What is missing for these tests, as the reason to skip them; false: nothing. With CI=true that is a failure. */
export function unavailable(...commands: string[]): string | false {
  const missing = commands.filter((name) => !path.split(delimiter).some((at) => existsSync(join(at, name))));
  const packages = commands.includes("python3") && missing.length === 0 && !hasPackage() ? ["warp_hook"] : [];
  const reason = [...missing, ...packages].join(", ");
  if (reason === "") return false;
  if (process.env.CI === "true") throw new Error(`missing: ${reason}`);
  return `missing: ${reason}`;
}

function hasPackage(): boolean {
  const arguments_ = ["-c", "import warp_hook"];
  return spawnSync("python3", arguments_, { env: environment, timeout: stepMs }).status === 0;
}

export interface Finished {
  readonly status: number | null;
  readonly output: string;
}

/** Runs a command to its end, both outputs together. Rejects after `timeoutMs`. */
export async function finished(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<Finished> {
  const program = new Program(command, args, options.cwd);
  program.child.stdin?.end(options.input ?? "");
  const status = await program.ended(options.timeoutMs ?? 4 * stepMs);
  return { status, output: program.output };
}

export class Program {
  readonly child: ChildProcess;
  readonly #closed: Promise<number | null>;
  #output = "";
  #waiting: (() => void)[] = [];
  #isClosed = false;

  constructor(
    command: string,
    args: readonly string[],
    cwd: string = root,
    env: NodeJS.ProcessEnv = environment,
  ) {
    this.child = spawn(command, args, { cwd, env, stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
        this.#wake();
      });
    }
    this.#closed = new Promise((resolve) => {
      this.child.on("error", (error) => {
        this.#output += `${command}: ${error.message}\n`;
        this.#isClosed = true;
        this.#wake();
        resolve(127);
      });
      this.child.on("close", (status) => {
        this.#isClosed = true;
        this.#wake();
        resolve(status);
      });
    });
  }

  get output(): string {
    return this.#output;
  }

  /** The first match in what the program has printed, or prints within half a minute. */
  async line(pattern: RegExp): Promise<RegExpExecArray> {
    const end = Date.now() + stepMs;
    for (;;) {
      const found = pattern.exec(this.#output);
      if (found !== null) return found;
      const left = end - Date.now();
      if (left <= 0 || this.#isClosed) throw new Error(`no ${pattern} in:\n${this.#output}`);
      await this.#change(left);
    }
  }

  /** SIGTERM (or another); the exit status. Killed, and rejects, if that does not end it. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.child.kill(signal);
    return this.ended(stepMs);
  }

  async ended(timeoutMs: number): Promise<number | null> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.child.kill("SIGKILL");
        reject(new Error(`did not end within ${timeoutMs} ms:\n${this.#output}`));
      }, timeoutMs);
    });
    try {
      return await Promise.race([this.#closed, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }
}
