/** Hints about this host. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ephemeralPortHint } from "../../../../src/cli/proxy/host-checks.ts";

describe("ephemeralPortHint", () => {
  const range = "32768\t60999\n";
  it("is silent about a port outside of the range, and about a reserved one", () => {
    assert.equal(ephemeralPortHint(10025, range, "\n"), undefined);
    assert.equal(ephemeralPortHint(40025, range, "8080,40000-40100\n"), undefined);
    assert.equal(ephemeralPortHint(40025, range, "40025\n"), undefined);
    assert.equal(ephemeralPortHint(0, range, "\n"), undefined);
    assert.equal(ephemeralPortHint(40025, "", ""), undefined);
  });
  it("names port, range and setting", () => {
    const hint = ephemeralPortHint(40025, range, "8080,40026-40100\n") ?? "";
    assert.match(hint, /port 40025 .*32768 to 60999.*ip_local_reserved_ports/);
    assert.match(ephemeralPortHint(60999, range, "\n") ?? "", /60999/);
  });
});
