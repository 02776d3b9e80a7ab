import assert from "node:assert/strict";
import { test } from "node:test";
import { BREAKER_OPEN_MS, Breaker } from "../../../src/filter/breaker.ts";

function failing(breaker: Breaker, times: number, now: number): void {
  for (let i = 0; i < times; i++) {
    const call = breaker.admit(now);
    assert.ok(call !== undefined);
    breaker.settled(call, "deadline", now);
  }
}

test("five deadline failures in a row open it for ten seconds", () => {
  const breaker = new Breaker();
  failing(breaker, 4, 0);
  assert.ok(breaker.admit(0) !== undefined);
  failing(breaker, 1, 100);
  assert.equal(breaker.admit(100), undefined);
  assert.equal(breaker.admit(100 + BREAKER_OPEN_MS - 1), undefined);
  assert.deepEqual(breaker.admit(100 + BREAKER_OPEN_MS), { trial: true });
});

test("an answer in between begins the count anew", () => {
  const breaker = new Breaker();
  failing(breaker, 4, 0);
  breaker.settled({ trial: false }, "answered", 0);
  failing(breaker, 4, 0);
  assert.ok(breaker.admit(0) !== undefined);
});

test("one call tries it, and the others still fail at once", () => {
  const breaker = new Breaker();
  failing(breaker, 5, 0);
  const trial = breaker.admit(BREAKER_OPEN_MS);
  assert.ok(trial?.trial);
  assert.equal(breaker.admit(BREAKER_OPEN_MS), undefined);
  breaker.settled(trial, "answered", BREAKER_OPEN_MS);
  assert.deepEqual(breaker.admit(BREAKER_OPEN_MS), { trial: false });
});

test("a trial that fails opens it again; one that was given up can be followed at once", () => {
  const breaker = new Breaker();
  failing(breaker, 5, 0);
  const first = breaker.admit(BREAKER_OPEN_MS);
  assert.ok(first);
  breaker.settled(first, "ignored", BREAKER_OPEN_MS);
  const second = breaker.admit(BREAKER_OPEN_MS);
  assert.ok(second?.trial);
  breaker.settled(second, "deadline", BREAKER_OPEN_MS + 5);
  assert.equal(breaker.admit(2 * BREAKER_OPEN_MS), undefined);
  assert.ok(breaker.admit(2 * BREAKER_OPEN_MS + 5)?.trial);
});

test("calls that began before it opened do not prolong it", () => {
  const breaker = new Breaker();
  const early = breaker.admit(0);
  assert.ok(early);
  failing(breaker, 5, 0);
  breaker.settled(early, "deadline", 9000);
  assert.ok(breaker.admit(BREAKER_OPEN_MS)?.trial);
});
