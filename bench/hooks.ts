/**
 * What hooks cost: messages per second and CPU per message of the proxy and its hooks, with 1 and 2 observers and with a
 * filter that relays all (TypeScript, Go), as ratios to no hooks in the same round; and events per second at saturation.
 *
 *     npm run bench -- hooks [--quick] [--only observers,filters,large,saturation]
 *
 * Needs Postfix's smtp-source and smtp-sink. The hook servers and both ends of the mail share the machine with the proxy:
 * its CPU is what a machine of its own would feel.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assemble, hookSettings } from "../test/integration/hooks/server.ts";
import { comm } from "../test/unit/hooks/events.ts";
import type { Load } from "./relay/load.ts";
import { Processes } from "./relay/processes.ts";
import { type Contender, chosenParts, Programs, smallMessages, takeTurns, warmUp } from "./turns.ts";

const { quick, only } = chosenParts(["observers", "filters", "large", "saturation"]);
const rounds = quick ? 3 : 9;
const folder = mkdtempSync(join(tmpdir(), "warp-bench-"));
const processes = new Processes();
const programs = new Programs();
let sockets = 0;

interface Hook {
  readonly address: string;
  readonly pid: number;
}

try {
  await main();
} finally {
  await programs.end();
  processes.end();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);

async function main(): Promise<void> {
  const { port } = await processes.sink();
  const none = await programs.warp("no hooks", port, [], {}, []);
  const observers = only.includes("observers") || only.includes("large") ? await observing(port) : [];
  const filters = only.includes("filters") || only.includes("large") ? await filtering(port) : [];
  if (only.includes("observers")) await small([none, ...observers]);
  if (only.includes("filters")) await small([none, ...filters]);
  if (only.includes("large")) {
    const contenders = [none, ...observers.slice(0, 2), ...filters];
    const load: Load = { octets: 1_000_000, messages: 120, sessions: 8, reused: true };
    await warmUp(contenders, load, 120);
    await takeTurns("1 MB, connections used again", contenders, load, rounds);
  }
  if (only.includes("saturation")) await saturation((await hookServer("observe")).address);
}

async function small(contenders: readonly Contender[]): Promise<void> {
  for (const reused of [false, true]) await smallMessages(contenders, { quick, reused });
}

async function observing(port: number): Promise<Contender[]> {
  const hooks = [await hookServer("observe"), await hookServer("observe")];
  const flags = hooks.map(({ address }, i) => ["--observer", `o${i}=${address}`]);
  const [one = []] = flags;
  const pids = hooks.map(({ pid }) => pid);
  const journal = ["--journal", join(folder, "journal")];
  return [
    await programs.warp("1 observer", port, one, {}, pids.slice(0, 1)),
    await programs.warp("2 observers", port, flags.flat(), {}, pids),
    await programs.warp("1 observer, journal", port, [...one, ...journal], {}, pids.slice(0, 1)),
  ];
}

async function filtering(port: number): Promise<Contender[]> {
  const typescript = await hookServer("relay");
  const filter = (name: string, { address, pid }: Hook) =>
    programs.warp(`filter, ${name}`, port, ["--filter", `f=${address}`], {}, [pid]);
  const go = await goFilter();
  return [await filter("TypeScript", typescript), ...(go === undefined ? [] : [await filter("Go", go)])];
}

/** Events per second from `emit` to the acknowledgement, by one observer in a process of its own. */
async function saturation(address: string): Promise<void> {
  const { hooks } = assemble([hookSettings("o", address, { roles: ["observe"] })]);
  await hooks.start();
  const count = quick ? 100_000 : 300_000;
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

async function hookServer(kind: "relay" | "observe"): Promise<Hook> {
  const address = `unix:${folder}/${sockets++}.sock`;
  const script = fileURLToPath(new URL("./hook-server.ts", import.meta.url));
  return { address, pid: await programs.start(process.execPath, [script, kind, address], "ready") };
}

async function goFilter(): Promise<Hook | undefined> {
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
  const address = `unix:${folder}/${sockets++}.sock`;
  return { address, pid: await programs.start(program, [address], "ready") };
}
