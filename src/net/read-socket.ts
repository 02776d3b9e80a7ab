/**
 * A TCP socket that reads into one buffer of the process, out of which each chunk is copied. node:net's own way gives each
 * read 64 KiB of memory and a pass through a stream, which together cost a tenth of a message.
 */
import { readSync } from "node:fs";
import { type OnReadOpts, Socket, type SocketConstructorOpts } from "node:net";

const READ_OCTETS = 65_536;
/** Commands and replies: sessions keep some of them for long, and a piece of memory stays as long as anything in it. */
const SMALL_OCTETS = 1024;
const SLAB_OCTETS = 8192;

const shared = Buffer.allocUnsafeSlow(READ_OCTETS);
let slab = Buffer.allocUnsafeSlow(SLAB_OCTETS);
let slabUsed = 0;

/** A chunk's memory: small ones from a slab that they share with their like only, not with messages. */
function memory(octets: number): Buffer {
  if (octets > SMALL_OCTETS) return Buffer.allocUnsafe(octets);
  if (slabUsed + octets > SLAB_OCTETS) {
    slab = Buffer.allocUnsafeSlow(SLAB_OCTETS);
    slabUsed = 0;
  }
  const begin = slabUsed;
  slabUsed += octets;
  return slab.subarray(begin, slabUsed);
}

const onread: OnReadOpts = {
  buffer: shared,
  // node:net calls it as a method of the socket; false would pause.
  callback(this: unknown, octets: number): boolean {
    (this as ReadSocket).received(taken(octets));
    return true;
  },
};

/** The first octets of the shared buffer, copied. */
function taken(octets: number): Buffer {
  const chunk = memory(octets);
  shared.copy(chunk, 0, 0, octets);
  return chunk;
}

export class ReadSocket extends Socket {
  /** Takes what was read, instead of "data"; set in the turn in which the socket connects. */
  received: (chunk: Buffer) => void = () => {};
  /** What the peer said before it reset the connection is read all the same. */
  hearsOut = false;

  constructor(options: SocketConstructorOpts) {
    super({ ...options, allowHalfOpen: true, onread });
  }

  /** node:net destroys a socket when a write fails, whatever may still be read from it. */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.hearsOut && (error as NodeJS.ErrnoException | null)?.syscall === "write") this.readRest();
    super._destroy(error, done);
  }

  private readRest(): void {
    const { _handle: handle } = this as unknown as { readonly _handle?: { readonly fd?: number } | null };
    const fd = handle?.fd ?? -1;
    if (fd < 0) return;
    try {
      for (let octets = readSync(fd, shared); octets > 0; octets = readSync(fd, shared)) {
        this.received(taken(octets));
      }
    } catch {
      // EAGAIN or ECONNRESET: that was all.
    }
  }
}
