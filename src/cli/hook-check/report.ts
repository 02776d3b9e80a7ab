/**
 * What a check found. A check is a function: it returns what it saw, or throws `Broken` (the protocol is broken) or `Worth`
 * (it holds, but the author should know).
 */
import { performance } from "node:perf_hooks";
import { escapeText } from "../../telemetry/escape.ts";

export type Result = "holds" | "note" | "breaks";

export interface Finding {
  /** The RPC, or "connection" and "health". */
  readonly about: string;
  /** What is promised, in words that stay the same. */
  readonly promise: string;
  readonly result: Result;
  /** What was seen. */
  readonly seen: string;
  /** What to do about it; empty where it holds. */
  readonly advice: string;
  readonly ms: number;
}

/** The server does not keep this promise. */
export class Broken extends Error {
  readonly advice: string;
  constructor(seen: string, advice: string) {
    super(seen);
    this.advice = advice;
  }
}
/** The server keeps it, in a way that its author should know of. */
export class Worth extends Broken {}

export class Report {
  readonly findings: Finding[] = [];
  readonly #onFinding: (finding: Finding) => void;

  constructor(onFinding: (finding: Finding) => void = () => undefined) {
    this.#onFinding = onFinding;
  }

  /** Runs one check and keeps its finding. True: go on with what depends on it. */
  async check(about: string, promise: string, body: () => Promise<string>): Promise<boolean> {
    const started = performance.now();
    const found = await settle(body);
    const finding = { about, promise, ...found, ms: Math.round(performance.now() - started) };
    this.findings.push(finding);
    this.#onFinding(finding);
    return finding.result !== "breaks";
  }

  get broken(): readonly Finding[] {
    return this.findings.filter(({ result }) => result === "breaks");
  }
}

async function settle(body: () => Promise<string>): Promise<Pick<Finding, "result" | "seen" | "advice">> {
  try {
    return { result: "holds", seen: await body(), advice: "" };
  } catch (error) {
    if (error instanceof Worth) return { result: "note", seen: error.message, advice: error.advice };
    if (error instanceof Broken) return { result: "breaks", seen: error.message, advice: error.advice };
    throw error;
  }
}

/** The table for a person. What the server said of itself has no power over the terminal. */
export function tableText(findings: readonly Finding[]): string {
  const marks: Record<Result, string> = { holds: "ok  ", note: "note", breaks: "FAIL" };
  const width = Math.max(0, ...findings.map(({ promise }) => promise.length));
  const lines: string[] = [];
  let about = "";
  for (const finding of findings) {
    if (finding.about !== about) lines.push(...(about === "" ? [] : [""]), finding.about);
    about = finding.about;
    const row = `  ${marks[finding.result]}  ${finding.promise.padEnd(width)} ${`${finding.ms} ms`.padStart(9)}`;
    lines.push(finding.result === "holds" ? `${row}  ${escapeText(finding.seen)}` : row);
    if (finding.result !== "holds") lines.push(`        ${escapeText(finding.seen)}`);
    if (finding.advice !== "") lines.push(`        → ${finding.advice}`);
  }
  return `${lines.join("\n")}\n`;
}
