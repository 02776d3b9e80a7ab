import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { RedisTroubles } from "../../../src/stores/redis-troubles.ts";

describe("troubles with Redis", () => {
  it("are news once, also where several alternate", () => {
    const troubles = new RedisTroubles(() => 0);
    const said = ["a", "b", "a", "b", "c", "a"].filter((text) => troubles.isNew(text));
    assert.deepEqual(said, ["a", "b", "c"]);
  });
  it("are news again when they were over", () => {
    const troubles = new RedisTroubles(() => 0);
    troubles.isNew("a");
    troubles.over();
    assert.equal(troubles.isNew("a"), true);
  });
  it("are over after a minute without them", () => {
    let now = 0;
    const troubles = new RedisTroubles(() => now);
    assert.equal(troubles.isNew("a"), true);
    for (let i = 0; i < 10; i += 1) {
      now += 59_000;
      assert.equal(troubles.isNew("a"), false);
    }
    now += 60_000;
    assert.equal(troubles.isNew("a"), true);
  });
  it("are bounded: of too many different ones the rest is not told", () => {
    let now = 0;
    const troubles = new RedisTroubles(() => now);
    const texts = Array.from({ length: 100 }, (_, i) => `trouble ${i}`);
    assert.equal([...texts, ...texts].filter((text) => troubles.isNew(text)).length, 32);
    now = 60_000;
    assert.equal(troubles.isNew("trouble 99"), true);
  });
});
