import assert from "node:assert/strict";
import { closeSync, type write as fsWrite, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { LineWriter } from "../../../src/telemetry/line-writer.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-lines-"));
after(() => rmSync(folder, { recursive: true }));

type Callback = (error: NodeJS.ErrnoException | null, written: number, buffer: Buffer) => void;
/** A descriptor whose writes a test completes by hand. */
class Descriptor {
  readonly chunks: string[] = [];
  readonly #waiting: { chunk: Buffer; callback: Callback }[] = [];
  #arrived: (() => void) | undefined;
  readonly write = ((
    _fd: number,
    chunk: Buffer,
    _offset: number,
    length: number,
    _position: null,
    callback: Callback,
  ) => {
    this.#waiting.push({ chunk: chunk.subarray(0, length), callback });
    this.#arrived?.();
  }) as unknown as typeof fsWrite;

  async next(): Promise<Buffer> {
    if (this.#waiting.length === 0) await new Promise<void>((resolve) => (this.#arrived = resolve));
    return this.#waiting[0]!.chunk;
  }
  /** Takes `count` octets of the write that waits; all by default. */
  take(count?: number): void {
    const { chunk, callback } = this.#waiting.shift()!;
    const written = count ?? chunk.length;
    this.chunks.push(chunk.toString("utf8", 0, written));
    callback(null, written, chunk);
  }
  fail(code: string): void {
    const { chunk, callback } = this.#waiting.shift()!;
    callback(Object.assign(new Error(code), { code }), 0, chunk);
  }
  get waiting(): number {
    return this.#waiting.length;
  }
}

describe("the line writer", () => {
  it("writes the lines of one turn in one write, in order", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, write: descriptor.write });
    for (const line of ["a\n", "b\n", "c\n"]) writer.write(line);
    assert.equal(descriptor.waiting, 0);
    assert.equal((await descriptor.next()).toString(), "a\nb\nc\n");
    writer.write("d\n");
    descriptor.take();
    await descriptor.next();
    descriptor.take();
    await writer.flush();
    assert.deepEqual(descriptor.chunks, ["a\nb\nc\n", "d\n"]);
  });

  it("writes whole lines of at most 4,096 octets at a time where others write to the same pipe", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, write: descriptor.write, shared: true });
    const lines = ["a", "b", "c", "d"].map((letter) => `${letter.repeat(1500)}\n`);
    const long = `${"e".repeat(5000)}\n`;
    for (const line of [...lines, long, "f\n"]) writer.write(line);
    const flushed = writer.flush();
    while (descriptor.chunks.join("").length < 6004 + 5001 + 2) {
      await descriptor.next();
      descriptor.take();
    }
    await flushed;
    assert.deepEqual(descriptor.chunks, [lines[0]! + lines[1]!, lines[2]! + lines[3]!, long, "f\n"]);
  });

  it("goes on where a write took only a part", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, write: descriptor.write });
    writer.write("hello\n");
    await descriptor.next();
    descriptor.take(2);
    await descriptor.next();
    descriptor.take();
    await writer.flush();
    assert.deepEqual(descriptor.chunks, ["he", "llo\n"]);
  });

  it("tries again what a full pipe refused", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, write: descriptor.write });
    writer.write("a\n");
    await descriptor.next();
    descriptor.fail("EAGAIN");
    assert.equal((await descriptor.next()).toString(), "a\n");
    descriptor.take();
    await writer.flush();
    assert.deepEqual(descriptor.chunks, ["a\n"]);
  });

  it("drops what is beyond its cap while the reader is slow, and says how many lines", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({
      fd: 9,
      maxPendingOctets: 8,
      write: descriptor.write,
      dropped: (n) => `lost ${n}`,
    });
    writer.write("123\n");
    await descriptor.next();
    // Four octets are in flight: one more line has room, the others none.
    for (const line of ["456\n", "789\n", "abc\n"]) writer.write(line);
    assert.equal(writer.dropped, 2);
    descriptor.take();
    await descriptor.next();
    descriptor.take();
    await writer.flush();
    assert.deepEqual(descriptor.chunks, ["123\n", "456\nlost 2\n"]);
    writer.write("def\n");
    await descriptor.next();
    descriptor.take();
    assert.equal(descriptor.chunks.at(-1), "def\n");
  });

  it("says so in the form of the log's own lines", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, maxPendingOctets: 1, write: descriptor.write });
    writer.write("too long\n");
    const flushed = writer.flush();
    const { level, code, dropped } = JSON.parse((await descriptor.next()).toString()) as Record<
      string,
      unknown
    >;
    assert.deepEqual([level, code, dropped], ["warn", "log_dropped", 1]);
    descriptor.take();
    await flushed;
  });

  it("gives up when the reader is gone, without holding anything", async () => {
    const descriptor = new Descriptor();
    const writer = new LineWriter({ fd: 9, write: descriptor.write });
    writer.write("a\n");
    await descriptor.next();
    const flushed = writer.flush();
    descriptor.fail("EPIPE");
    await flushed;
    writer.write("b\n");
    await writer.flush();
    assert.equal(descriptor.waiting, 0);
  });

  it("writes what waits at the end of the process", () => {
    const file = join(folder, "sync");
    const fd = openSync(file, "w");
    const writer = new LineWriter({ fd });
    writer.write("a\n");
    writer.write("ü\n");
    writer.flushSync();
    closeSync(fd);
    assert.equal(readFileSync(file, "utf8"), "a\nü\n");
  });

  it("writes to a real file", async () => {
    const file = join(folder, "real");
    const fd = openSync(file, "w");
    const writer = new LineWriter({ fd });
    for (let index = 0; index < 1000; index++) writer.write(`${index}\n`);
    await writer.flush();
    closeSync(fd);
    assert.equal(
      readFileSync(file, "utf8"),
      Array.from({ length: 1000 }, (_, index) => `${index}\n`).join(""),
    );
  });
});
