import assert from "node:assert/strict";
import { test } from "node:test";
import type { Endpoint } from "../../../src/events/events.ts";
import { type AdmissionRules, admit, legKey } from "../../../src/session/admission.ts";

const mx: Endpoint = { ip: "198.51.100.9", port: 25 };
const other: Endpoint = { ip: "198.51.100.10", port: 25 };
const listener: Endpoint = { ip: "127.0.0.1", port: 10_025 };
const peer: Endpoint = { ip: "192.0.2.1", port: 40_000 };

const captured: AdmissionRules = {
  mode: "redirect",
  fixed: undefined,
  isClient: () => true,
  isLocalAddress: () => false,
  isDenied: () => false,
  denySelf: true,
  ports: new Set([25]),
  opaqueRelay: new Set(),
  opaqueRefuse: new Set(),
  sessions: 10,
  sessionsPerClient: 10,
};
const active = { all: 0, ofClient: 0, stopping: false };
function kindOf(
  rules: AdmissionRules,
  legs: readonly string[],
  original: Endpoint,
  local = listener,
): string {
  const admission = admit({ client: peer, local, original: () => original }, rules, new Set(legs), active);
  return admission.kind === "refused" ? admission.code : admission.kind;
}

test("refuses a connection that is one of its own legs, captured", () => {
  assert.equal(kindOf(captured, [legKey(peer, mx)], mx), "loop");
  assert.equal(kindOf({ ...captured, mode: "tproxy" }, [legKey(peer, mx)], mx, mx), "loop");
});

test("refuses a leg to its own listener", () => {
  const fixed: AdmissionRules = { ...captured, mode: "fixed", fixed: listener };
  assert.equal(kindOf(fixed, [legKey(peer, listener)], listener), "loop");
});

test("takes a client whose port a leg to somebody else has too", () => {
  assert.equal(kindOf(captured, [legKey(peer, other)], mx), "session");
  const fixed: AdmissionRules = { ...captured, mode: "fixed", fixed: mx };
  assert.equal(kindOf(fixed, [legKey(peer, mx)], mx), "session");
});

const REFUSED: readonly [name: string, got: () => ReturnType<typeof admit>, expected: string][] = [
  ["a client of no allowed network", () => ask({ isClient: () => false }), "421 4.7.1"],
  ["one session too many", () => ask({ sessions: 0 }), "421 4.3.2"],
  ["one session too many of a client", () => ask({ sessionsPerClient: 0 }), "421 4.3.2"],
  ["a connection while warp stops", () => ask({}, mx, true), "421 4.3.2"],
  ["a direct connection to warp's port", () => ask({}, listener), "421 4.3.5"],
  ["a port that is not captured", () => ask({}, { ...mx, port: 587 }), "421 4.3.5"],
  ["this host as the destination", () => ask({ isLocalAddress: (ip) => ip === mx.ip }), "421 4.3.5"],
  ["a denied destination", () => ask({ isDenied: (ip) => ip === mx.ip }), "421 4.3.5"],
  ["an opaque port", () => ask({ opaqueRefuse: new Set([25]) }), "421 4.3.5"],
];

function ask(changed: Partial<AdmissionRules>, original = mx, stopping = false): ReturnType<typeof admit> {
  const arrival = { client: peer, local: listener, original: () => original };
  return admit(arrival, { ...captured, ...changed }, new Set(), { ...active, stopping });
}

for (const [name, got, expected] of REFUSED) {
  test(`${name} is refused with ${expected}`, () => {
    const admission = got();
    assert.equal(admission.kind === "refused" && admission.reply.wire.toString().startsWith(expected), true);
  });
}

test("this host is a destination where deny_self is off, and opaque ports are relayed where asked", () => {
  assert.equal(ask({ denySelf: false, isLocalAddress: () => true }).kind, "session");
  assert.equal(ask({ opaqueRelay: new Set([25]) }).kind, "opaque");
});
