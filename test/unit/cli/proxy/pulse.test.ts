/** When a worker counts as away, and when as hung. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BEAT_MS, isDebugged, Pulse } from "../../../../src/cli/proxy/pulse.ts";

describe("the pulse of a worker", () => {
  it("is away after 10 s of silence and hung after 30 s, and well again with one answer", () => {
    const pulse = new Pulse();
    const said = Array.from({ length: 15 }, () => pulse.beat(BEAT_MS));
    assert.deepEqual(
      ["answers", "away", "hung"].map((condition) => said.indexOf(condition as "away") * BEAT_MS),
      [0, 8000, 28_000],
    );
    pulse.heard();
    assert.equal(pulse.beat(BEAT_MS), "answers");
  });

  it("does not count the time in which the primary did not run itself", () => {
    const pulse = new Pulse();
    for (let hours = 0; hours < 100; hours++) assert.equal(pulse.beat(3_600_000), "answers");
    for (let beat = 0; beat < 4; beat++) assert.equal(pulse.beat(BEAT_MS), "answers");
    assert.equal(pulse.beat(BEAT_MS), "away");
  });

  it("is nobody's business under a debugger", () => {
    assert.equal(isDebugged(process.pid, ["--inspect-brk=0"]), true);
    assert.equal(isDebugged(process.pid, []), false);
    assert.equal(isDebugged(undefined, []), false);
  });
});
