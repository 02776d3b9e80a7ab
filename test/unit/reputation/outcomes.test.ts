import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { FilterOutcome } from "../../../src/events/events.ts";
import { EMPTY_TALLY, type Tally } from "../../../src/reputation/counts.ts";
import { spamEvidence, tallyOf } from "../../../src/reputation/outcomes.ts";
import { type Answer, reply, transaction } from "./transactions.ts";

const OK: Answer = { code: 250, text: "2.0.0 OK" };
const filter = (changes: Partial<FilterOutcome>): FilterOutcome => ({
  hook: "h",
  verdict: "relay",
  score: 0,
  tags: [],
  note: "",
  failure: "",
  onFailure: "",
  durationMs: 1,
  shadow: false,
  reply: undefined,
  ...changes,
});

describe("what an answer counts as for its sender", () => {
  const cases: readonly [answer: Answer, counted: Partial<Tally> | undefined][] = [
    [OK, { ok: 1 }],
    [{ code: 550, text: "5.1.1 no such user" }, { unknown: 1 }],
    [{ code: 450, text: "4.1.1 unverified address: Address verification in progress" }, undefined],
    [{ code: 421, text: "4.7.28 unusual rate of unsolicited mail" }, { defer: 1 }],
    [{ code: 451, text: "4.7.1 Message deferred due to the sender's reputation" }, { defer: 1 }],
    [{ code: 554, text: "5.7.1 Spam message rejected" }, { refuse: 1 }],
    [{ code: 550, text: "5.7.26 unauthenticated" }, { refuse: 1 }],
    [{ code: 550, text: "5.7.1 blocked using zen.spamhaus.org" }, undefined],
    [{ code: 450, text: "4.2.0 Greylisted" }, undefined],
    [{ code: 552, text: "5.2.2 over quota" }, undefined],
    [{ code: 451, text: "4.3.0 Temporary lookup failure" }, undefined],
    [{ code: 530, text: "5.7.0 Must issue a STARTTLS command first" }, undefined],
    [{ code: 451, text: "4.7.1 filter failed", origin: "warp" }, undefined],
    [{ code: 550, text: "5.7.1 no", origin: "hook" }, undefined],
  ];
  for (const [answer, counted] of cases) {
    const says = counted === undefined ? "nothing" : Object.keys(counted)[0];
    it(`of ${answer.origin ?? "upstream"}: ${answer.code} ${answer.text} is ${says}`, () => {
      const result = tallyOf(transaction({ from: "a@example.com", answers: [answer] }));
      if (counted === undefined) assert.equal(result, undefined);
      else assert.deepEqual(result, { tally: { ...EMPTY_TALLY, ...counted }, recipients: 1 });
    });
  }
  it("is counted per recipient", () => {
    const answers = [OK, OK, { code: 550, text: "5.1.1 unknown" }];
    const result = tallyOf(transaction({ from: "a@example.com", answers }));
    assert.deepEqual(result, { tally: { ...EMPTY_TALLY, ok: 2, unknown: 1 }, recipients: 3 });
  });
  it("is counted also for recipients that the event does not name", () => {
    const event = transaction({ from: "a@example.com", answers: [OK] });
    const unknown = reply({ code: 550, text: "5.1.1 unknown" });
    const omittedAnswers = [{ count: 30, rcptReply: unknown, finalReply: unknown }];
    assert.deepEqual(tallyOf({ ...event, recipientsOmitted: 30, omittedAnswers }), {
      tally: { ...EMPTY_TALLY, ok: 1, unknown: 30 },
      recipients: 31,
    });
  });
  it("is MAIL's where upstream refused that, and nothing where warp did", () => {
    const mail = { code: 550, text: "5.7.1 sender rejected as spam" };
    const result = tallyOf(transaction({ from: "a@example.com", answers: [], mail }));
    assert.deepEqual(result, { tally: { ...EMPTY_TALLY, refuse: 1 }, recipients: 1 });
    const own = transaction({ from: "a@example.com", answers: [], mail: { ...mail, origin: "warp" } });
    assert.equal(tallyOf(own), undefined);
  });
});

describe("what a filter says of a message", () => {
  it("is evidence from half of the spam score on, and certainty at it", () => {
    const evidence = (score: number) => spamEvidence(filter({ score }), 15);
    assert.deepEqual([-5, 0, 7.5, 11.25, 15, 100, Number.NaN].map(evidence), [0, 0, 0, 0.5, 1, 1, 0]);
  });
  it("is certainty where it rejects for good or discards, and nothing in shadow or where it failed", () => {
    const verdict = (changes: Partial<FilterOutcome>) => spamEvidence(filter(changes), 15);
    assert.equal(verdict({ verdict: "reject", reply: reply({ code: 550, text: "no", origin: "hook" }) }), 1);
    assert.equal(verdict({ verdict: "reject", reply: reply({ code: 451, text: "no", origin: "hook" }) }), 0);
    assert.equal(verdict({ verdict: "discard" }), 1);
    assert.equal(verdict({ verdict: "reject", shadow: true }), 0);
    assert.equal(verdict({ failure: "deadline", score: 50 }), 0);
  });
  it("counts for every recipient of the message", () => {
    const spam = filter({ verdict: "add_header", score: 15 });
    const result = tallyOf(transaction({ from: "a@example.com", answers: [OK, OK], filters: [spam] }));
    assert.deepEqual(result, { tally: { ...EMPTY_TALLY, ok: 2, spam: 2 }, recipients: 2 });
  });
});
