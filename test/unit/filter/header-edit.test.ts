import assert from "node:assert/strict";
import { test } from "node:test";
import { sectionEnd } from "../../../src/filter/derived.ts";
import { editHeader, type HeaderEdit } from "../../../src/filter/header-edit.ts";
import fc from "../../support/property.ts";

/** The whole message, edited, as the chain does it. */
function edited(message: string, ...edits: HeaderEdit[]): string {
  const octets = Buffer.from(message, "latin1");
  const end = sectionEnd(octets) ?? octets.length;
  return Buffer.concat([...editHeader(octets.subarray(0, end), edits), octets.subarray(end)]).toString(
    "latin1",
  );
}
const add = (name: string, value: string): HeaderEdit => ({ kind: "add", name, value });
const insert = (name: string, value: string): HeaderEdit => ({ kind: "insert", name, value });
const set = (name: string, value: string, occurrence: number): HeaderEdit => ({
  kind: "set",
  name,
  value,
  occurrence,
});
const remove = (name: string, occurrence: number): HeaderEdit => ({ kind: "remove", name, occurrence });

const MESSAGE = "A: 1\r\nB: 2\r\n folded\r\na : 3\r\n\r\nbody\r\n";

test("adds at the end of the header section and inserts on top", () => {
  assert.equal(
    edited(MESSAGE, add("X", "end"), insert("Y", "top")),
    "Y: top\r\nA: 1\r\nB: 2\r\n folded\r\na : 3\r\nX: end\r\n\r\nbody\r\n",
  );
});

test("sets one occurrence, or all, in place", () => {
  assert.equal(edited(MESSAGE, set("A", "9", 1)), MESSAGE.replace("A: 1", "A: 9"));
  assert.equal(edited(MESSAGE, set("A", "9", 2)), MESSAGE.replace("a : 3", "A: 9"));
  assert.equal(edited(MESSAGE, set("a", "9", 0)), MESSAGE.replace("A: 1", "a: 9").replace("a : 3", "a: 9"));
});

test("a field that a client names 100,000 times is written once for each edit that sets it", () => {
  const section = Buffer.from("A:\r\n".repeat(100_000));
  const edits = Array.from({ length: 32 }, (_, i) => set("A", `${i} ${"x ".repeat(450)}`, 0));
  const before = performance.now();
  const pieces = editHeader(section, edits);
  // Written for each occurrence it takes half a minute.
  assert.ok(performance.now() - before < 5000);
  assert.equal(new Set(pieces).size, 1);
  assert.equal(pieces.length, 100_000);
});

test("removes a field from among as many as a header section has room for", () => {
  const others = "a:\r\n".repeat(131_000);
  assert.ok(edited(`B: 2\r\n${others}\r\n`, remove("b", 0)) === `${others}\r\n`);
});

test("sets what is not there by adding it", () => {
  assert.equal(edited(MESSAGE, set("C", "9", 0)), MESSAGE.replace("\r\n\r\n", "\r\nC: 9\r\n\r\n"));
  assert.equal(edited(MESSAGE, set("A", "9", 3)), MESSAGE.replace("\r\n\r\n", "\r\nA: 9\r\n\r\n"));
});

test("removes a field with its folded lines", () => {
  assert.equal(edited(MESSAGE, remove("b", 1)), "A: 1\r\na : 3\r\n\r\nbody\r\n");
  assert.equal(edited(MESSAGE, remove("A", 0)), "B: 2\r\n folded\r\n\r\nbody\r\n");
  assert.equal(edited(MESSAGE, remove("A", 3), remove("C", 0)), MESSAGE);
});

test("edits see what the ones before them made", () => {
  assert.equal(
    edited(MESSAGE, add("C", "1"), set("C", "2", 1), remove("A", 1), remove("A", 1)),
    "B: 2\r\n folded\r\nC: 2\r\n\r\nbody\r\n",
  );
});

test("a message without a header section gets one, with its empty line", () => {
  assert.equal(
    edited("Hello, world\r\nbye\r\n\r\nrest\r\n", add("X", "1")),
    "X: 1\r\n\r\nHello, world\r\nbye\r\n\r\nrest\r\n",
  );
  assert.equal(edited("Hello\r\n", insert("X", "1"), add("Y", "2")), "X: 1\r\nY: 2\r\n\r\nHello\r\n");
});

test("fields that only look like some in a body without a header section are not touched", () => {
  const message = "Hello\r\nSubject: no\r\n";
  assert.equal(edited(message, remove("Subject", 0)), message);
});

test("a message that begins with an empty line gets its header before it", () => {
  assert.equal(edited("\r\nbody\r\n", add("X", "1")), "X: 1\r\n\r\nbody\r\n");
});

test("an empty message becomes a header", () => {
  assert.equal(edited("", add("X", "1")), "X: 1\r\n");
});

test("a header section without a body is added to at its end, also without its last CRLF", () => {
  assert.equal(edited("A: 1\r\n", add("X", "1")), "A: 1\r\nX: 1\r\n");
  assert.equal(edited("A: 1", add("X", "1")), "A: 1\r\nX: 1\r\n");
  assert.equal(edited("A: 1", insert("X", "1")), "X: 1\r\nA: 1");
});

test("adds before a malformed line, so that strict readers see the field, and keeps the line", () => {
  assert.equal(
    edited("A: 1\r\nno field\r\nB: 2\r\n\r\nbody", add("X", "1")),
    "A: 1\r\nX: 1\r\nno field\r\nB: 2\r\n\r\nbody",
  );
});

test("removes and sets also behind a malformed line, since lenient readers see those fields", () => {
  const message = "A: 1\r\nno field\r\nBcc: 2\r\n\r\nbody";
  assert.equal(edited(message, remove("Bcc", 0)), "A: 1\r\nno field\r\n\r\nbody");
  assert.equal(edited(message, set("Bcc", "3", 1)), "A: 1\r\nno field\r\nBcc: 3\r\n\r\nbody");
});

test("an mbox line stays the first", () => {
  const message = "From alice@example.org Thu Jan 1\r\nA: 1\r\n\r\nbody";
  assert.equal(
    edited(message, insert("X", "1")),
    "From alice@example.org Thu Jan 1\r\nX: 1\r\nA: 1\r\n\r\nbody",
  );
});

test("no edit leaves no trace, whatever the message", () => {
  const line = fc.constantFrom("A: 1", " folded", "no field", "", "From x", "B : 2", ":", "\u00ff: 1", "C:");
  fc.assert(
    fc.property(fc.array(line), fc.boolean(), (all, ended) => {
      const message = all.join("\r\n") + (ended ? "\r\n" : "");
      assert.equal(edited(message), message);
    }),
  );
});

test("adding and removing a new field gives the same octets, and the body never changes", () => {
  const line = fc.constantFrom("A: 1", "\tfolded", "no field", "B : 2", "Subject: x y");
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 8 }),
      fc.constantFrom("", "body\r\n", "X-New: in body\r\n"),
      (all, body) => {
        const message = ["First: f", ...all, ""].join("\r\n") + (body === "" ? "" : `\r\n${body}`);
        assert.equal(edited(edited(message, insert("X-New", "1")), remove("X-New", 0)), message);
        assert.equal(edited(message, add("X-New", "1"), remove("x-new", 1)), message);
        assert.ok(edited(message, add("X-New", "1"), set("A", "2", 0)).endsWith(body));
      },
    ),
  );
});
