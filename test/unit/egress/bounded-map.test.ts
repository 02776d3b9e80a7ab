import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BoundedMap } from "../../../src/egress/bounded-map.ts";
import fc from "../../support/property.ts";

const CAPACITY = 3;

/** What it shall do, by moving keys to the end of a Map. */
function touched(model: Map<string, number>, key: string, value: number): void {
  model.delete(key);
  model.set(key, value);
  if (model.size > CAPACITY) model.delete(model.keys().next().value as string);
}

describe("a bounded map", () => {
  it("forgets the entry that was set or read longest ago, whatever came before", () => {
    const operation = fc.tuple(
      fc.constantFrom("get", "set", "delete"),
      fc.constantFrom(..."abcde"),
      fc.nat(),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        const map = new BoundedMap<string, number>(CAPACITY);
        const model = new Map<string, number>();
        for (const [what, key, value] of operations) {
          if (what === "set") {
            map.set(key, value);
            touched(model, key, value);
          } else if (what === "delete") {
            assert.equal(map.delete(key), model.delete(key));
          } else {
            const known = model.get(key);
            assert.equal(map.get(key), known);
            if (known !== undefined) touched(model, key, known);
          }
          assert.deepEqual([...map.entries()], [...model]);
          assert.equal(map.size, model.size);
        }
      }),
    );
  });
});
