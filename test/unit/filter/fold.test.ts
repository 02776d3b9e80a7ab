import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldProblem, foldField, LINE_LIMIT } from "../../../src/filter/fold.ts";
import fc from "../../support/property.ts";

const plain = { smtputf8: false };
const lines = (field: Buffer) => field.toString("latin1").split("\r\n").slice(0, -1);

test("a short field is one line", () => {
  assert.equal(foldField("X-Spam-Score", "4.2")?.toString(), "X-Spam-Score: 4.2\r\n");
});

test("an empty value leaves no blank behind the colon", () => {
  assert.equal(foldField("X-Empty", "")?.toString(), "X-Empty:\r\n");
});

test("a long value is folded at white space to 78 octets", () => {
  const field = foldField("X-Report", Array(60).fill("word").join(" ")) as Buffer;
  assert.ok(lines(field).length > 3);
  for (const line of lines(field)) assert.ok(line.length <= 78, line);
});

test("a word that is longer than 78 octets stands on a line of its own", () => {
  const field = foldField("X-Url", `see ${"u".repeat(200)} there`) as Buffer;
  assert.deepEqual(lines(field), ["X-Url: see", ` ${"u".repeat(200)}`, " there"]);
});

test("a word that fits into no line of 998 octets is a problem", () => {
  assert.match(fieldProblem("X-Url", "u".repeat(LINE_LIMIT), plain) ?? "", /does not fit/);
  assert.equal(fieldProblem("X-Url", "u".repeat(LINE_LIMIT - 7), plain), undefined);
});

test("names that RFC 5322 does not know are problems", () => {
  for (const name of ["", "X Y", "X:Y", "X\r\nBcc", "X\0", "Ü", "X\t", "N".repeat(257)]) {
    assert.notEqual(fieldProblem(name, "v", plain), undefined, JSON.stringify(name));
  }
});

test("values that could end the line or the header are problems", () => {
  for (const value of ["a\r\n\r\nbody", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x0bb", "a\u0085b", "\ud800"]) {
    assert.notEqual(fieldProblem("X-A", value, { smtputf8: true }), undefined, JSON.stringify(value));
  }
});

test("a value beyond US-ASCII needs SMTPUTF8", () => {
  assert.match(fieldProblem("X-A", "grün", plain) ?? "", /8-bit/);
  assert.equal(fieldProblem("X-A", "grün", { smtputf8: true }), undefined);
});

test("unfolding gives the value back, no line is too long, and none is blank", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", ":", "=", " ", "\t", "ü"), maxLength: 400 });
  fc.assert(
    fc.property(fc.constantFrom("X", "X-A-Long-Field-Name"), word, (name, value) => {
      const field = foldField(name, value);
      if (field === undefined) return;
      const text = field.toString("utf8");
      assert.ok(text.endsWith("\r\n"));
      assert.equal(
        text.slice(0, -2).replace(/\r\n(?=[ \t])/g, ""),
        value === "" ? `${name}:` : `${name}: ${value}`,
      );
      const all = text.slice(0, -2).split("\r\n");
      for (const line of all) assert.ok(Buffer.byteLength(line) <= LINE_LIMIT);
      for (const line of all.slice(1)) assert.match(line, /^[ \t].*[^ \t]/u);
    }),
  );
});
