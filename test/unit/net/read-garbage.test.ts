import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapStatistics } from "node:v8";
import { ReadGarbage } from "../../../src/net/read-garbage.ts";

test("the young are collected once for every 8 MiB that were read, however they came", () => {
  let collections = 0;
  const garbage = new ReadGarbage(() => {
    collections++;
  });
  for (let i = 0; i < 8 * 16; i++) garbage.add(64 * 1024);
  assert.equal(collections, 1);
  for (let i = 0; i < 2 * 8192 - 1; i++) garbage.add(1024);
  assert.equal(collections, 2);
  garbage.add(1024);
  assert.equal(collections, 3);
});

test("V8 gives the memory of reads back by it", () => {
  const garbage = new ReadGarbage();
  const before = getHeapStatistics().external_memory;
  let most = 0;
  for (let i = 0; i < 16 * 64; i++) {
    // As node:net reads: an ArrayBuffer of its own for each.
    const { length } = Buffer.from(new ArrayBuffer(64 * 1024));
    most = Math.max(most, getHeapStatistics().external_memory - before);
    garbage.add(length);
  }
  // 64 MiB went through; without collecting, V8 would let all of it stand.
  assert.ok(most < 24 * 1024 * 1024, `${most} octets outside the heap`);
});
