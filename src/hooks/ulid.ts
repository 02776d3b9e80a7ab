/**
 * ULIDs for events (26 characters, Crockford's base 32): unique over all proxies and, within this process, in the order in
 * which they were made. Within a millisecond the random part counts up, so that an id costs a few increments.
 */
import { randomFillSync } from "node:crypto";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RANDOM_CHARACTERS = 16;

export class UlidSource {
  private time = -1;
  private prefix = "";
  private readonly random = new Uint8Array(RANDOM_CHARACTERS);
  private readonly pool = new Uint8Array(RANDOM_CHARACTERS * 256);
  private poolAt = this.pool.length;
  /** Random characters but the last four, which change often. */
  private stem = "";

  /** `now`: ms since 1970. A clock that goes back does not bring the order back. */
  next(now: number): string {
    if (now > this.time) {
      this.time = Math.floor(now);
      this.prefix = timePart(this.time);
      this.refill();
    } else this.increment();
    const random = this.random;
    return (
      this.prefix +
      this.stem +
      ALPHABET[random[12] as number] +
      ALPHABET[random[13] as number] +
      ALPHABET[random[14] as number] +
      ALPHABET[random[15] as number]
    );
  }

  private refill(): void {
    if (this.poolAt === this.pool.length) {
      randomFillSync(this.pool);
      this.poolAt = 0;
    }
    for (let i = 0; i < RANDOM_CHARACTERS; i++) {
      this.random[i] = (this.pool[this.poolAt + i] as number) & 31;
    }
    // Room to count up: 31 × 32^15 ids in one millisecond at the least.
    this.random[0] = (this.random[0] as number) & 15;
    this.poolAt += RANDOM_CHARACTERS;
    this.renewStem();
  }

  private increment(): void {
    let i = RANDOM_CHARACTERS - 1;
    while (this.random[i] === 31) this.random[i--] = 0;
    this.random[i] = (this.random[i] as number) + 1;
    if (i < 12) this.renewStem();
  }

  private renewStem(): void {
    let stem = "";
    for (let i = 0; i < 12; i++) stem += ALPHABET[this.random[i] as number];
    this.stem = stem;
  }
}

function timePart(ms: number): string {
  let text = "";
  for (let rest = ms, i = 0; i < 10; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}
