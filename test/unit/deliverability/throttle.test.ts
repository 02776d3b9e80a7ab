import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_LATENCY, StageLatencies } from "../../../src/deliverability/latency.ts";
import {
  DEFAULT_THROTTLE,
  evidenceOf,
  type IpStateChange,
  ThrottleBook,
} from "../../../src/deliverability/throttle.ts";

const MINUTE = 60_000;
const IP = "203.0.113.10";
const GMAIL = "google.com";

function book(settings = DEFAULT_THROTTLE): { book: ThrottleBook; changes: IpStateChange[] } {
  const changes: IpStateChange[] = [];
  return { book: new ThrottleBook(settings, (change) => changes.push(change)), changes };
}
function times(count: number, work: () => void): void {
  for (let i = 0; i < count; i += 1) work();
}

describe("the state of an IP with a provider", () => {
  it("cools down after three throttled answers in a row, for that provider alone", () => {
    const { book: states, changes } = book();
    times(1_000, () => states.answered(IP, GMAIL, "ok", 0));
    times(2, () => states.answered(IP, GMAIL, "throttled", 0));
    assert.equal(states.view(IP, GMAIL, 0).state, "normal");
    states.answered(IP, GMAIL, "throttled", 0);
    assert.equal(states.view(IP, GMAIL, 0).state, "throttled");
    assert.equal(states.view(IP, "outlook.com", 0).state, "normal");
    assert.equal(states.view("203.0.113.11", GMAIL, 0).state, "normal");
    assert.deepEqual(
      changes.map(({ from, state }) => [from, state]),
      [["normal", "throttled"]],
    );
  });
  it("cools down when a fifth of the answers are throttled, though never three in a row", () => {
    const { book: states } = book();
    times(10, () => {
      times(2, () => states.answered(IP, GMAIL, "ok", 0));
      states.answered(IP, GMAIL, "throttled", 0);
    });
    assert.equal(states.view(IP, GMAIL, 0).state, "throttled");
  });
  it("does not mind a throttle now and then", () => {
    const { book: states, changes } = book();
    times(100, () => {
      times(20, () => states.answered(IP, GMAIL, "ok", 0));
      states.answered(IP, GMAIL, "throttled", 0);
    });
    assert.deepEqual(changes, []);
  });
  it("goes on probation when the time is over, and is normal after three accepted messages", () => {
    const { book: states, changes } = book();
    times(3, () => states.answered(IP, GMAIL, "throttled", 0));
    assert.equal(states.view(IP, GMAIL, 5 * MINUTE - 1).state, "throttled");
    assert.equal(states.view(IP, GMAIL, 5 * MINUTE).state, "slowed");
    times(3, () => states.answered(IP, GMAIL, "ok", 5 * MINUTE + 1));
    assert.equal(states.view(IP, GMAIL, 5 * MINUTE + 1).state, "normal");
    assert.equal(changes.length, 3);
  });
  it("cools twice as long each time that probation fails, up to an hour", () => {
    const { book: states } = book();
    let now = 0;
    times(3, () => states.answered(IP, GMAIL, "throttled", now));
    const lengths: number[] = [];
    times(6, () => {
      const { until } = states.view(IP, GMAIL, now);
      lengths.push((until - now) / MINUTE);
      now = until;
      states.answered(IP, GMAIL, "throttled", now);
    });
    assert.deepEqual(lengths, [5, 10, 20, 40, 60, 60]);
  });
  it("says in each change why", () => {
    const { book: states, changes } = book();
    times(3, () => states.answered(IP, GMAIL, "throttled", 0));
    states.answered(IP, GMAIL, "throttled", 5 * MINUTE);
    states.answered(IP, GMAIL, "blocked", 15 * MINUTE);
    times(4, () => {
      times(2, () => states.answered(IP, "b", "ok", 0));
      states.answered(IP, "b", "throttled", 0);
    });
    assert.deepEqual(
      changes.map(({ why }) => why),
      [
        "3 throttled answers in a row",
        "on probation after throttled",
        "a throttled answer on probation",
        "on probation after throttled",
        "a blocked answer on probation",
        "3 throttled of the last 9 answers",
      ],
    );
  });
  it("is blocked by blocks of the IP, which outweigh throttles", () => {
    const { book: states } = book();
    times(3, () => states.answered(IP, GMAIL, "throttled", 0));
    times(3, () => states.answered(IP, GMAIL, "blocked", 0));
    const view = states.view(IP, GMAIL, 0);
    assert.equal(view.state, "blocked");
    assert.equal(view.until, 15 * MINUTE);
  });
  it("takes over a worse state of another process, and no milder one", () => {
    const { book: states } = book();
    const shared = { answers: { ok: 0, throttled: 3, blocked: 0 }, why: "elsewhere", baselines: {} };
    states.merge(IP, GMAIL, { ...shared, state: "throttled", until: 7 * MINUTE }, 0);
    assert.equal(states.view(IP, GMAIL, 0).until, 7 * MINUTE);
    states.merge(IP, GMAIL, { ...shared, state: "normal", until: 0 }, 0);
    assert.equal(states.view(IP, GMAIL, 0).state, "throttled");
    states.merge(IP, "outlook.com", { ...shared, state: "blocked", until: MINUTE }, 2 * MINUTE);
    assert.equal(states.view(IP, "outlook.com", 2 * MINUTE).state, "normal");
  });
  it("forgets the pair used longest ago when there are too many", () => {
    const { book: states } = book({ ...DEFAULT_THROTTLE, maxPairs: 2 });
    times(3, () => states.answered(IP, "a", "throttled", 0));
    states.answered(IP, "b", "ok", 0);
    states.answered(IP, "c", "ok", 0);
    assert.equal(states.view(IP, "a", 0).state, "normal");
  });
  it("is not about greylisting, content, or a full connection", () => {
    for (const name of ["greylisted", "blocked-content", "unknown-recipient", "throttled-per-connection"]) {
      assert.equal(evidenceOf(name), undefined);
    }
    assert.equal(evidenceOf("throttled-rate"), "throttled");
    assert.equal(evidenceOf("blocked-ip"), "blocked");
  });
});

