import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  COUNTERS,
  type Counts,
  counted,
  decayed,
  EMPTY_TALLY,
  emptyCounts,
  merged,
  remaining,
} from "../../../src/reputation/counts.ts";
import fc from "../../support/property.ts";

const HALF_LIVES = [3_600_000, 86_400_000];
const amount = fc.double({ min: 0, max: 1e6, noNaN: true });
const tally = fc.record({ ok: amount, defer: amount, refuse: amount, unknown: amount, spam: amount });
const at = fc.integer({ min: 0, max: 10 * 86_400_000 });

function near(a: Counts, b: Counts): void {
  assert.equal(a.total, b.total);
  for (const [i, window] of a.windows.entries()) {
    for (const name of COUNTERS) {
      const [x, y] = [window[name], b.windows[i]![name]];
      assert.ok(Math.abs(x - y) <= 1e-9 * (1 + Math.abs(x)), `${name}:${i} ${x} ${y}`);
    }
  }
}

describe("decayed counts", () => {
  it("halve in a half-life", () => {
    const counts = counted(emptyCounts(HALF_LIVES, 0), { ...EMPTY_TALLY, ok: 8 }, 8, HALF_LIVES, 0);
    const later = decayed(counts, HALF_LIVES, 86_400_000);
    assert.equal(later.windows[1]!.ok, 4);
    assert.ok(Math.abs(later.windows[0]!.ok - 8 * 2 ** -24) < 1e-12);
    assert.equal(later.total, 8);
  });
  it("are the same whether they are decayed in one step or in many", () => {
    fc.assert(
      fc.property(tally, at, at, at, (one, a, b, c) => {
        const [first, second, third] = [a, b, c].sort((x, y) => x - y) as [number, number, number];
        const counts = counted(emptyCounts(HALF_LIVES, first), one, 1, HALF_LIVES, first);
        near(
          decayed(decayed(counts, HALF_LIVES, second), HALF_LIVES, third),
          decayed(counts, HALF_LIVES, third),
        );
      }),
    );
  });
  it("are the same whether two proxies count into one place or are merged later", () => {
    fc.assert(
      fc.property(tally, tally, at, at, (one, other, a, b) => {
        const [first, second] = [Math.min(a, b), Math.max(a, b)];
        const start = emptyCounts(HALF_LIVES, first);
        const together = counted(counted(start, one, 1, HALF_LIVES, first), other, 2, HALF_LIVES, second);
        const apart = merged(
          counted(start, one, 1, HALF_LIVES, first),
          counted(emptyCounts(HALF_LIVES, second), other, 2, HALF_LIVES, second),
          HALF_LIVES,
        );
        near(together, apart);
      }),
    );
  });
  it("do not grow when the clock goes backwards", () => {
    assert.equal(remaining(-1000, 10), 1);
    const counts = counted(emptyCounts(HALF_LIVES, 5_000), { ...EMPTY_TALLY, spam: 1 }, 1, HALF_LIVES, 5_000);
    assert.equal(decayed(counts, HALF_LIVES, 1_000), counts);
  });
});
