/** The addon passes by the lines of a message; what is read must be the same with it and without. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { native } from "../../../src/net/native.ts";
import { DataReader, NewlineNormalizer } from "../../../src/smtp/content.ts";
import { type NextUnusualNewline, passLinesWith } from "../../../src/smtp/newlines.ts";
import fc from "../../support/property.ts";

const skip = native.unavailable ?? false;
const addon = skip === false ? loaded() : () => 0;
after(() => passLinesWith(skip === false ? addon : undefined));

function loaded(): NextUnusualNewline {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  const load = createRequire(import.meta.url)("node-gyp-build") as (root: string) => {
    nextUnusualNewline: NextUnusualNewline;
  };
  return load(root).nextUnusualNewline;
}

/** Text as messages have it, with what is unusual here and there, long enough for the addon. */
const piece = fc.oneof(
  { weight: 8, arbitrary: fc.nat(300).map((octets) => `${"x".repeat(octets)}\r\n`) },
  { weight: 2, arbitrary: fc.nat(2000).map((octets) => "y".repeat(octets)) },
  { weight: 2, arbitrary: fc.constantFrom("\r", "\n", ".", "\r\n", "\r\n.", "\n.", "\r\r\n", "\r\n..\r\n") },
);
const text = fc.array(piece, { maxLength: 40 }).map((parts) => parts.join(""));

/** One octet after the other, by the words of `NextUnusualNewline`. */
function plainly(octets: Buffer, from: number): number {
  const last = octets.length - 1;
  for (let i = from; i <= last; i++) {
    const [before, here, after] = [i > from ? octets[i - 1] : undefined, octets[i], octets[i + 1]];
    if (here === 0x0a && before !== 0x0d) return i;
    if (here !== 0x0d) continue;
    if (after !== 0x0a || i + 1 === last || octets[i + 2] === 0x2e) return i;
  }
  return octets.length;
}

test("the addon finds what a plain search finds, from wherever it begins", { skip }, () => {
  const hostile = fc
    .array(fc.constantFrom("\r", "\n", ".", "\r\n", "\r\n.", "a"), { maxLength: 30 })
    .map((parts) => parts.join(""));
  const around = fc.record({
    lead: fc.nat(130),
    middle: hostile,
    tail: fc.nat(130),
    offset: fc.nat(9),
    skipped: fc.nat(150),
  });
  fc.assert(
    fc.property(around, ({ lead, middle, tail, offset, skipped }) => {
      // Dots and line ends all around: what is not the chunk's is not looked at.
      const octets = Buffer.from(`${"a".repeat(lead)}${middle}${"b".repeat(tail)}`);
      const memory = Buffer.alloc(offset + octets.length + 70, "\n.");
      memory.set(octets, offset);
      const chunk = memory.subarray(offset, offset + octets.length);
      const from = Math.min(skipped, chunk.length);
      assert.equal(addon(chunk, from), plainly(chunk, from));
    }),
    { numRuns: 5000 },
  );
});

test("a line end at any place of a long chunk is found", { skip }, () => {
  for (let at = 0; at < 300; at++) {
    for (const unusual of ["\r", "\n", "\r\n.", "\r\n"]) {
      const chunk = Buffer.from(
        `${"a".repeat(at)}${unusual}${unusual === "\r\n" ? "" : "b".repeat(300 - at)}`,
      );
      assert.equal(addon(chunk, 0), at);
    }
  }
});

test("messages of DATA and BDAT are read the same with the addon and without, at any split", { skip }, () => {
  const cuts = fc.array(fc.nat(8000), { maxLength: 5 });
  const runs = (octets: Buffer, at: readonly number[]) => {
    const points = [0, ...new Set(at.filter((point) => point < octets.length)), octets.length];
    points.sort((a, b) => a - b);
    const reader = new DataReader();
    const normalizer = new NewlineNormalizer();
    const [data, bdat]: [Buffer[], Buffer[]] = [[], []];
    let end = -1;
    for (const [k, point] of points.slice(1).entries()) {
      const chunk = octets.subarray(points[k], point);
      bdat.push(...normalizer.read(chunk));
      if (end >= 0) continue;
      const pieces = reader.read(chunk);
      data.push(...pieces.wire);
      if (pieces.end) end = (points[k] as number) + pieces.used;
    }
    bdat.push(normalizer.end());
    const wire = Buffer.concat(data).toString("latin1");
    const plain = Buffer.concat(bdat).toString("latin1");
    return [wire, plain, end, reader.octets, reader.bareNewlines, normalizer.octets, normalizer.bareNewlines];
  };
  fc.assert(
    fc.property(text, cuts, (message, at) => {
      const octets = Buffer.from(`${message}\r\n.\r\nMAIL FROM:<a@b>\r\n`, "latin1");
      passLinesWith(undefined);
      const without = runs(octets, at);
      passLinesWith(addon);
      assert.deepEqual(runs(octets, at), without);
    }),
    { numRuns: 1000 },
  );
});

test("the addon refuses what is no buffer", { skip }, () => {
  assert.throws(() => addon("text" as unknown as Buffer, 0), TypeError);
  assert.throws(() => (addon as (chunk: Buffer) => number)(Buffer.alloc(3)), TypeError);
  assert.equal(addon(Buffer.alloc(0), 0), 0);
  assert.equal(addon(Buffer.from("ab"), 7), 2);
});
