import assert from "node:assert/strict";
import { test } from "node:test";
import { Grouper } from "../../../src/hookservers/grouper.ts";

test("writes what comes in one turn as one group, in order", async () => {
  const groups: number[][] = [];
  const grouper = new Grouper<number>(async (items) => void groups.push([...items]), 100);
  await Promise.all([grouper.add([1, 2]), grouper.add([3]), grouper.add([4])]);
  assert.deepEqual(groups, [[1, 2, 3, 4]]);
});

test("gathers what comes during a write, and cuts groups at the limit", async () => {
  const groups: number[][] = [];
  const first = Promise.withResolvers<void>();
  const grouper = new Grouper<number>(async (items) => {
    groups.push([...items]);
    if (groups.length === 1) await first.promise;
  }, 3);
  const one = grouper.add([1]);
  await new Promise((resolve) => setImmediate(resolve));
  const rest = [grouper.add([2, 3]), grouper.add([4]), grouper.add([5])];
  first.resolve();
  await Promise.all([one, ...rest]);
  assert.deepEqual(groups, [[1], [2, 3, 4], [5]]);
});

test("fails only the callers of the group that failed", async () => {
  let writes = 0;
  const grouper = new Grouper<number>(async () => {
    writes += 1;
    if (writes === 1) throw new Error("full");
  }, 1);
  const results = await Promise.allSettled([grouper.add([1]), grouper.add([2])]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["rejected", "fulfilled"],
  );
});

test("runs exclusive work between groups, and is idle when all is done", async () => {
  const order: string[] = [];
  const grouper = new Grouper<string>(async (items) => {
    order.push(`begin ${items}`);
    await new Promise((resolve) => setImmediate(resolve));
    order.push(`end ${items}`);
  }, 1);
  const all = [grouper.add(["a"]), grouper.exclusively(() => void order.push("alone")), grouper.add(["b"])];
  await grouper.idle();
  assert.deepEqual(order, ["alone", "begin a", "end a", "begin b", "end b"]);
  await Promise.all(all);
  await assert.rejects(
    grouper.exclusively(() => {
      throw new Error("mine");
    }),
    /mine/,
  );
});
