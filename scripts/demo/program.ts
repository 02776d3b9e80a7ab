/** A child process by its lines of output. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

const LINE_MS = 15_000;

export class Program {
  /** Of stdout and stderr. */
  readonly lines: string[] = [];
  /** Its exit status; -1: a signal ended it. */
  readonly ended: Promise<number>;
  private readonly child: ChildProcess;
  private readonly listeners = new Set<(line: string) => void>();

  constructor([command = "", ...args]: readonly string[]) {
    this.child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on("line", (line) => this.take(line));
    }
    this.ended = new Promise((resolve) => {
      this.child.once("error", (error) => {
        this.lines.push(error.message);
        resolve(-1);
      });
      this.child.once("close", (status) => resolve(status ?? -1));
    });
  }

  /** Each line from now on. */
  onLine(listener: (line: string) => void): void {
    this.listeners.add(listener);
  }

  /** The first line that matches, past or to come. */
  line(pattern: RegExp): Promise<string> {
    const past = this.lines.find((line) => pattern.test(line));
    if (past !== undefined) return Promise.resolve(past);
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => reject(new Error(`${why}:\n${this.lines.join("\n")}`));
      const timer = setTimeout(() => fail(`no ${pattern} in time`), LINE_MS);
      const look = (line: string): void => {
        if (!pattern.test(line)) return;
        clearTimeout(timer);
        this.listeners.delete(look);
        resolve(line);
      };
      this.listeners.add(look);
      void this.ended.then((status) => {
        clearTimeout(timer);
        fail(`it ended with ${status}`);
      });
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  kill(): void {
    if (this.child.exitCode === null) this.child.kill("SIGKILL");
  }

  private take(line: string): void {
    this.lines.push(line);
    for (const listener of [...this.listeners]) listener(line);
  }
}
