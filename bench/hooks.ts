/**
 * What hooks cost: messages per second and the proxy's CPU per message with 0, 1 and 2 observers, and with a filter that
 * relays all (TypeScript, Go), as ratios to no hooks in the same run; and events per second at saturation.
 *
 *     node bench/hooks.ts [ROUNDS]      (default 3; needs Postfix' smtp-source and smtp-sink)
 *
 * Each round measures every case once, so that what else the machine does falls on all of them; the median counts. The
 * hook servers and both ends of the mail share the machine with the proxy: its CPU is what a machine of its own would feel.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assemble, hookSettings } from "../test/integration/hooks/server.ts";
import { Warp } from "../test/integration/hooks/warp.ts";
import { comm } from "../test/unit/hooks/events.ts";

const rounds = Number(process.argv[2] ?? 3);
const folder = mkdtempSync(join(tmpdir(), "bench-hooks-"));
const children: ChildProcess[] = [];
let sockets = 0;
const SINK_PORT = 20_000 + (process.pid % 10_000);

interface Case {
  readonly name: string;
  readonly flags: readonly string[];
}
interface Mail {
  readonly octets: number;
  readonly messages: number;
  /** Many messages over one connection. */
  readonly reuse: boolean;
}
interface Result {
  readonly perSecond: number;
  readonly cpuMs: number;
}

try {
  await main();
} finally {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);

async function main(): Promise<void> {
  if (spawnSync("which", ["smtp-source", "smtp-sink"]).status !== 0)
    throw new Error("smtp-source and smtp-sink are missing");
  await startChild("smtp-sink", ["-u", "nobody", `127.0.0.1:${SINK_PORT}`, "1000"], undefined);
  const observers = [await hookServer("observe"), await hookServer("observe")];
  const filter = await hookServer("relay");
  const go = await goFilter();
  const observing = observers.map((address, i) => ["--observer", `o${i}=${address}`]);
  const cases: Case[] = [
    { name: "no hooks", flags: [] },
    { name: "1 observer", flags: observing[0] ?? [] },
    { name: "2 observers", flags: observing.flat() },
    { name: "1 observer, journal", flags: [...(observing[0] ?? []), "--journal", join(folder, "journal")] },
    { name: "filter, TypeScript", flags: ["--filter", `f=${filter}`] },
    ...(go === undefined ? [] : [{ name: "filter, Go", flags: ["--filter", `f=${go}`] }]),
  ];
  await compare("4 KB, a connection for each message", cases, { octets: 4096, messages: 2000, reuse: false });
  await compare("4 KB, connections used again", cases, { octets: 4096, messages: 6000, reuse: true });
  const without = cases.filter(({ name }) => !name.includes("journal"));
  await compare("1 MB, connections used again", without, { octets: 1_000_000, messages: 120, reuse: true });
  await saturation(observers[0] as string);
}

async function compare(title: string, cases: readonly Case[], mail: Mail): Promise<void> {
  const results = new Map<string, Result[]>(cases.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const each of cases) results.get(each.name)?.push(await measure(each, mail));
  }
  const base = median(results.get("no hooks") ?? []);
  console.log(`\n${title}`);
  for (const [name, all] of results) {
    const { perSecond, cpuMs } = median(all);
    console.log(
      `  ${name.padEnd(22)} ${perSecond.toFixed(0).padStart(6)} messages/s (${(perSecond / base.perSecond).toFixed(2)})` +
        `   ${cpuMs.toFixed(2).padStart(6)} ms CPU each (${(cpuMs / base.cpuMs).toFixed(2)})`,
    );
  }
}

async function measure({ flags }: Case, mail: Mail): Promise<Result> {
  const { messages } = mail;
  const warp = await Warp.start(SINK_PORT, [...flags, "--log-level", "error"]);
  try {
    await load(warp.port, { ...mail, messages: Math.ceil(messages / 3) });
    const cpu = warp.cpuMs;
    const begin = performance.now();
    await load(warp.port, mail);
    const seconds = (performance.now() - begin) / 1000;
    return { perSecond: messages / seconds, cpuMs: (warp.cpuMs - cpu) / messages };
  } finally {
    await warp.end("SIGTERM");
  }
}

/** 8 sessions at a time. */
async function load(port: number, { octets, messages, reuse }: Mail): Promise<void> {
  const addresses = ["-f", "alice@example.org", "-t", "bob@example.net"];
  const argv = [
    "-s",
    "8",
    "-m",
    `${messages}`,
    "-l",
    `${octets}`,
    ...(reuse ? ["-d"] : []),
    ...addresses,
    `127.0.0.1:${port}`,
  ];
  const child = spawn("smtp-source", argv, { stdio: ["ignore", "ignore", "inherit"] });
  const [status] = (await once(child, "close")) as [number];
  if (status !== 0) throw new Error(`smtp-source ended with ${status}`);
}

/** Events per second from `emit` to the acknowledgement, by one observer in a process of its own. */
async function saturation(address: string): Promise<void> {
  const { hooks } = assemble([hookSettings("o", address, { roles: ["observe"] })]);
  await hooks.start();
  const count = 300_000;
  const line = comm();
  const cpu = process.cpuUsage();
  const begin = performance.now();
  for (let i = 0; i < count; i++) {
    hooks.sinks[0]?.emit(line);
    if (i % 500 === 0) await new Promise(setImmediate);
  }
  await hooks.stop(60_000);
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  console.log(
    `\nevents at saturation   ${(count / seconds).toFixed(0)} events/s, ${((user + system) / count).toFixed(2)} µs CPU each in the proxy`,
  );
}

function median(results: readonly Result[]): Result {
  const middle = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number;
  return {
    perSecond: middle(results.map(({ perSecond }) => perSecond)),
    cpuMs: middle(results.map(({ cpuMs }) => cpuMs)),
  };
}

async function hookServer(kind: "relay" | "observe"): Promise<string> {
  const address = `unix:${folder}/${sockets++}.sock`;
  const script = fileURLToPath(new URL("./hook-server.ts", import.meta.url));
  await startChild(process.execPath, [script, kind, address], "ready");
  return address;
}

async function goFilter(): Promise<string | undefined> {
  const source = fileURLToPath(new URL("./relay-all", import.meta.url));
  const program = join(folder, "relay-all");
  try {
    execFileSync("go", ["build", "-mod=mod", "-o", program, "."], {
      cwd: source,
      stdio: ["ignore", "ignore", "pipe"],
    });
  } catch (error) {
    console.log(`filter in Go: not measured: ${(error as Error).message.split("\n")[0]}`);
    return undefined;
  }
  if (!existsSync(program)) return undefined;
  const address = `unix:${folder}/${sockets++}.sock`;
  await startChild(program, [address], "ready");
  return address;
}

function startChild(program: string, argv: readonly string[], ready: string | undefined): Promise<void> {
  const child = spawn(program, argv, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  if (ready === undefined) return new Promise((resolve) => setTimeout(resolve, 300));
  return new Promise((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes(ready)) resolve();
    });
    child.once("close", (status) => reject(new Error(`${program} ended with ${status}`)));
  });
}
