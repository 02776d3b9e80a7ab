/**
 * The garbage of reading: node:net gives each read memory of its own outside V8's heap, which stays until its small object
 * on the heap is collected. V8 collects the young when the heap is full of them; with large messages there are few of
 * them for all that memory, so it reaches V8's bound for memory outside (64 MiB) first, and what that starts is a
 * collection of the whole heap, over and over: half of the CPU, and pauses of 5 to 20 ms. So the young are collected
 * after so many octets read, which takes about 0.5 ms.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const COLLECT_OCTETS = 8 * 1024 * 1024;

export class ReadGarbage {
  /** Made when it is first needed: most commands of the program read nothing. */
  private collect: (() => void) | undefined;
  private octets = 0;

  constructor(collect?: () => void) {
    this.collect = collect;
  }

  /** So many octets came in one read. */
  add(octets: number): void {
    this.octets += octets;
    if (this.octets < COLLECT_OCTETS) return;
    this.octets = 0;
    this.collect ??= youngCollector();
    this.collect();
  }
}

/** V8 has a function for it, and gives it to contexts that are made while this flag is set. */
function youngCollector(): () => void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("globalThis.gc") as NodeJS.GCFunction | undefined;
  setFlagsFromString("--no-expose-gc");
  return () => gc?.({ type: "minor" });
}
