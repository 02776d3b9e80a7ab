import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget, type OctetPool } from "../../../src/stores/budget.ts";

/** As several processes share it: nobody is told what another gives back. */
class SharedPool implements OctetPool {
  readonly isShared = true;
  free: number;

  constructor(free: number) {
    this.free = free;
  }

  take(octets: number): boolean {
    if (octets > this.free) return false;
    this.free -= octets;
    return true;
  }

  give(octets: number): void {
    this.free += octets;
  }
}
const ignore = (): void => {};

test("what another process gives back is found", async () => {
  const pool = new SharedPool(1000);
  const [one, other] = [new Budget(1000, 5000, ignore, pool), new Budget(1000, 5000, ignore, pool)];
  const theirs = one.open();
  assert.equal(theirs.take(900), true);
  const mine = other.open();
  const taken = mine.take(800);
  assert.notEqual(taken, true);
  theirs.close();
  await taken;
  assert.equal(pool.free, 200);
  mine.close();
  assert.equal(pool.free, 1000);
});

test("messages of one process that wait for another's are not given up at once", async () => {
  const pool = new SharedPool(1000);
  const [one, other] = [new Budget(1000, 5000, ignore, pool), new Budget(1000, 5000, ignore, pool)];
  const theirs = one.open();
  theirs.take(800);
  const mine = other.open();
  assert.equal(mine.take(100), true);
  const taken = mine.take(500);
  await new Promise((resolve) => setTimeout(resolve, 300));
  theirs.close();
  await taken;
  mine.close();
  assert.equal(pool.free, 1000);
});

test("the oldest unfinished message gets what others have to leave it", async () => {
  const budget = new Budget(1000, 5000, ignore);
  const [oldest, younger, waiting] = [budget.open(), budget.open(), budget.open()];
  assert.equal(oldest.take(300), true);
  assert.equal(younger.take(400), true);
  const wait = waiting.take(400) as Promise<void>;
  // 300 are free: the reserve of 250 is the oldest's.
  const more = younger.take(100) as Promise<void>;
  assert.ok(more instanceof Promise);
  assert.equal(oldest.take(250), true);
  oldest.complete();
  oldest.close();
  await more;
  younger.complete();
  younger.close();
  await wait;
  waiting.close();
});

test("a share that is closed while it waits is told so, and gives back everything", async () => {
  const budget = new Budget(1000, 5000, ignore);
  const [one, other] = [budget.open(), budget.open()];
  one.take(900);
  other.take(100);
  const wait = other.take(500) as Promise<void>;
  other.close();
  await assert.rejects(wait, /given up/);
  one.close();
  assert.equal(budget.open().take(1000), true);
});
