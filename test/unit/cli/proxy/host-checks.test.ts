/** Hints about this host. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  descriptorHint,
  ephemeralPortHint,
  openFiles,
  sessionsWithin,
} from "../../../../src/cli/proxy/host-checks.ts";

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

describe("descriptors", () => {
  const limits = (sessions: number) =>
    ({ limits: { sessions }, workers: 2, mayFilter: false }) as Parameters<typeof descriptorHint>[0];

  it("are two per session, three where filters hold messages, and some are kept for everything else", () => {
    const files = { limit: 1000, used: 40 };
    assert.equal(sessionsWithin(files, { mayFilter: false }), 430);
    assert.equal(sessionsWithin(files, { mayFilter: true }), 286);
    assert.equal(sessionsWithin({ limit: 64, used: 40 }, { mayFilter: false }), 1);
    const unknown = { limit: Number.POSITIVE_INFINITY, used: 0 };
    assert.equal(sessionsWithin(unknown, { mayFilter: true }), Number.POSITIVE_INFINITY);
  });
  it("of this process are known", { skip: process.platform !== "linux" }, () => {
    const { limit, used } = openFiles();
    assert.ok(limit >= used && used > 3, `${used} of ${limit}`);
  });
  it("are a hint where they do not suffice for limits.sessions", () => {
    assert.equal(descriptorHint(limits(860), { limit: 1000, used: 40 }), undefined);
    const hint = descriptorHint(limits(861), { limit: 1000, used: 40 }) ?? "";
    assert.match(
      hint,
      /limits\.sessions: was 861.* 1000 descriptors.*each worker serves at most 430.*LimitNOFILE/,
    );
  });
});