describe("a stage that grows slow", () => {
  it("makes the IP slowed, and normal again when it is fast again", () => {
    const { book: states, changes } = book();
    let now = 0;
    const answer = (ms: number) => {
      now += 1_000;
      states.timed(IP, GMAIL, { rcptMs: ms }, now);
    };
    times(50, () => answer(80));
    times(8, () => answer(4_000));
    assert.equal(states.view(IP, GMAIL, now).state, "slowed");
    assert.match(states.view(IP, GMAIL, now).why, /^rcpt \d+ ms, was \d+$/);
    times(12, () => answer(80));
    assert.equal(states.view(IP, GMAIL, now).state, "normal");
    assert.equal(changes.length, 2);
  });
  it("is not told from one outlier, from a few samples, or from milliseconds", () => {
    const slow = (samples: number, usual: number, then: number, count: number) => {
      const stages = new StageLatencies(DEFAULT_LATENCY);
      times(samples, () => stages.add("mail", usual, 0));
      times(count, () => stages.add("mail", then, 0));
      return stages.slowStages().length > 0;
    };
    assert.equal(slow(100, 50, 5_000, 1), false);
    assert.equal(slow(5, 50, 5_000, 10), false);
    assert.equal(slow(100, 2, 40, 20), false);
    assert.equal(slow(100, 50, 5_000, 10), true);
  });
  it("is the new normal in the end", () => {
    const stages = new StageLatencies(DEFAULT_LATENCY);
    let now = 0;
    times(100, () => stages.add("data", 50, now));
    times(10, () => stages.add("data", 3_000, now));
    assert.equal(stages.slowStages().length, 1);
    times(2_000, () => {
      now += 30_000;
      stages.add("data", 3_000, now);
    });
    assert.equal(stages.slowStages().length, 0);
  });
  it("has a baseline that another process can begin with", () => {
    const stages = new StageLatencies(DEFAULT_LATENCY);
    stages.adopt("mail", 40, 0);
    times(8, () => stages.add("mail", 4_000, 1));
    assert.equal(stages.slowStages().length, 1);
  });
});
