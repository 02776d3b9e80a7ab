import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DayMessages } from "../../../src/stores/ip-messages.ts";

describe("messages of the day", () => {
  it("are those of the day that is asked for", () => {
    const messages = new DayMessages();
    messages.add("a", "20260301", 2);
    messages.add("a", "20260301", 1);
    assert.equal(messages.get("a", "20260301"), 3);
    assert.equal(messages.get("b", "20260301"), 0);
    assert.equal(messages.get("a", "20260302"), 0);
    messages.add("a", "20260302", 1);
    assert.equal(messages.get("a", "20260302"), 1);
    assert.deepEqual([messages.day, [...messages.entries()]], ["20260302", [["a", 1]]]);
  });
  it("are of a bounded number of pairs, of which the busy ones stay", () => {
    const messages = new DayMessages();
    for (let i = 0; i < 50_000; i++) {
      messages.add(`192.0.2.1|made-up-${i}.example`, "20260301", 1);
      messages.add("192.0.2.1|busy.example", "20260301", 1);
    }
    assert.equal([...messages.entries()].length, 20_000);
    assert.equal(messages.get("192.0.2.1|busy.example", "20260301"), 50_000);
  });
  it("go on after a clock that was ahead for a while, where they stood", () => {
    const messages = new DayMessages();
    messages.add("a", "20260301", 5);
    for (const ahead of ["20270101", "20280101"]) {
      messages.add("a", ahead, 1);
      assert.equal(messages.get("a", ahead), 1);
      messages.add("a", "20260301", 5);
    }
    assert.equal(messages.get("a", "20260301"), 15);
    messages.set("a", "20260301", 20);
    assert.equal(messages.get("a", "20260301"), 20);
  });
  it("of a day that came late are not those of today", () => {
    const messages = new DayMessages();
    messages.add("a", "20260302", 1);
    messages.add("a", "20260301", 5);
    assert.equal(messages.get("a", "20260302"), 1);
  });
  it("are kept for two days", () => {
    const messages = new DayMessages();
    for (const day of ["20260301", "20260302", "20260303"]) messages.add("a", day, 1);
    assert.equal(messages.get("a", "20260301"), 0);
    assert.equal(messages.get("a", "20260302"), 1);
  });
});
