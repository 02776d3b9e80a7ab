/**
 * One spool file, written from front to back and then read at any place. Writes are asynchronous and gathered; the number
 * of octets on their way to the disk is bounded. The descriptor is closed only when no call uses it any more, since its
 * number may belong to another file the moment after.
 */
import { close, read, type WriteVResult, writev } from "node:fs";

const MAX_PENDING = 512 * 1024;

export class SpoolFile {
  private readonly fd: number;
  private queue: Buffer[] = [];
  private pending = 0;
  private position = 0;
  private busy = 0;
  private writing = false;
  private closing = false;
  private failure: Error | undefined;
  private waiters: { resolve: () => void; reject: (error: Error) => void; below: number }[] = [];

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Keeps the chunk until it is written. True: go on; a promise: wait until there is room, or until writing failed. */
  append(chunk: Buffer): true | Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    this.queue.push(chunk);
    this.pending += chunk.length;
    if (!this.writing) this.writeNext();
    return this.pending <= MAX_PENDING ? true : this.drained(MAX_PENDING / 2);
  }

  /** Everything given so far is in the file. */
  written(): Promise<void> {
    return this.drained(0);
  }

  read(position: number, octets: number): Promise<Buffer> {
    if (this.closing) return Promise.reject(new Error("the held message was released"));
    const buffer = Buffer.allocUnsafeSlow(octets);
    this.busy++;
    return new Promise((resolve, reject) => {
      read(this.fd, buffer, 0, octets, position, (error, count) => {
        this.done();
        if (error !== null) reject(error);
        else if (count === 0) reject(new Error("the spool file is shorter than what was written to it"));
        else resolve(buffer.subarray(0, count));
      });
    });
  }

  close(): void {
    if (this.closing) return;
    this.closing = true;
    this.queue = [];
    this.settle(new Error("the held message was given up"));
    if (this.busy === 0) this.closeNow();
  }

  private drained(below: number): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.pending <= below) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject, below }));
  }

  private writeNext(): void {
    const chunks = this.queue;
    if (chunks.length === 0 || this.closing) return;
    this.queue = [];
    this.writing = true;
    this.busy++;
    this.writeAll(chunks, (error, octets) => {
      this.writing = false;
      this.pending -= octets;
      this.done();
      if (error !== undefined) return this.settle(error);
      this.settle();
      this.writeNext();
    });
  }

  /** Until all is written: a full disk may take a part, and says so at the next call. */
  private writeAll(chunks: Buffer[], done: (error: Error | undefined, octets: number) => void): void {
    const octets = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const step = (left: Buffer[]): void => {
      writev(this.fd, left, this.position, (error, count) => {
        if (error !== null) return done(error, octets);
        this.position += count;
        const rest = behind(left, count);
        if (rest.length === 0) done(undefined, octets);
        else step(rest);
      });
    };
    step(chunks);
  }

  private settle(error?: Error): void {
    this.failure ??= error;
    const ready = this.waiters.filter(({ below }) => this.failure !== undefined || this.pending <= below);
    this.waiters = this.waiters.filter((waiter) => !ready.includes(waiter));
    for (const { resolve, reject } of ready) {
      if (this.failure === undefined) resolve();
      else reject(this.failure);
    }
  }

  private done(): void {
    this.busy--;
    if (this.busy === 0 && this.closing) this.closeNow();
  }

  private closeNow(): void {
    // Nothing can be done about an error here: the file has no name and nobody waits for it.
    close(this.fd, () => {});
  }
}

function behind(chunks: Buffer[], count: number): Buffer[] {
  let skip: WriteVResult["bytesWritten"] = count;
  const rest: Buffer[] = [];
  for (const chunk of chunks) {
    if (skip >= chunk.length) skip -= chunk.length;
    else {
      rest.push(chunk.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
