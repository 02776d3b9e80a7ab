/**
 * Whether a worker still answers. Time is what the primary counted between its own questions: while it did not run itself
 * (a machine that was suspended, or has no CPU left), nobody's silence counts.
 */
import { readFileSync } from "node:fs";

/** The primary asks so often. */
export const BEAT_MS = 2000;
/** Then others take its connections. */
const AWAY_MS = 10_000;
/** Then nobody expects it back: an endless loop, or it was stopped. */
const HUNG_MS = 30_000;

export type Condition = "answers" | "away" | "hung";

export class Pulse {
  private silentMs = 0;

  /** It said something. */
  heard(): void {
    this.silentMs = 0;
  }

  /** `elapsedMs`: since the last question. */
  beat(elapsedMs: number): Condition {
    if (elapsedMs < 2 * BEAT_MS) this.silentMs += elapsedMs;
    if (this.silentMs >= HUNG_MS) return "hung";
    return this.silentMs >= AWAY_MS ? "away" : "answers";
  }
}

/** Somebody looks into it (gdb, strace), or may do so: then it is silent for good reasons. */
export function isDebugged(pid: number | undefined, execArgv: readonly string[]): boolean {
  if (execArgv.some((word) => word.startsWith("--inspect"))) return true;
  try {
    return /^TracerPid:\s*[1-9]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
