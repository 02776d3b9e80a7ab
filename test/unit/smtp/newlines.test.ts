import assert from "node:assert/strict";
import { test } from "node:test";
import { Newlines } from "../../../src/smtp/newlines.ts";
import fc from "../../support/property.ts";

function all(chunk: Buffer): number[] {
  const newlines = new Newlines(chunk);
  const found: number[] = [];
  for (let i = newlines.next(0); i < chunk.length; i = newlines.next(i + 1)) found.push(i);
  return found;
}

/** Octets around those that are looked for, and around the borders of what the word test tells apart. */
const octet = fc.oneof(fc.constantFrom(0, 9, 10, 11, 13, 14, 0x7f, 0x80, 0x8d, 0xff), fc.nat(255));

test("every CR and LF is found, and nothing else, wherever the chunk lies in its memory", () => {
  fc.assert(
    fc.property(fc.array(octet, { maxLength: 50 }), fc.nat(7), fc.nat(7), (octets, before, behind) => {
      // Newlines all around: what is not the chunk's is not looked at.
      const memory = Buffer.alloc(before + octets.length + behind, "\n");
      memory.set(octets, before);
      const expected = octets.flatMap((value, i) => (value === 10 || value === 13 ? [i] : []));
      assert.deepEqual(all(memory.subarray(before, before + octets.length)), expected);
    }),
    { numRuns: 2000 },
  );
});

test("a search may begin anywhere", () => {
  const chunk = Buffer.from(`${"x".repeat(100)}\r\n${"y".repeat(100)}\n`);
  const newlines = new Newlines(chunk);
  for (let from = 0; from <= chunk.length; from++) {
    const expected = chunk.findIndex((value, i) => i >= from && (value === 10 || value === 13));
    assert.equal(newlines.next(from), expected === -1 ? chunk.length : expected);
  }
});
