/**
 * Writes lines to a file descriptor (stderr) off the hot path: what a turn of the event loop says, and under
 * load what some ms say, goes out in one write, in order. Bounded: while the reader of the log is too slow, lines beyond the cap are dropped, and their number
 * is said once there is room. Log and `--verbose` share one writer, so their lines keep their order.
 */
import { write, writeSync } from "node:fs";

export interface LineWriterOptions {
  readonly fd: number;
  /** Octets that may wait; default 8 MiB. */
  readonly maxPendingOctets?: number;
  /**
   * Several processes write to this descriptor: what goes out in one write is no longer than a pipe takes at once without
   * another's lines between (PIPE_BUF), unless a single line is.
   */
  readonly shared?: boolean;
  /** The line (without line end) that says how many were dropped; default: a JSON line with code `log_dropped`. */
  readonly dropped?: (count: number) => string;
  /** fs.write, for tests. */
  readonly write?: typeof write;
}

const DEFAULT_PENDING_OCTETS = 8 * 1024 * 1024;
const PIPE_BUF = 4096;
const LINE_END = 10;
/** Writes begin so far apart at the least: each costs a thread and its waking, some lines' worth of work. */
const WRITE_EVERY_MS = 10;
/** A pipe that says EAGAIN is asked again after this time. */
const RETRY_MS = 10;

export class LineWriter {
  readonly #fd: number;
  readonly #shared: boolean;
  readonly #maxPendingOctets: number;
  readonly #droppedLine: (count: number) => string;
  readonly #write: typeof write;
  #lines: string[] = [];
  #pendingOctets = 0;
  #dropped = 0;
  #droppedTotal = 0;
  #isScheduled = false;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #inFlight: Buffer | undefined;
  #waiting: (() => void)[] = [];
  #isBroken = false;

  constructor(options: LineWriterOptions) {
    this.#fd = options.fd;
    this.#shared = options.shared === true;
    this.#maxPendingOctets = options.maxPendingOctets ?? DEFAULT_PENDING_OCTETS;
    this.#droppedLine = options.dropped ?? droppedLine;
    this.#write = options.write ?? write;
  }

  /** Lines lost so far. */
  get dropped(): number {
    return this.#droppedTotal;
  }

  /** Takes one line, with its line end. Never blocks, never throws. */
  write(line: string): void {
    if (this.#isBroken) return;
    // UTF-16 units stand for octets here: exact for ASCII, and a cap need not be exact.
    if (this.#pendingOctets + line.length > this.#maxPendingOctets) {
      this.#dropped++;
      this.#droppedTotal++;
      return;
    }
    this.#pendingOctets += line.length;
    this.#lines.push(line);
    this.#schedule();
  }

  /** Resolves once everything that was taken is written (or can't be). */
  flush(): Promise<void> {
    if (this.#inFlight === undefined && this.#lines.length === 0 && this.#dropped === 0)
      return Promise.resolve();
    this.#schedule();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** For the end of the process: writes what waits, blocking. What is in flight belongs to its thread already. */
  flushSync(): void {
    let rest = this.#take();
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(this.#fd, rest));
    } catch {
      // The reader is gone or blocked, and so is the place to say so.
    }
  }

  #schedule(): void {
    if (this.#isScheduled || this.#inFlight !== undefined) return;
    this.#isScheduled = true;
    const begin = (): void => {
      this.#isScheduled = false;
      this.#writtenAt = performance.now();
      this.#start(this.#take());
    };
    // A line after some quiet goes out in this turn; many of them wait for one another.
    const waitMs = this.#writtenAt + WRITE_EVERY_MS - performance.now();
    if (waitMs <= 0) setImmediate(begin);
    else setTimeout(begin, waitMs);
  }

  #take(): Buffer {
    if (this.#dropped > 0) {
      this.#lines.push(`${this.#droppedLine(this.#dropped)}\n`);
      this.#dropped = 0;
    }
    const chunk = Buffer.from(this.#lines.join(""));
    this.#lines = [];
    this.#pendingOctets = 0;
    return chunk;
  }

  #start(chunk: Buffer): void {
    if (chunk.length === 0) {
      this.#settle();
      return;
    }
    this.#inFlight = chunk;
    // What is in flight still counts, or a blocked reader would double the cap.
    this.#pendingOctets += chunk.length;
    this.#write(this.#fd, chunk, 0, this.#portion(chunk), null, (error, written) =>
      this.#written(chunk, error, written),
    );
  }

  #portion(chunk: Buffer): number {
    if (!this.#shared || chunk.length <= PIPE_BUF) return chunk.length;
    const end = chunk.lastIndexOf(LINE_END, PIPE_BUF - 1);
    return (end === -1 ? chunk.indexOf(LINE_END) : end) + 1 || chunk.length;
  }

  #written(chunk: Buffer, error: NodeJS.ErrnoException | null, written: number): void {
    this.#inFlight = undefined;
    this.#pendingOctets -= chunk.length;
    if (error?.code === "EAGAIN") {
      this.#inFlight = chunk;
      this.#pendingOctets += chunk.length;
      setTimeout(() => {
        this.#pendingOctets -= chunk.length;
        this.#start(chunk);
      }, RETRY_MS);
      return;
    }
    if (error !== null) {
      // EPIPE, ENOSPC, …: there is nowhere left to say it. Lines are dropped and counted.
      this.#isBroken = error.code === "EPIPE" || error.code === "EBADF";
      this.#droppedTotal++;
    } else if (written < chunk.length) {
      this.#start(chunk.subarray(written));
      return;
    }
    if (this.#lines.length > 0 || this.#dropped > 0) this.#schedule();
    else this.#settle();
  }

  #settle(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** In the form of the log's own lines, so that their reader understands it. */
function droppedLine(dropped: number): string {
  return JSON.stringify({
    level: "warn",
    time: new Date().toISOString(),
    code: "log_dropped",
    dropped,
    msg: "lines were dropped: the reader of the log is too slow",
  });
}
