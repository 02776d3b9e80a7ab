/**
 * A TCP socket that reads into one buffer of the process, out of which each chunk is copied. node:net's own way gives each
 * read 64 KiB of memory and a pass through a stream, which together cost a tenth of a message.
 */
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
    const chunk = memory(octets);
    shared.copy(chunk, 0, 0, octets);
    (this as ReadSocket).received(chunk);
    return true;
  },
};

export class ReadSocket extends Socket {
  /** Takes what was read, instead of "data"; set in the turn in which the socket connects. */
  received: (chunk: Buffer) => void = () => {};

  constructor(options: SocketConstructorOpts) {
    super({ ...options, allowHalfOpen: true, onread });
  }
}
