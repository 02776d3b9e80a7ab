import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  askedTier,
  DEFAULT_TIERS,
  ladder,
  nextTier,
  type TierState,
  tierRank,
} from "../../../src/reputation/tiers.ts";
import fc from "../../support/property.ts";

const DWELL = 600_000;
const tiers = ladder({ tiers: DEFAULT_TIERS, dwellMs: DWELL });
const many = ladder({
  tiers: { ...DEFAULT_TIERS, hopeless: { enter: 0.1, leave: 0.2 }, golden: { enter: 0.97, leave: 0.93 } },
  dwellMs: DWELL,
});

describe("tiers", () => {
  const walk: readonly [from: string, score: number, to: string][] = [
    ["neutral", 0.7, "neutral"],
    ["neutral", 0.36, "neutral"],
    ["neutral", 0.35, "poor"],
    ["poor", 0.49, "poor"],
    ["poor", 0.5, "neutral"],
    ["poor", 0.9, "good"],
    ["neutral", 0.84, "neutral"],
    ["neutral", 0.85, "good"],
    ["good", 0.76, "good"],
    ["good", 0.75, "neutral"],
    ["good", 0.05, "hopeless"],
    ["hopeless", 0.19, "hopeless"],
    ["hopeless", 0.2, "poor"],
    ["hopeless", 0.45, "poor"],
    ["hopeless", 0.6, "neutral"],
    ["golden", 0.93, "good"],
    ["golden", 0.8, "good"],
    ["golden", 0.7, "neutral"],
    ["gone-from-the-file", 0.7, "neutral"],
  ];
  for (const [from, score, to] of walk) {
    it(`lead from ${from} at ${score} to ${to}`, () => {
      assert.equal(askedTier(from, score, many), to);
    });
  }
  it("get worse at once, and better only after the dwell time", () => {
    let state: TierState = { tier: "neutral", since: 0 };
    state = nextTier(state, 0.2, 1_000, tiers);
    assert.deepEqual(state, { tier: "poor", since: 1_000 });
    assert.equal(nextTier(state, 0.9, 1_000 + DWELL - 1, tiers), state);
    assert.deepEqual(nextTier(state, 0.9, 1_000 + DWELL, tiers), { tier: "good", since: 1_000 + DWELL });
  });
  it("change at most twice in a dwell time, whatever the score does", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 1, max: DWELL / 4 })),
        ),
        (steps) => {
          let state: TierState = { tier: "neutral", since: 0 };
          let now = 1;
          const improvements: number[] = [];
          for (const [score, elapsed] of steps) {
            now += elapsed;
            const next = nextTier(state, score, now, many);
            if (next !== state && state.since > 0 && tierRank(next.tier, many) > tierRank(state.tier, many)) {
              improvements.push(now);
            }
            state = next;
          }
          for (let i = 1; i < improvements.length; i += 1) {
            assert.ok(improvements[i]! - improvements[i - 1]! >= DWELL);
          }
        },
      ),
    );
  });
  it("refuse thresholds that make none", () => {
    assert.throws(() => ladder({ tiers: { x: { enter: 0.5, leave: 0.5 } }, dwellMs: 0 }), RangeError);
    assert.throws(() => ladder({ tiers: { neutral: { enter: 0.4, leave: 0.5 } }, dwellMs: 0 }), RangeError);
  });
});
