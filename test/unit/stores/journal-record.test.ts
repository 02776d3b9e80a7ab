import assert from "node:assert/strict";
import { test } from "node:test";
import type { Block } from "../../../src/hooks/block.ts";
import { HEADER_OCTETS, recordHeader, wholeRecords } from "../../../src/stores/journal-record.ts";
import fc from "../../support/property.ts";

const block = fc.record(
  {
    octets: fc.uint8Array({ maxLength: 60 }).map((octets) => Buffer.from(octets)),
    firstSequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    count: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  },
  { noNullPrototype: true },
);
const file = (blocks: readonly Block[]) =>
  Buffer.concat(blocks.flatMap((each) => [recordHeader(each), each.octets]));

test("records come back as they were written", () => {
  fc.assert(
    fc.property(fc.array(block), (blocks) => {
      const octets = file(blocks);
      assert.deepEqual(wholeRecords(octets), { blocks, end: octets.length });
    }),
  );
});

test("a file cut at any octet gives a prefix of its records, and where it ends", () => {
  fc.assert(
    fc.property(fc.array(block, { maxLength: 4 }), (blocks) => {
      const octets = file(blocks);
      for (let length = 0; length <= octets.length; length++) {
        const { blocks: found, end } = wholeRecords(octets.subarray(0, length));
        assert.deepEqual(found, blocks.slice(0, found.length));
        assert.equal(end, file(found).length);
        const next = blocks[found.length];
        if (next !== undefined) assert.ok(length < end + HEADER_OCTETS + next.octets.length);
      }
    }),
    { numRuns: 40 },
  );
});

test("a changed octet anywhere costs its own record and no other", () => {
  fc.assert(
    fc.property(
      fc.array(block, { minLength: 1, maxLength: 4 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (blocks, at, flip) => {
        const octets = file(blocks);
        const index = at % octets.length;
        octets[index] = (octets[index] as number) ^ flip;
        const { blocks: found, end } = wholeRecords(octets);
        const hit = blocks.findIndex((_, i) => file(blocks.slice(0, i + 1)).length > index);
        const others = blocks.filter((_, i) => i !== hit);
        const offset = index - file(blocks.slice(0, hit)).length;
        if (offset >= 4 && offset < 8) {
          // A damaged length may lead by chance to the begin of a later record: those before it go with this one.
          const later = others.slice(hit);
          const kept = found.length - hit;
          assert.deepEqual(found, [...others.slice(0, hit), ...(kept > 0 ? later.slice(-kept) : [])]);
          return;
        }
        assert.deepEqual(found, others);
        const isLast = hit === blocks.length - 1;
        assert.equal(end, file(isLast ? blocks.slice(0, hit) : blocks).length);
      },
    ),
  );
});

test("what a peer made look like a record is none, where the damaged one's length leads on", () => {
  const inner = { octets: Buffer.from("forged"), firstSequence: 2, count: 1 };
  const blocks = [
    { octets: Buffer.concat([recordHeader(inner), inner.octets]), firstSequence: 1, count: 1 },
    { octets: Buffer.from("y"), firstSequence: 2, count: 1 },
  ];
  const octets = file(blocks);
  octets[20] = (octets[20] as number) ^ 1;
  assert.deepEqual(wholeRecords(octets).blocks, blocks.slice(1));
  assert.deepEqual(wholeRecords(octets.subarray(0, file(blocks.slice(0, 1)).length)).blocks, []);
});

test("zeros behind the records (a file that was extended and not written) are none", () => {
  const one = { octets: Buffer.from("x"), firstSequence: 1, count: 1 };
  const octets = file([one]);
  assert.deepEqual(wholeRecords(Buffer.concat([octets, Buffer.alloc(4096)])), {
    blocks: [one],
    end: octets.length,
  });
});
