/** `warp hook` as a process of its own, for tests that kill it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const program = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

export interface HookProcess {
  readonly address: string;
  /** Lines on stderr so far. */
  readonly log: readonly string[];
  readonly child: ChildProcess;
  /** Sends the signal and waits for the end; gives status and signal. */
  end(signal: NodeJS.Signals): Promise<readonly [number | null, NodeJS.Signals | null]>;
}

/** Starts it and resolves when it says that it listens; rejects with what it said when it ends before. */
export async function startHook(
  kinds: string,
  listen: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<HookProcess> {
  const child = spawn(process.execPath, [program, "hook", kinds, "--listen", listen, ...argv], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  const log: string[] = [];
  createInterface({ input: child.stderr! }).on("line", (line) => log.push(line));
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const first = once(createInterface({ input: child.stdout! }), "line") as Promise<[string]>;
  const started = await Promise.race([first, exited.then(() => undefined)]);
  const address = / listens to (\S+)$/.exec(started?.[0] ?? "")?.[1];
  if (address === undefined) throw new Error(`warp hook ended: ${log.join("; ")}`);
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  };
  return { address, log, child, end };
}
