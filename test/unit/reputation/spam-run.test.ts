// A sender with a good day behind it sends ten thousand spam messages; the clock is given from outside.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EMPTY_TALLY } from "../../../src/reputation/counts.ts";
import { MemoryReputationStore } from "../../../src/stores/reputation-memory.ts";
import { settingsWith } from "../../integration/reputation-settings.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

describe("a spam run of 10,000 after 1,440 good messages", () => {
  const identity = "mail_from:alice@example.com";
  let now = 1_000_000_000_000;
  const store = new MemoryReputationStore({ settings: settingsWith([HOUR, DAY]), now: () => now });
  const tier = () => store.standing(identity).tier;

  it("starts from good, one message a minute for a day", () => {
    assert.equal(tier(), "neutral");
    for (let i = 0; i < 1_440; i += 1) {
      store.count(identity, { ...EMPTY_TALLY, ok: 1 }, 1);
      now += MINUTE;
    }
    assert.equal(tier(), "good");
  });

  it("makes the sender poor within the run, after a few hundred of them", () => {
    let sent = 0;
    let poorAfter = 0;
    while (sent < 10_000) {
      // A fifth is refused as spam, a tenth is for nobody; the rest is accepted, and a filter calls all of it spam.
      const verdict = sent % 5 === 0 ? { refuse: 1 } : sent % 10 === 1 ? { unknown: 1 } : { ok: 1 };
      store.count(identity, { ...EMPTY_TALLY, ...verdict, spam: 1 }, 1);
      now += 200;
      sent += 1;
      if (poorAfter === 0 && tier() === "poor") poorAfter = sent;
    }
    assert.ok(poorAfter > 0 && poorAfter < 500, `poor after ${poorAfter}`);
    assert.equal(tier(), "poor");
  });

  it("keeps it poor for hours of good behaviour, and lets it back after some days of it", () => {
    const ends = now;
    let backAfter = 0;
    while (backAfter === 0 && now < ends + 30 * DAY) {
      store.count(identity, { ...EMPTY_TALLY, ok: 1 }, 1);
      now += MINUTE;
      if (tier() !== "poor") backAfter = (now - ends) / DAY;
    }
    assert.ok(backAfter > 1 && backAfter < 6, `back after ${backAfter} days`);
  });

  it("forgets a sender of whom nothing is heard for four of the longest half-lives", () => {
    store.count(identity, { ...EMPTY_TALLY, spam: 10_000 }, 10_000);
    assert.equal(tier(), "poor");
    now += 4 * DAY + 1;
    assert.equal(store.standing(identity).known, false);
    assert.equal(tier(), "neutral");
  });
});
