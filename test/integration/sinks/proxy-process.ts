/** The proxy, a destination and a source of mail as processes: what a user runs. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

/** Why no mail can be sent here; undefined: it can. */
export function missingPostfix(): string | undefined {
  for (const name of ["smtp-sink", "smtp-source"]) {
    if (spawnSync(name, ["-?"]).error !== undefined) return `${name} (Postfix) is missing`;
  }
  return undefined;
}

export interface Running {
  readonly port: number;
  /** Lines on stderr so far. */
  readonly log: readonly string[];
  readonly child: ChildProcess;
  end(signal?: NodeJS.Signals): Promise<readonly [number | null, NodeJS.Signals | null]>;
}

/** Postfix's smtp-sink: takes every message and forgets it. */
export async function startDestination(argv: readonly string[] = []): Promise<Running> {
  const port = await freePort();
  const root = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
  const child = spawn("smtp-sink", [...root, ...argv, "-t", "600", `127.0.0.1:${port}`, "1000"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const running = watch(child, port);
  await answers(port, child);
  return running;
}

/** `warp` towards one destination, on a port that was free. Resolves when it says that it listens. */
export async function startProxy(
  destination: Running,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [
      program,
      "--ip",
      "127.0.0.1",
      "--port",
      String(port),
      "--destination",
      `127.0.0.1:${destination.port}`,
      ...argv,
    ],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } },
  );
  const running = watch(child, port);
  const listens = (async () => {
    for await (const line of createInterface({ input: child.stdout! }))
      if (line.includes("listens to")) return true;
    return false;
  })();
  if (!(await listens)) throw new Error(`warp ended: ${running.log.join("; ")}`);
  child.stdout!.resume();
  return running;
}

/** Sends `messages` over `sessions` connections at once, one connection per message, and waits for the last 250. */
export async function sendMail(
  proxy: Running,
  messages: number,
  options: { readonly sessions?: number; readonly octets?: number } = {},
): Promise<void> {
  const { sessions = 20, octets = 1024 } = options;
  const argv = ["-s", String(sessions), "-m", String(messages), "-l", String(octets)];
  const child = spawn(
    "smtp-source",
    [...argv, "-f", "alice@example.local", "-t", "bob@example.test", `127.0.0.1:${proxy.port}`],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const said: string[] = [];
  createInterface({ input: child.stderr! }).on("line", (line) => said.push(line));
  const [status] = await once(child, "exit");
  if (status !== 0) throw new Error(`smtp-source ended with ${status}: ${said.join("; ")}`);
}

function watch(child: ChildProcess, port: number): Running {
  const log: string[] = [];
  createInterface({ input: child.stderr! }).on("line", (line) => {
    // The last ones suffice to tell what went wrong.
    log.push(line);
    if (log.length > 1000) log.shift();
  });
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  return {
    port,
    log,
    child,
    end: (signal = "SIGTERM") => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return exited;
    },
  };
}

async function answers(port: number, child: ChildProcess): Promise<void> {
  for (const until = Date.now() + 10_000; ; ) {
    const socket = connect(port, "127.0.0.1");
    const greeted = await Promise.race([once(socket, "data"), once(socket, "error")]).catch((error) => [
      error,
    ]);
    socket.destroy();
    if (Buffer.isBuffer(greeted[0])) return;
    if (child.exitCode !== null || Date.now() > until) throw new Error("the destination does not answer");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
