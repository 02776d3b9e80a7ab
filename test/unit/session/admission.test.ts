import assert from "node:assert/strict";
import { test } from "node:test";
import type { Endpoint } from "../../../src/events/events.ts";
import { type AdmissionRules, admit } from "../../../src/session/admission.ts";
import { OwnLegs } from "../../../src/session/own-legs.ts";

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
  sessionsOfProcess: 10,
};
const active = { all: 0, ofProcess: 0, ofClient: 0, stopping: false };
function kindOf(rules: AdmissionRules, legTo: Endpoint, original: Endpoint, local = listener): string {
  const arrival = { client: peer, local, original: () => original };
  const legs = new OwnLegs();
  legs.add(peer, legTo);
  const admission = admit(arrival, rules, legs, active);
  return admission.kind === "refused" ? admission.code : admission.kind;
}

test("refuses a connection that is one of its own legs, captured", () => {
  assert.equal(kindOf(captured, mx, mx), "loop");
  assert.equal(kindOf({ ...captured, mode: "tproxy" }, mx, mx, mx), "loop");
});

test("refuses a leg to its own listener", () => {
  const fixed: AdmissionRules = { ...captured, mode: "fixed", fixed: listener };
  assert.equal(kindOf(fixed, listener, listener), "loop");
  const legs = new OwnLegs();
  legs.add(peer, listener);
  const arrival = { client: peer, local: listener, original: () => listener };
  const admission = admit(arrival, fixed, legs, active);
  assert.match(admission.kind === "refused" ? admission.why : "", /capture\.destination/);
});

test("takes a client whose port a leg to somebody else has too", () => {
  assert.equal(kindOf(captured, other, mx), "session");
  const fixed: AdmissionRules = { ...captured, mode: "fixed", fixed: mx };
  assert.equal(kindOf(fixed, mx, mx), "session");
});

test("knows two legs from one local port apart, and forgets each once", () => {
  const legs = new OwnLegs();
  const [toMx, toOther] = [legs.add(peer, mx), legs.add(peer, other)];
  assert.ok(legs.has({ ...peer }, { ...mx }) && legs.has(peer, other));
  legs.delete(toMx);
  legs.delete(toMx);
  assert.deepEqual([legs.size, legs.has(peer, mx), legs.has(peer, other)], [1, false, true]);
  legs.delete(toOther);
  assert.deepEqual([legs.size, legs.has(peer, other)], [0, false]);
});

test("tells who has no descriptor left, instead of closing without a word", () => {
  const arrival = { client: peer, local: listener, original: () => mx };
  const rules = { ...captured, sessionsOfProcess: 3 };
  assert.equal(admit(arrival, rules, new OwnLegs(), { ...active, all: 5, ofProcess: 2 }).kind, "session");
  const admission = admit(arrival, rules, new OwnLegs(), { ...active, all: 5, ofProcess: 3 });
  assert.ok(admission.kind === "refused");
  assert.match(admission.reply.wire.toString(), /^421 4\.3\.2 /);
  assert.match(admission.why, /LimitNOFILE/);
});
