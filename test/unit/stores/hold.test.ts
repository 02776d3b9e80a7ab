import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { type HeldMessage, HoldFull, type HoldStore } from "../../../src/filter/contract.ts";
import { createHoldStore } from "../../../src/stores/hold.ts";
import fc from "../../support/property.ts";

const spool = mkdtempSync(join(tmpdir(), "hold-test-"));
after(() => rmSync(spool, { recursive: true, force: true }));

function setUp(settings: { memory?: number; total?: number; waitMs?: number; spool?: string } = {}) {
  const logged: unknown[] = [];
  const waits: number[] = [];
  const store = createHoldStore({
    memoryOctets: settings.memory ?? 10_000,
    totalOctets: settings.total ?? 10_000_000,
    spool: settings.spool ?? spool,
    waitMs: settings.waitMs ?? 50,
    telemetry: {
      ...noTelemetry,
      log: (_level, code, _message, _fields, cause) => logged.push([code, cause]),
      heldWait: (ms) => waits.push(ms),
    },
  });
  return { store, logged, waits };
}
async function put(store: HoldStore, ...chunks: readonly Uint8Array[]): Promise<HeldMessage> {
  const writer = store.open();
  for (const chunk of chunks) {
    const taken = writer.write(Buffer.from(chunk));
    if (taken !== true) await taken;
  }
  return writer.finish();
}
async function content(message: HeldMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message.chunks()) {
    assert.ok(chunk.length <= 65_536);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

test("gives back what was written, any number of times, below and above the threshold", async () => {
  const { store } = setUp();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 9000 }), { maxLength: 8 }), async (chunks) => {
      const whole = Buffer.concat(chunks);
      const message = await put(store, ...chunks);
      assert.equal(message.octets, whole.length);
      assert.deepEqual(await content(message), whole);
      assert.deepEqual(await content(message), whole);
      message.release();
    }),
    { numRuns: 50 },
  );
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
});

test("a message beyond the threshold is in a file without a name, and none in memory", async () => {
  const { store } = setUp();
  const message = await put(store, Buffer.alloc(6000, 1), Buffer.alloc(200_000, 2));
  assert.deepEqual(store.held, { memory: 0, spool: 206_000 });
  assert.deepEqual(readdirSync(spool), []);
  message.release();
  message.release();
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
});

test("many small chunks keep no large buffers alive", async () => {
  const { store } = setUp({ memory: 1_000_000 });
  const large = Buffer.alloc(65_536, 1);
  const before = process.memoryUsage().arrayBuffers;
  const message = await put(store, ...Array.from({ length: 200 }, () => large.subarray(0, 100)));
  assert.ok(process.memoryUsage().arrayBuffers - before < 200_000);
  assert.equal((await content(message)).length, 20_000);
  message.release();
});

test("who finds the budget used up waits in turn, and goes on when there is room", async () => {
  const { store, waits } = setUp({ total: 10_000, waitMs: 5000 });
  const first = await put(store, Buffer.alloc(9000));
  const order: string[] = [];
  const second = put(store, Buffer.alloc(8000)).then((message) => {
    order.push("second");
    return message;
  });
  // It would fit now, but is not let past the one that waits.
  const third = put(store, Buffer.alloc(500)).then((message) => {
    order.push("third");
    return message;
  });
  await new Promise(setImmediate);
  assert.deepEqual(order, []);
  first.release();
  for (const message of [await second, await third]) message.release();
  assert.deepEqual(order, ["second", "third"]);
  assert.equal(waits.length, 2);
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
});

test("who waits too long is told that there is no room, and gives back what it had", async () => {
  const { store, logged } = setUp({ total: 10_000, waitMs: 20 });
  const first = await put(store, Buffer.alloc(5000));
  await assert.rejects(put(store, Buffer.alloc(4000), Buffer.alloc(4000)), HoldFull);
  assert.deepEqual(store.held, { memory: 5000, spool: 0 });
  assert.equal((logged[0] as unknown[])[0], "hold_full");
  first.release();
  (await put(store, Buffer.alloc(9000))).release();
});

