/**
 * The protobuf wire format, written by hand for the two places where it counts: events (one for each line of a dialogue)
 * and message chunks. Everything else goes through protobuf-es. Fields with their default value are left out, as proto3
 * does. `bench/event-encoding.ts` compares the two.
 */

/** Grows as needed; `clear` and write again. What `view` gives is valid until the next write. */
export class WireWriter {
  private buffer: Buffer;
  private length = 0;

  constructor(octets = 128 * 1024) {
    this.buffer = Buffer.allocUnsafeSlow(octets);
  }

  clear(): void {
    this.length = 0;
  }

  view(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  get size(): number {
    return this.length;
  }

  /** Protobuf `string`, US-ASCII only (ids, codes, addresses of ours). */
  ascii(field: number, value: string): void {
    const octets = value.length;
    if (octets === 0) return;
    this.room(octets + 10);
    this.tag(field, 2);
    this.varint(octets);
    // Not by hand: strings come in so many shapes that V8 looks `charCodeAt` up anew for each character.
    this.buffer.write(value, this.length, octets, "latin1");
    this.length += octets;
  }

  /** Protobuf `string` in UTF-8; lone surrogates become U+FFFD. */
  string(field: number, value: string): void {
    if (value === "") return;
    // A UTF-16 unit becomes three octets at most: then the length needs one octet, and is known behind the writing.
    const isShort = value.length <= 42;
    const octets = isShort ? value.length * 3 : Buffer.byteLength(value, "utf8");
    this.room(octets + 10);
    this.tag(field, 2);
    if (isShort) this.length++;
    else this.varint(octets);
    const written = this.buffer.write(value, this.length, octets, "utf8");
    if (isShort) this.buffer[this.length - 1] = written;
    this.length += written;
  }

  bytes(field: number, value: Uint8Array): void {
    if (value.length === 0) return;
    this.room(value.length + 10);
    this.tag(field, 2);
    this.varint(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
  }

  /** uint32, uint64 and enums up to 2^53. */
  uint(field: number, value: number): void {
    if (value === 0) return;
    this.room(20);
    this.tag(field, 0);
    this.varint(value);
  }

  /** int64. */
  int(field: number, value: number): void {
    if (value >= 0) {
      this.uint(field, value);
      return;
    }
    this.room(20);
    this.tag(field, 0);
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 127n) {
      this.buffer[this.length++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.buffer[this.length++] = Number(rest);
  }

  bool(field: number, value: boolean): void {
    if (!value) return;
    this.room(10);
    this.tag(field, 0);
    this.buffer[this.length++] = 1;
  }

  double(field: number, value: number): void {
    if (value === 0 && !Object.is(value, -0)) return;
    this.room(20);
    this.tag(field, 1);
    this.length = this.buffer.writeDoubleLE(value, this.length);
  }

  /** Begins a message field; hand what it returns to `end`. Present also when nothing is written into it. */
  begin(field: number): number {
    this.room(10);
    this.tag(field, 2);
    this.length++;
    return this.length;
  }

  end(start: number): void {
    const octets = this.length - start;
    if (octets < 128) {
      this.buffer[start - 1] = octets;
      return;
    }
    const extra = varintSize(octets) - 1;
    this.room(extra);
    this.buffer.copyWithin(start + extra, start, this.length);
    this.length = start - 1;
    this.varint(octets);
    this.length += octets;
  }

  /** google.protobuf.Timestamp of ms since 1970. */
  timestamp(field: number, ms: number): void {
    const seconds = Math.floor(ms / 1000);
    const at = this.begin(field);
    this.int(1, seconds);
    this.uint(2, Math.round((ms - seconds * 1000) * 1e6));
    this.end(at);
  }

  /** google.protobuf.Duration of ms; undefined: absent. */
  duration(field: number, ms: number | undefined): void {
    if (ms === undefined) return;
    const nanos = Math.round(Math.max(0, ms) * 1e6);
    const at = this.begin(field);
    this.uint(1, Math.floor(nanos / 1e9));
    this.uint(2, nanos % 1e9);
    this.end(at);
  }

  private tag(field: number, type: number): void {
    const tag = (field << 3) | type;
    if (tag < 128) this.buffer[this.length++] = tag;
    else {
      this.buffer[this.length++] = (tag & 127) | 128;
      this.buffer[this.length++] = tag >> 7;
    }
  }

  private varint(value: number): void {
    let rest = value;
    while (rest > 0x7fffffff) {
      this.buffer[this.length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.buffer[this.length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.buffer[this.length++] = rest;
  }

  private room(octets: number): void {
    if (this.length + octets <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.buffer.length * 2, this.length + octets));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}

export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}
