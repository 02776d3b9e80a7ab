import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { COUNTERS, EMPTY_TALLY } from "../../../src/reputation/counts.ts";
import { DEFAULT_PRIOR, DEFAULT_STRENGTH, DEFAULT_WEIGHTS, score } from "../../../src/reputation/score.ts";
import fc from "../../support/property.ts";

const settings = {
  halfLivesMs: [3_600_000, 86_400_000],
  prior: DEFAULT_PRIOR,
  strength: DEFAULT_STRENGTH,
  weights: DEFAULT_WEIGHTS,
};
const amount = fc.double({ min: 0, max: 1e9, noNaN: true });
const tally = fc.record({ ok: amount, defer: amount, refuse: amount, unknown: amount, spam: amount });
const windows = fc.tuple(tally, tally);

describe("the score", () => {
  it("is the prior for a sender of whom nothing is known", () => {
    assert.equal(score([EMPTY_TALLY, EMPTY_TALLY], settings), DEFAULT_PRIOR);
    assert.equal(score([], settings), DEFAULT_PRIOR);
  });
  it("stays between 0 and 1", () => {
    fc.assert(
      fc.property(windows, (both) => {
        const value = score(both, settings);
        assert.ok(value >= 0 && value <= 1, String(value));
      }),
    );
  });
  it("never falls by an accepted recipient, and never rises by anything else", () => {
    fc.assert(
      fc.property(
        windows,
        fc.constantFrom(...COUNTERS),
        fc.nat({ max: 1 }),
        amount,
        (both, name, i, more) => {
          const before = score(both, settings);
          const after = score(
            both.map((window, at) => (at === i ? { ...window, [name]: window[name] + more } : window)),
            settings,
          );
          if (name === "ok") assert.ok(after >= before - 1e-12);
          else assert.ok(after <= before + 1e-12);
        },
      ),
    );
  });
  it("comes back to the prior as everything decays", () => {
    fc.assert(
      fc.property(windows, (both) => {
        const faded = both.map((window) =>
          Object.fromEntries(COUNTERS.map((name) => [name, window[name] * 2 ** -60])),
        );
        assert.ok(Math.abs(score(faded as never, settings) - DEFAULT_PRIOR) < 1e-6);
      }),
    );
  });
  it("does not depend on the order of the half-lives", () => {
    fc.assert(
      fc.property(tally, tally, (short, long) => {
        const other = { ...settings, halfLivesMs: [86_400_000, 3_600_000] };
        assert.equal(score([short, long], settings), score([long, short], other));
      }),
    );
  });
  it("shows a run of spam at once, however good the day was", () => {
    const day = { ...EMPTY_TALLY, ok: 5_000 };
    const value = score(
      [
        { ...EMPTY_TALLY, ok: 100, spam: 200 },
        { ...day, spam: 200 },
      ],
      settings,
    );
    assert.ok(value < 0.35);
  });
});
