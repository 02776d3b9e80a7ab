import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget, type OctetPool } from "../../../src/stores/budget.ts";
import fc from "../../support/property.ts";

/** As several processes share it (nobody is told what another gives back), or one has it to itself. */
class CountedPool implements OctetPool {
  readonly isShared: boolean;
  free: number;

  constructor(free: number, isShared = true) {
    this.free = free;
    this.isShared = isShared;
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
  const pool = new CountedPool(1000);
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
  const pool = new CountedPool(1000);
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

test("what is made of a complete message goes ahead of messages that are still collected", async () => {
  const budget = new Budget(1000, 5000, ignore);
  const [older, complete, younger] = [budget.open(), budget.open(), budget.open()];
  older.take(300);
  complete.take(500);
  complete.complete();
  younger.take(150);
  const [more, evenMore] = [older.take(200) as Promise<void>, younger.take(100) as Promise<void>];
  const edited = budget.open(complete);
  assert.equal(edited.take(40), true);
  edited.complete();
  edited.close();
  complete.close();
  await Promise.all([more, evenMore]);
  older.close();
  younger.close();
  assert.equal(budget.open().take(1000), true);
});

test("a message that is still collected is given up where complete ones wait for its octets", async () => {
  const budget = new Budget(1000, 5000, ignore);
  const [complete, collected] = [budget.open(), budget.open()];
  complete.take(500);
  complete.complete();
  collected.take(500);
  const edited = budget.open(complete);
  const [room, more] = [edited.take(40) as Promise<void>, collected.take(10) as Promise<void>];
  await assert.rejects(more, /youngest/);
  collected.close();
  await room;
  edited.close();
  complete.close();
  assert.equal(budget.open().take(1000), true);
});

test("a small edit does not wait for the room of a large replacement", async () => {
  const budget = new Budget(1000, 5000, ignore);
  const [one, other] = [budget.open(), budget.open()];
  for (const share of [one, other]) {
    share.take(400);
    share.complete();
  }
  const [replacement, edited] = [budget.open(one), budget.open(other)];
  const room = replacement.take(400) as Promise<void>;
  assert.equal(edited.take(40), true);
  edited.close();
  other.close();
  await room;
});

test("whatever messages are collected and made at once, all come to an end before the wait does, within the budget", async () => {
  const message = fc.record({
    chunks: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 }),
    made: fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 3 }),
    pauses: fc.integer({ min: 0, max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 12 }), async (messages) => {
      const pool = new CountedPool(1000, false);
      const budget = new Budget(1000, 2000, ignore, pool);
      await Promise.all(
        messages.map(async ({ chunks, made, pauses }) => {
          const shares = [budget.open()];
          const fill = async (octets: number): Promise<void> => {
            const taken = shares.at(-1)?.take(octets);
            if (taken !== true) await taken;
            for (let i = 0; i < pauses; i++) await Promise.resolve();
          };
          try {
            for (const octets of chunks) await fill(octets);
            shares[0]?.complete();
            for (const octets of made) {
              shares.push(budget.open(shares[0]));
              await fill(octets);
              shares.at(-1)?.complete();
            }
          } catch (cause) {
            assert.match(String(cause), /this is the youngest|more than the whole budget/);
          }
          for (const share of shares) share.close();
        }),
      );
      assert.equal(pool.free, 1000);
    }),
  );
});
