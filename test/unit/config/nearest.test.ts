import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { editDistance, nearest } from "../../../src/config/nearest.ts";
import fc from "../../support/property.ts";

describe("the nearest word", () => {
  const cases: [word: string, known: string[], found: string | undefined][] = [
    ["verson", ["verbose", "version"], "version"],
    ["dail", ["dial", "tls"], "dial"],
    ["on-failure", ["on_failure", "enforce"], "on_failure"],
    ["Workers", ["workers"], "workers"],
    ["tls", ["downstream_tls", "log"], "downstream_tls"],
    ["zzzzzzzz", ["dial", "tls"], undefined],
    ["x", [], undefined],
  ];
  for (const [word, known, found] of cases) {
    it(`to ${word} among ${known.join(", ") || "none"} is ${found ?? "none"}`, () =>
      assert.equal(nearest(word, known), found));
  }

  it("has a distance that is symmetric, zero only for equals, and at most the longer length", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        assert.equal(editDistance(a, b), editDistance(b, a));
        assert.equal(editDistance(a, b) === 0, a === b);
        assert.ok(editDistance(a, b) <= Math.max(a.length, b.length));
      }),
    );
  });
});
