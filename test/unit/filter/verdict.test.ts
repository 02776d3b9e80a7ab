import assert from "node:assert/strict";
import { test } from "node:test";
import { type RawVerdict, type VerdictRules, validateVerdict } from "../../../src/filter/verdict.ts";
import fc from "../../support/property.ts";

const RULES: VerdictRules = {
  smtputf8: false,
  eightBit: false,
  maxOctets: 1000,
  discardAllowed: false,
  sawWhole: true,
};
function judge(verdict: RawVerdict["verdict"], rules: Partial<VerdictRules> = {}) {
  return validateVerdict({ verdict, score: 0, tags: [], note: "" }, { ...RULES, ...rules });
}
const reject = (code: number, enhancedCode: string, text: string) =>
  judge({ case: "reject", value: { code, enhancedCode, text } });
const replace = (message: string, rules: Partial<VerdictRules> = {}) =>
  judge({ case: "replace", value: { message: Buffer.from(message, "latin1") } }, rules);
const edit = (name: string, value: string, rules: Partial<VerdictRules> = {}) =>
  judge({ case: "addHeader", value: { edits: [{ edit: { case: "add", value: { name, value } } }] } }, rules);

test("a reject that says nothing is 550 5.7.0 Message rejected", () => {
  const judged = reject(0, "", "");
  assert.deepEqual(judged.ok && judged.verdict, {
    kind: "reject",
    reply: { code: 550, enhancedCode: "5.7.0", text: "Message rejected" },
  });
});

test("the enhanced code follows the class of the code", () => {
  const judged = reject(451, "", "later");
  assert.deepEqual(judged.ok && judged.verdict.kind === "reject" && judged.verdict.reply, {
    code: 451,
    enhancedCode: "4.7.0",
    text: "later",
  });
});

test("rejects that are no refusal, or would end the session, are invalid", () => {
  for (const code of [99, 200, 250, 354, 399, 421, 521, 600, 5500])
    assert.equal(reject(code, "", "x").ok, false, `${code}`);
});

test("rejects with other enhanced codes are invalid", () => {
  for (const code of ["2.0.0", "4.7.1", "5.7", "5.7.1 ", "5.7.1\r\n250 ok", "x", "5.7.1234"]) {
    assert.equal(reject(550, code, "x").ok, false, JSON.stringify(code));
  }
});

test("texts that are not one line of at most 400 US-ASCII octets are invalid", () => {
  for (const text of ["a\r\n250 ok", "a\nb", "a\rb", "a\0", "ü", "a\tb", "x".repeat(401), "x".repeat(2000)]) {
    assert.equal(reject(550, "5.7.1", text).ok, false, JSON.stringify(text.slice(0, 20)));
  }
  assert.equal(reject(550, "5.7.1", "x".repeat(400)).ok, true);
});

test("no reply that passes has a CR, an LF or a code that is no refusal", () => {
  fc.assert(
    fc.property(fc.nat(700), fc.string(), fc.string(), (code, enhanced, text) => {
      const judged = reject(code, enhanced, text);
      if (!judged.ok || judged.verdict.kind !== "reject") return;
      const { reply } = judged.verdict;
      assert.match(
        `${reply.code} ${reply.enhancedCode} ${reply.text}`,
        /^[45]\d\d [45]\.\d{1,3}\.\d{1,3} [\x20-\x7e]+$/,
      );
    }),
  );
});

test("no verdict at all is invalid", () => {
  const judged = judge({ case: undefined });
  assert.deepEqual(judged, { ok: false, problem: "no verdict is set" });
});

test("a verdict of a later version is invalid", () => {
  assert.equal(judge({ case: "quarantine", value: {} } as unknown as RawVerdict["verdict"]).ok, false);
});

test("discard needs the operator's word", () => {
  assert.equal(judge({ case: "discard", value: {} }).ok, false);
  assert.equal(judge({ case: "discard", value: {} }, { discardAllowed: true }).ok, true);
});

test("header edits that inject are invalid, and say what is wrong", () => {
  for (const [name, value] of [
    ["X\r\nBcc", "x"],
    ["X Y", "x"],
    ["X", "a\r\n\r\nbody"],
    ["X", "a\0"],
    ["", "x"],
    ["X", "ü"],
  ] as const) {
    const judged = edit(name, value);
    assert.ok(!judged.ok && judged.problem.startsWith("invalid header edit"), name);
  }
  assert.equal(edit("X", "ü", { smtputf8: true }).ok, true);
});

