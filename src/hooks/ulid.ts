/**
 * ULIDs for events (26 characters, Crockford's base 32): unique over all proxies and, within this process, in the order in
 * which they were made. Within a millisecond the random part counts up, so that an id costs one changed octet.
 */
import { randomFillSync } from "node:crypto";

const ALPHABET = Buffer.from("0123456789ABCDEFGHJKMNPQRSTVWXYZ", "latin1");
/** From a character to the next one in the alphabet; 0 behind the last. */
const FOLLOWING = new Uint8Array(256);
for (let i = 0; i < 31; i++) FOLLOWING[ALPHABET[i] as number] = ALPHABET[i + 1] as number;

const TIME_CHARACTERS = 10;
const LENGTH = 26;
const RANDOM_CHARACTERS = LENGTH - TIME_CHARACTERS;

export class UlidSource {
  private time = -1;
  private readonly id = Buffer.alloc(LENGTH);
  private readonly pool = new Uint8Array(RANDOM_CHARACTERS * 256);
  private poolAt = this.pool.length;

  /** `now`: ms since 1970. A clock that goes back does not bring the order back. */
  next(now: number): string {
    return this.nextOctets(now).toString("latin1");
  }

  /** The same as US-ASCII octets; valid until the next one is made. */
  nextOctets(now: number): Buffer {
    const time = Math.floor(now);
    if (time > this.time) this.begin(time);
    else this.increment();
    return this.id;
  }

  private begin(time: number): void {
    this.time = time;
    for (let rest = time, i = TIME_CHARACTERS - 1; i >= 0; i--) {
      this.id[i] = ALPHABET[rest % 32] as number;
      rest = Math.floor(rest / 32);
    }
    if (this.poolAt === this.pool.length) {
      randomFillSync(this.pool);
      this.poolAt = 0;
    }
    for (let i = 0; i < RANDOM_CHARACTERS; i++) {
      // The first one leaves room to count up: 16 × 32^15 ids in one millisecond at the least.
      const mask = i === 0 ? 15 : 31;
      this.id[TIME_CHARACTERS + i] = ALPHABET[(this.pool[this.poolAt + i] as number) & mask] as number;
    }
    this.poolAt += RANDOM_CHARACTERS;
  }

  private increment(): void {
    for (let i = LENGTH - 1; ; i--) {
      const following = FOLLOWING[this.id[i] as number] as number;
      this.id[i] = following === 0 ? (ALPHABET[0] as number) : following;
      if (following !== 0) return;
    }
  }
}
