import assert from "node:assert/strict";
import { test } from "node:test";
import { HeaderCollector, messageIdOf } from "../../../src/smtp/header-section.ts";
import fc from "../../support/property.ts";

function collect(text: string, at: readonly number[], limit?: number): HeaderCollector {
  const collector = new HeaderCollector(limit);
  let from = 0;
  for (const point of [...at.map((p) => Math.min(p, text.length)).sort((a, b) => a - b), text.length]) {
    collector.read(Buffer.from(text.slice(from, point), "latin1"));
    from = point;
  }
  return collector;
}

test("gives the section without the empty line, at any split", () => {
  for (const [text, section] of [
    ["A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nmore", "A: 1\r\nB: 2"],
    ["\r\nbody", ""],
    ["A: 1\r\n", "A: 1"],
    ["", ""],
    ["A: 1\r\n\r\n", "A: 1"],
    ["A: 1\r\n folded\r\n\t \r\nB : 2\r\n\r\nbody", "A: 1\r\n folded\r\n\t \r\nB : 2"],
    ["no header\r\nA: 1\r\n\r\nbody", ""],
    ["no", ""],
    ["no colon", ""],
    [" A: 1\r\n\r\n", ""],
    [": 1\r\n\r\n", ""],
    ["A: 1\r\nmalformed line\r\nB: 2\r\n\r\nbody", "A: 1"],
    ["A: 1\r\nB\r\nbody", "A: 1"],
    ["A: 1\r\nB", "A: 1"],
    ["A: 1\r\nB:", "A: 1\r\nB:"],
    ["A: 1\r\n\xe4: 2\r\nbody", "A: 1"],
    ["A: 1\r\n\rB: 2\r\nbody", "A: 1"],
    ["A: 1\rB\nC\r\n..D: 2\r\n.\r\n", "A: 1\rB\nC\r\n..D: 2"],
    ["From a@x Mon\r\nA: 1\r\n\r\nbody", "From a@x Mon\r\nA: 1"],
    [">From a@x Mon\r\nA: 1\r\n\r\nbody", ">From a@x Mon\r\nA: 1"],
    ["From a@x Mon\r\n folded\r\n\r\nbody", "From a@x Mon"],
    ["From a@x Mon\r\nbody text\r\n\r\n", "From a@x Mon"],
    ["A: 1\r\nFrom here on\r\n\r\n", "A: 1"],
    ["From: a@x\r\n\r\nbody", "From: a@x"],
  ] as const) {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 5 }), (at) => {
        assert.equal(collect(text, at).section().toString("latin1"), section);
      }),
    );
  }
});

test("gives the same whatever the split, and nothing but fields", () => {
  const line = fc.constantFrom("A: 1", "B :2", " folded", "no field", "From x", ".", "", "\r", "x\n", ":");
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 8 }),
      fc.array(fc.nat(60), { maxLength: 6 }),
      fc.nat(60),
      (lines, at, limit) => {
        const text = lines.join("\r\n");
        const whole = collect(text, [], limit);
        const split = collect(text, at, limit);
        assert.deepEqual(split.section(), whole.section());
        assert.equal(split.truncated, whole.truncated);
        const section = whole.section().toString("latin1");
        assert.ok(text.startsWith(section));
        if (!whole.truncated)
          assert.match(section, /^(?:From x(?:\r\n|$))?(?:(?:A: 1|B :2)(?:\r\n folded)*(?:\r\n(?!$)|$))*$/);
      },
    ),
  );
});

test("stops at its limit and says so", () => {
  const collector = collect(`X: ${"y".repeat(300)}\r\n\r\n`, [], 100);
  assert.equal(collector.truncated, true);
  assert.equal(collector.complete, true);
  assert.equal(collector.section().length, 100);
});

test("finds the Message-ID, unfolded, whatever its case", () => {
  const section = Buffer.from("Subject: a\r\nmessage-ID:\r\n <1@x>\r\nX-Message-ID: no\r\nMessage-ID: <2@x>");
  assert.equal(messageIdOf(section), "<1@x>");
  assert.equal(messageIdOf(Buffer.from("Subject: Message-ID: <3@x>")), undefined);
});
