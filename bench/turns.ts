/**
 * Proxies in turns: each runs for as long as the benchmark does, is warmed up, and is measured once per round, so that what
 * else the machine does meets all of them. Ratios are to the first one in the same round: median and quartiles.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { inTurns, median, quantile } from "./relay/compare.ts";
import { type Load, type Measured, send } from "./relay/load.ts";
import { cpuMs, type Target } from "./relay/processes.ts";

/** A proxy, and the processes of its hooks. */
export interface Contender extends Target {
  readonly hooks: readonly number[];
}
interface Turn extends Measured {
  /** CPU of the hooks per 1,000 messages, ms. */
  readonly hooksMs: number;
  /** Share of the machine that nobody used meanwhile. */
  readonly idle: number;
}

/** With few sessions at a time each process waits for the others every other moment; with many there is always work. */
const SESSIONS = [20, 200];

/** `--quick` and `--only A,B` of `parts`; anything else ends the program with a word about it. */
export function chosenParts(parts: readonly string[]): { quick: boolean; only: readonly string[] } {
  const argv = process.argv.slice(2);
  let quick = false;
  let only = parts;
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === "--quick") quick = true;
    else if (argv[i] === "--only") only = (argv[++i] ?? "").split(",");
    else only = [argv[i] ?? ""];
    const unknown = only.find((part) => !parts.includes(part));
    if (unknown === undefined) continue;
    console.error(`${unknown}: there are --quick and --only with some of ${parts.join(",")}`);
    process.exit(2);
  }
  return { quick, only };
}

/** V8 compiles until the 30,000th message or so (--trace-opt); then a proxy is as fast as it gets. */
export async function warmUp(contenders: readonly Contender[], load: Load, messages: number): Promise<void> {
  for (const contender of contenders) await send(contender, { ...load, messages });
}

/** Messages of 4 KB, with few and with many sessions at a time. */
export async function smallMessages(
  contenders: readonly Contender[],
  { quick, reused }: { readonly quick: boolean; readonly reused: boolean },
): Promise<void> {
  for (const sessions of SESSIONS) {
    const load: Load = { octets: 4096, messages: reused ? 8000 : 4000, sessions, reused };
    await warmUp(contenders, load, quick ? 6000 : 30_000);
    const kind = reused ? "connections used again" : "a connection for each message";
    await takeTurns(`4 KB, ${kind}, ${sessions} sessions at a time`, contenders, load, quick ? 3 : 9);
  }
}

export async function takeTurns(
  title: string,
  contenders: readonly Contender[],
  load: Load,
  rounds: number,
): Promise<void> {
  report(title, await inTurns(contenders, rounds, (contender) => turn(contender, load)));
}

async function turn(contender: Contender, load: Load): Promise<Turn> {
  const used = () => sum(contender.hooks.map(cpuMs));
  const before = used();
  const machine = machineTimes();
  const measured = await send(contender, load);
  const after = machineTimes();
  const idle = (after.idle - machine.idle) / (after.all - machine.all);
  // The hooks' last batches.
  await new Promise((resolve) => setTimeout(resolve, 200));
  return { ...measured, hooksMs: ((used() - before) * 1000) / load.messages, idle };
}

function machineTimes(): { readonly idle: number; readonly all: number } {
  const times = cpus().map((cpu) => cpu.times);
  return {
    idle: sum(times.map(({ idle }) => idle)),
    all: sum(times.flatMap((each) => Object.values(each))),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function report(title: string, turns: ReadonlyMap<string, readonly Turn[]>): void {
  console.log(`\n${title}`);
  console.log(
    "                           msg/s   to the first          CPU ms/1000: proxy   its hooks   machine idle",
  );
  const [base = []] = turns.values();
  for (const [name, all] of turns) {
    const speed = median(all.map(({ perSecond }) => perSecond)).toFixed(0);
    const ratios = all.map(({ perSecond }, i) => perSecond / (base[i]?.perSecond ?? Number.NaN));
    const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => quantile(ratios, q).toFixed(2));
    const proxy = median(all.map((each) => each.cpuMs ?? Number.NaN)).toFixed(0);
    const hooks = median(all.map(({ hooksMs }) => hooksMs)).toFixed(0);
    const idle = `${Math.round(100 * median(all.map((each) => each.idle)))} %`;
    const ratio = `${middle} (${low}–${high})`;
    console.log(
      `  ${name.padEnd(22)} ${speed.padStart(7)}   ${ratio.padEnd(20)} ${proxy.padStart(20)} ${hooks.padStart(11)} ${idle.padStart(14)}`,
    );
  }
}

/** Every process of a benchmark, so that none outlives it. */
export class Programs {
  private readonly children: ChildProcess[] = [];

  /** Resolves when it prints a line with `ready`; its log (stderr) goes nowhere. */
  async start(program: string, argv: readonly string[], ready: string, env = {}): Promise<number> {
    const child = spawn(program, argv, {
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, ...env },
    });
    this.children.push(child);
    for await (const line of createInterface({ input: child.stdout }))
      if (line.includes(ready)) {
        child.stdout.resume();
        return child.pid as number;
      }
    throw new Error(`${program} ${argv.join(" ")} ended before it was ready`);
  }

  /** The program itself. Without `hooks` these are its plugins. */
  async warp(
    name: string,
    destination: number,
    argv: readonly string[],
    env = {},
    hooks?: readonly number[],
  ): Promise<Contender> {
    const port = await freePort();
    const main = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
    const fixed = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", `127.0.0.1:${destination}`];
    const pid = await this.start(process.execPath, [main, ...fixed, ...argv], "listens to", env);
    return { name, port, pid, hooks: hooks ?? childrenOf(pid) };
  }

  /** Proxies first, so that they can hand over what they have. */
  async end(): Promise<void> {
    for (const child of this.children.toReversed()) child.kill("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 1500));
    for (const child of this.children) child.kill("SIGKILL");
  }
}

async function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address();
    server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
  });
  return promise;
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1")
    .trim()
    .split(" ")
    .filter(Boolean)
    .map(Number);
}
