import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { rendezvous, unit } from "../../../src/egress/rendezvous.ts";
import fc from "../../support/property.ts";

const pool = (...weights: number[]) => weights.map((weight, i) => ({ name: `203.0.113.${i + 1}`, weight }));
const keys = Array.from({ length: 20_000 }, (_, i) => `mail_from:user${i}@example${i % 97}.com`);
const first = (key: string, candidates: ReturnType<typeof pool>) => rendezvous(key, candidates)[0]!.name;

function shares(candidates: ReturnType<typeof pool>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) {
    const name = first(key, candidates);
    counts.set(name, (counts.get(name) ?? 0) + 1 / keys.length);
  }
  return counts;
}

describe("rendezvous hashing", () => {
  it("spreads keys by weight", () => {
    for (const weights of [[1, 1, 1, 1], [1, 2, 5], [1, 10], [3]]) {
      const sum = weights.reduce((a, b) => a + b, 0);
      const found = shares(pool(...weights));
      for (const [i, weight] of weights.entries()) {
        const share = found.get(`203.0.113.${i + 1}`) ?? 0;
        assert.ok(Math.abs(share - weight / sum) < 0.02, `${weights}: ${share} for ${weight}/${sum}`);
      }
    }
  });
  it("moves only the keys of a candidate that is gone, and only those that a new one wins", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 2, maxLength: 8 }),
        fc.nat(),
        fc.array(fc.string(), { minLength: 20, maxLength: 20 }),
        (weights, which, some) => {
          const whole = pool(...weights);
          const gone = whole[which % whole.length]!;
          const rest = whole.filter((candidate) => candidate !== gone);
          for (const key of some) {
            const before = first(key, whole);
            if (before === gone.name) assert.equal(first(key, rest), rendezvous(key, whole)[1]!.name);
            else assert.equal(first(key, rest), before);
          }
        },
      ),
    );
  });
  it("draws keys only towards a candidate whose weight rises", () => {
    const before = pool(1, 1, 1);
    const after = pool(1, 1, 2);
    for (const key of keys.slice(0, 3_000)) {
      const [old, now] = [first(key, before), first(key, after)];
      assert.ok(now === old || now === "203.0.113.3");
    }
  });
  it("does not depend on the order of the candidates", () => {
    fc.assert(
      fc.property(fc.string(), fc.shuffledSubarray(pool(1, 2, 3, 4), { minLength: 4 }), (key, shuffled) => {
        assert.deepEqual(
          rendezvous(key, shuffled).map(({ name }) => name),
          rendezvous(key, pool(1, 2, 3, 4)).map(({ name }) => name),
        );
      }),
    );
  });
  it("hashes evenly into the open interval from 0 to 1", () => {
    const buckets = new Array<number>(64).fill(0);
    for (const key of keys) {
      const value = unit(key);
      assert.ok(value > 0 && value < 1);
      buckets[Math.floor(value * 64)]! += 1;
    }
    const expected = keys.length / 64;
    const chi = buckets.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    assert.ok(chi < 120, `chi² ${chi} for 63 degrees of freedom`);
  });
});