test("one invalid edit among good ones makes the answer invalid", () => {
  const good = { edit: { case: "add", value: { name: "X", value: "1" } } } as const;
  const bad = { edit: { case: undefined } } as const;
  assert.equal(judge({ case: "addHeader", value: { edits: [good, bad] } }).ok, false);
  assert.equal(judge({ case: "addHeader", value: { edits: [] } }).ok, false);
  assert.equal(judge({ case: "addHeader", value: { edits: Array(257).fill(good) } }).ok, false);
});

test("a replacement with a bare CR, a bare LF or a NUL is invalid", () => {
  for (const message of [
    "\n",
    "\r",
    "a\n",
    "a\nb\r\n",
    "a\rb\r\n",
    "a\r\n\nb\r\n",
    "a\r\r\nb",
    "a\r\n.\r",
    "a\0\r\n",
    "a\n\r\n",
  ]) {
    assert.equal(replace(message).ok, false, JSON.stringify(message));
  }
});

test("a replacement may hold CRLF.CRLF, and gets its last CRLF", () => {
  const judged = replace("A: 1\r\n\r\nx\r\n.\r\ny");
  assert.ok(judged.ok && judged.verdict.kind === "replace");
  assert.equal(judged.verdict.message.toString(), "A: 1\r\n\r\nx\r\n.\r\ny\r\n");
});

test("a replacement is empty, too large, or by a hook that saw a part: invalid", () => {
  assert.equal(replace("").ok, false);
  assert.equal(replace(`${"x".repeat(70)}\r\n`.repeat(14)).ok, false);
  assert.equal(replace("A: 1\r\n", { sawWhole: false }).ok, false);
});

test("8-bit in a replacement is told where MAIL announced none, to be compared with the message before it", () => {
  for (const [content, rules, told] of [
    ["A: 1\r\n\r\n\xff\r\n", {}, true],
    ["A: 1\r\n\r\n\xff\r\n", { eightBit: true }, false],
    ["A: 1\r\n\r\n\xff\r\n", { smtputf8: true }, false],
    ["A: 1\r\n\r\nx\r\n", {}, false],
  ] as const) {
    const judged = replace(content, rules);
    assert.ok(judged.ok && judged.verdict.kind === "replace");
    assert.equal(judged.verdict.isUnannounced8Bit, told);
  }
});

test("long lines of a replacement are named, to be compared with the message before it", () => {
  const judged = replace(`${"x".repeat(998)}\r\n${"y".repeat(999)}\r\n`, { maxOctets: 3000 });
  assert.ok(judged.ok && judged.verdict.kind === "replace");
  assert.deepEqual(
    judged.verdict.longLines.map((line) => line.toString()),
    ["y".repeat(999)],
  );
});

test("a replacement that passes has no bare CR or LF", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom("a", "\r", "\n", "\r\n", "."), maxLength: 30 }),
      (message) => {
        const judged = replace(message);
        const clean =
          !/\r(?!\n)|(?<!\r)\n/.test(message.endsWith("\n") ? message : `${message}\r\n`) && message !== "";
        assert.equal(judged.ok, clean);
      },
    ),
  );
});

test("a score that is no number is invalid; tags and note are cut", () => {
  for (const score of [Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.equal(
      validateVerdict({ verdict: { case: "relay", value: {} }, score, tags: [], note: "" }, RULES).ok,
      false,
    );
  }
  const judged = validateVerdict(
    {
      verdict: { case: "relay", value: {} },
      score: 1,
      tags: Array(100).fill("t".repeat(500)),
      note: "n".repeat(5000),
    },
    RULES,
  );
  assert.ok(judged.ok);
  assert.equal(judged.remarks.tags.length, 64);
  assert.equal(judged.remarks.tags[0]?.length, 128);
  assert.equal(judged.remarks.note.length, 1024);
});

test("tags and note are cut in octets, between characters", () => {
  const raw = { verdict: { case: "relay", value: {} }, score: 0 } as const;
  const judged = validateVerdict(
    { ...raw, tags: [`a${"é".repeat(200)}`, "é".repeat(64)], note: "😀€".repeat(500) },
    RULES,
  );
  assert.ok(judged.ok);
  assert.deepEqual(judged.remarks.tags, [`a${"é".repeat(63)}`, "é".repeat(64)]);
  // Of seven octets each: 146 pairs are 1,022, and the next character needs four.
  assert.equal(judged.remarks.note, "😀€".repeat(146));
});