test("messages that wait for each other do not all fail", async () => {
  const { store } = setUp({ total: 100_000, memory: 1_000_000, waitMs: 50 });
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, async () => {
      const message = await put(store, ...Array.from({ length: 10 }, () => Buffer.alloc(1000)));
      message.release();
    }),
  );
  const done = results.filter(({ status }) => status === "fulfilled").length;
  assert.ok(done >= 10, `${done} of 20`);
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
});

test("messages that fill the budget together give up the youngest at once, and the others are finished", async () => {
  const { store } = setUp({ total: 60_000, memory: 1_000_000, waitMs: 5000 });
  const begin = performance.now();
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, async () => {
      const message = await put(store, ...Array.from({ length: 10 }, () => Buffer.alloc(1000)));
      await new Promise((resolve) => setTimeout(resolve, 5));
      message.release();
    }),
  );
  const done = results.map(({ status }) => status === "fulfilled");
  assert.ok(performance.now() - begin < 2000);
  assert.ok(done.filter(Boolean).length >= 13, done.join());
  assert.equal(done[0], true, "the oldest is finished");
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
});

test("a message larger than the whole budget fails at once", async () => {
  const { store } = setUp({ total: 10_000, memory: 1_000_000, waitMs: 5000 });
  const begin = performance.now();
  await assert.rejects(put(store, ...Array.from({ length: 11 }, () => Buffer.alloc(1000))), HoldFull);
  assert.ok(performance.now() - begin < 1000);
});

test("an aborted message gives everything back, also while it waits or writes", async () => {
  const { store, logged } = setUp({ total: 1_000_000, waitMs: 1000 });
  const spooled = store.open();
  const writes = Array.from({ length: 8 }, () => spooled.write(Buffer.alloc(100_000)));
  const waiting = store.open();
  const wait = waiting.write(Buffer.alloc(900_000)) as Promise<void>;
  waiting.abort();
  spooled.abort();
  spooled.abort();
  await assert.rejects(wait, HoldFull);
  const waited = writes.filter((write) => write !== true);
  assert.ok(waited.length > 0);
  for (const write of waited) await assert.rejects(write, HoldFull);
  assert.deepEqual(logged, []);
  assert.throws(() => spooled.write(Buffer.alloc(1)), HoldFull);
  assert.deepEqual(store.held, { memory: 0, spool: 0 });
  (await put(store, Buffer.alloc(1_000_000))).release();
});

test("reading a released message fails, also in the middle, and never reads another's file", async () => {
  const { store } = setUp();
  const message = await put(store, Buffer.alloc(300_000, 1));
  const chunks = message.chunks()[Symbol.asyncIterator]();
  await chunks.next();
  message.release();
  const other = await put(store, Buffer.alloc(300_000, 2));
  await assert.rejects(async () => chunks.next(), /released/);
  await assert.rejects(async () => content(message), /released/);
  other.release();
});

test("a spool that cannot be used is named", () => {
  const { store } = setUp({ spool: "/dev/null/spool" });
  assert.match(store.problem() ?? "", /filter\.spool: cannot make files in \/dev\/null\/spool/);
  assert.equal(setUp().store.problem(), undefined);
});

test("a full disk is no room, with its cause in the log; room again is room again", async (t) => {
  const small = mkdtempSync(join(tmpdir(), "hold-full-"));
  t.after(() => {
    spawnSync("umount", ["-l", small]);
    rmSync(small, { recursive: true, force: true });
  });
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", small], { stdio: "ignore" });
  } catch {
    assert.notEqual(process.env.CI, "true", "mounting a tmpfs needs root");
    t.skip("mounting a tmpfs needs root");
    return;
  }
  const { store, logged } = setUp({ spool: small });
  const first = await put(store, Buffer.alloc(1_500_000));
  await assert.rejects(put(store, ...Array.from({ length: 30 }, () => Buffer.alloc(50_000))), HoldFull);
  const causes = logged.map((entry) => ((entry as unknown[])[1] as { code?: string }).code);
  assert.ok(causes.includes("ENOSPC"), String(causes));
  assert.deepEqual(store.held, { memory: 0, spool: 1_500_000 });
  first.release();
  // The descriptor is closed off the main thread.
  for (let tries = 0; ; tries++) {
    try {
      (await put(store, Buffer.alloc(1_500_000))).release();
      break;
    } catch (error) {
      if (tries > 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
});
