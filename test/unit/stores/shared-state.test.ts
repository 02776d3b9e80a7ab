/** Counts that workers share: sums are exact, a worker that died can be taken out, the budget is never exceeded. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Budget } from "../../../src/stores/budget.ts";
import { SharedState, sharedOctets } from "../../../src/stores/shared-state.ts";
import fc from "../../support/property.ts";

const shape = { workers: 3, sessions: 100 };
const make = (): SharedState => new SharedState(new ArrayBuffer(sharedOctets(shape)), shape);

describe("session counts", () => {
  it("are what a plain map says, whichever workers opened and closed the sessions", () => {
    const step = fc.record({ worker: fc.nat(2), client: fc.nat(30), opens: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const state = make();
        const open = new Map<string, number>();
        for (const { worker, client, opens } of steps) {
          const ip = `192.0.2.${client}`;
          const key = `${worker} ${ip}`;
          const count = open.get(key) ?? 0;
          if (!opens && count === 0) continue;
          if (opens) state.counts(worker).opened(ip);
          else state.counts(worker).closed(ip);
          open.set(key, count + (opens ? 1 : -1));
        }
        const total = [...open.values()].reduce((sum, count) => sum + count, 0);
        for (const worker of [0, 1, 2]) assert.equal(state.counts(worker).all(), total);
        for (let client = 0; client <= 30; client++) {
          const ip = `192.0.2.${client}`;
          const expected = [0, 1, 2].reduce((sum, worker) => sum + (open.get(`${worker} ${ip}`) ?? 0), 0);
          // With so few clients no four rows collide.
          assert.equal(state.counts(0).ofClient(ip), expected);
        }
      }),
    );
  });

  it("forget the sessions of a worker that died, and only those", () => {
    const state = make();
    for (const worker of [0, 1]) state.counts(worker).opened("2001:db8::1");
    state.clear(1);
    assert.equal(state.counts(2).all(), 1);
    assert.equal(state.counts(2).ofClient("2001:db8::1"), 1);
  });

  it("are never too low with many clients, and rarely too high", () => {
    const state = make();
    for (let client = 0; client < 200; client++) state.counts(client % 3).opened(`10.0.${client}.1`);
    let over = 0;
    for (let client = 0; client < 200; client++) {
      const count = state.counts(0).ofClient(`10.0.${client}.1`);
      assert.ok(count >= 1);
      if (count > 1) over++;
    }
    assert.ok(over <= 4, `${over} of 200`);
  });
});

describe("octet pool", () => {
  it("gives no more than there is, to all workers together, also beyond 2 GiB", () => {
    const state = make();
    const total = 5 * 2 ** 30;
    const [first, second] = [state.pool(0, total), state.pool(1, total)];
    assert.ok(first.take(3 * 2 ** 30));
    assert.ok(!second.take(3 * 2 ** 30));
    assert.ok(second.take(2 * 2 ** 30));
    assert.ok(!first.take(1));
    first.give(3 * 2 ** 30);
    assert.ok(second.take(1));
    state.clear(1);
    assert.ok(first.take(total));
  });

  it("lets one worker's wait end when another gives back", async () => {
    const state = make();
    const [other, own] = [state.pool(0, 1000), state.pool(1, 1000)];
    assert.ok(other.take(900));
    const budget = new Budget(1000, 5000, () => {}, own);
    const waiting = budget.open().take(500);
    assert.notEqual(waiting, true);
    other.give(900);
    await waiting;
    assert.ok(!other.take(501));
  });
});
