/**
 * Targets in turns, many rounds in one run: what else the machine does meets all of them, so a ratio within a round says
 * more than any number alone. Printed are medians, and of ratios the median and the quartiles over the rounds.
 */
import { type Load, type Measured, send } from "./load.ts";
import type { Target } from "./processes.ts";

/** Measures every target once per round; the order turns, so that nobody always comes behind the same neighbour. */
export async function compare(
  title: string,
  targets: readonly Target[],
  load: Load,
  rounds: number,
): Promise<void> {
  report(title, await inTurns(targets, rounds, (target) => send(target, load)));
}

/** What `measure` gave for each contender in each round; the contenders' names in their order. */
export async function inTurns<Contender extends { readonly name: string }, Result>(
  contenders: readonly Contender[],
  rounds: number,
  measure: (contender: Contender) => Promise<Result>,
): Promise<ReadonlyMap<string, readonly Result[]>> {
  const results = new Map<string, Result[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const contender = contenders[(i + round) % contenders.length] as Contender;
      results.get(contender.name)?.push(await measure(contender));
    }
  }
  return results;
}

function report(title: string, results: ReadonlyMap<string, readonly Measured[]>): void {
  console.log(`\n${title}`);
  console.log("  target          msg/s   CPU ms/1000   msg/s: warp ÷ it          CPU: warp ÷ it");
  const warp = results.get("warp") ?? [];
  for (const [name, measured] of results) {
    const speed = median(measured.map(({ perSecond }) => perSecond)).toFixed(0);
    const cpus = measured.map((one) => one.cpuMs).filter((ms) => ms !== undefined);
    const cpu = cpus.length === 0 ? "–" : median(cpus).toFixed(0);
    const head = `  ${name.padEnd(12)} ${speed.padStart(8)} ${cpu.padStart(13)}`;
    if (name === "warp") {
      console.log(head);
      continue;
    }
    const speeds = spread(measured.map((one, i) => (warp[i] as Measured).perSecond / one.perSecond));
    const costs =
      cpus.length === 0 ? "" : spread(cpus.map((ms, i) => ((warp[i] as Measured).cpuMs ?? Number.NaN) / ms));
    console.log(`${head}   ${speeds.padEnd(23)}   ${costs}`);
  }
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** By nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

function spread(ratios: readonly number[]): string {
  const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => quantile(ratios, q).toFixed(2));
  return `${middle} (${low}–${high})`;
}
