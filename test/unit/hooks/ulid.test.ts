import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeTime, isValid } from "ulid";
import { UlidSource } from "../../../src/hooks/ulid.ts";

test("ids are ULIDs of their time, unique and in order", () => {
  const ids = new UlidSource();
  const made = Array.from({ length: 100_000 }, (_, i) =>
    ids.next(1_790_000_000_000 + Math.floor(i / 40_000)),
  );
  assert.equal(new Set(made).size, made.length);
  assert.deepEqual(made, made.toSorted());
  assert.ok(made.every((id) => isValid(id)));
  assert.equal(decodeTime(made[50_000] as string), 1_790_000_000_001);
});

test("fractions of a millisecond do not bring the order back", () => {
  const ids = new UlidSource();
  const made = Array.from({ length: 1000 }, (_, i) => ids.next(1_790_000_000_000 + i / 500));
  assert.deepEqual(made, made.toSorted());
});

test("a clock that goes back does not bring the order back", () => {
  const ids = new UlidSource();
  const first = ids.next(2000);
  assert.ok(ids.next(1000) > first);
});

test("two processes do not make the same", () => {
  const [one, other] = [new UlidSource(), new UlidSource()];
  assert.notEqual(one.next(5), other.next(5));
});
