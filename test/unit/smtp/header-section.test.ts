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
  ] as const) {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 5 }), (at) => {
        assert.equal(collect(text, at).section().toString(), section);
      }),
    );
  }
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
