/**
 * Writes lines to a file descriptor (stderr) off the hot path: what a turn of the event loop says, and under
 * load what some ms say, goes out in one write, in order. Bounded: while the reader of the log is too slow, lines beyond the cap are dropped, and their number
 * is said once there is room; at the end it has a deadline. Log and `--verbose` share one writer, so their lines keep their order.
 */
import { constants, fstatSync, openSync, write, writeSync } from "node:fs";
import { isatty } from "node:tty";

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
/** The end of the process waits no longer for the reader of the log. */
const FLUSH_MS = 2000;
/** The same, where nothing else can go on meanwhile. */
const FLUSH_SYNC_MS = 1000;

export class LineWriter {
  readonly #fd: number;
  /** A write that the reader does not take comes back at once; else it may keep its thread until then. */
  readonly #isNonblocking: boolean;
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
  /** A thread has it. */
  #inFlight: Buffer | undefined;
  #inFlightSince = 0;
  /** What a full pipe did not take, until it is asked again. */
  #refused: Buffer | undefined;
  #retry: NodeJS.Timeout | undefined;
  #waiting: (() => void)[] = [];
  #isBroken = false;

  constructor(options: LineWriterOptions) {
    const own = openNonblocking(options.fd);
    this.#fd = own ?? options.fd;
    this.#isNonblocking = own !== undefined;
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

  /** Node waits for its threads when it exits: while this is true, that is until the reader of the log moves on. */
  get holdsThread(): boolean {
    return this.#inFlight !== undefined && !this.#isNonblocking;
  }

  /** Resolves once everything that was taken is written, or can't be within `withinMs`. */
  async flush(withinMs = FLUSH_MS): Promise<void> {
    if (this.#isIdle && this.#lines.length === 0 && this.#dropped === 0) return;
    this.#schedule();
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      timer = setTimeout(resolve, withinMs);
    });
    clearTimeout(timer);
  }

  /**
   * For the end of the process: writes what waits, while nothing else goes on; for at most a second, where the reader has
   * taken nothing. What is in flight belongs to its thread already.
   */
  flushSync(): void {
    const deadline = performance.now() + FLUSH_SYNC_MS;
    if (this.holdsThread && this.#inFlightSince + FLUSH_SYNC_MS < performance.now()) return;
    clearTimeout(this.#retry);
    let rest = Buffer.concat([this.#refused ?? Buffer.alloc(0), this.#take()]);
    this.#refused = undefined;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest));
      } catch (error) {
        // The reader is gone or blocked, and so is the place to say so.
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || performance.now() > deadline) return;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  }

  get #isIdle(): boolean {
    return this.#inFlight === undefined && this.#refused === undefined;
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isIdle) return;
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
    this.#inFlightSince = performance.now();
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
    if (error?.code === "EAGAIN") {
      this.#refused = chunk;
      this.#retry = setTimeout(() => {
        this.#refused = undefined;
        this.#pendingOctets -= chunk.length;
        this.#start(chunk);
      }, RETRY_MS);
      return;
    }
    this.#pendingOctets -= chunk.length;
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

/**
 * The same pipe or terminal, opened anew for us alone: O_NONBLOCK belongs to what was opened, which is shared, and a child
 * that gets it takes the flag away (libuv's uv_spawn). Undefined where it is something else, such as the socket of a
 * service manager, or may not be opened (a pipe of another user).
 */
function openNonblocking(fd: number): number | undefined {
  try {
    if (!fstatSync(fd).isFIFO() && !isatty(fd)) return undefined;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
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
