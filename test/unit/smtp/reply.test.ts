import assert from "node:assert/strict";
import { test } from "node:test";
import { enhancedCode, firstLineText, ReplyError, ReplyReader } from "../../../src/smtp/reply.ts";
import fc from "../../support/property.ts";

function read(pieces: Buffer[], limit?: number): string[] {
  const reader = new ReplyReader(limit);
  const replies: string[] = [];
  for (const piece of pieces) {
    reader.feed(piece);
    for (let reply = reader.next(); reply !== undefined; reply = reader.next()) {
      replies.push(`${reply.code}|${reply.wire.toString("latin1")}`);
    }
  }
  return replies;
}

test("joins a multi-line reply split inside a code", () => {
  assert.deepEqual(read([Buffer.from("250-a\r\n25"), Buffer.from("0 b\r\n220 next\r\n")]), [
    "250|250-a\r\n250 b\r\n",
    "220|220 next\r\n",
  ]);
});

test("any split gives the same replies", () => {
  const line = fc.tuple(
    fc.constantFrom("200", "354", "451", "550"),
    fc.constantFrom("", " text", " \xff\0", "xy"),
  );
  const reply = fc.tuple(line, fc.nat(3)).map(([[code, text], more]) => {
    return `${`${code}-m\r\n`.repeat(more)}${code}${text}\r\n`;
  });
  fc.assert(
    fc.property(fc.array(reply, { maxLength: 6 }), fc.array(fc.nat(80), { maxLength: 8 }), (replies, at) => {
      const octets = Buffer.from(replies.join(""), "latin1");
      const points = [0, ...at.map((p) => Math.min(p, octets.length)).sort((a, b) => a - b), octets.length];
      const pieces = points.slice(1).map((p, i) => octets.subarray(points[i], p));
      assert.deepEqual(
        read(pieces.filter((piece) => piece.length > 0)).map((text) => text.slice(4)),
        replies,
      );
    }),
    { numRuns: 2000 },
  );
});

test("a bare LF ends a line and leaves as CRLF, so that nobody counts replies differently", () => {
  assert.deepEqual(read([Buffer.from("250-a\n250 b\n550 no\r\n")]), [
    "250|250-a\r\n250 b\r\n",
    "550|550 no\r\n",
  ]);
});

for (const wrong of [
  "hello\r\n",
  "25 x\r\n",
  "190 x\r\n",
  "650 x\r\n",
  "2500 x\r\n",
  "250-a\r\n550 b\r\n",
  "\r\n",
]) {
  test(`${JSON.stringify(wrong)} is no reply`, () => {
    assert.throws(() => read([Buffer.from(wrong)]), ReplyError);
  });
}

test("a reply that never ends is cut off at the limit, in one line or in many", () => {
  assert.throws(() => read([Buffer.from(`250 ${"x".repeat(200)}`)], 100), { kind: "too_long" });
  assert.throws(() => read([Buffer.from("250-x\r\n".repeat(50))], 100), { kind: "too_long" });
});

test("the enhanced code is the one of the last line", () => {
  assert.equal(enhancedCode(Buffer.from("250-2.1.0 a\r\n250 2.1.5 b\r\n")), "2.1.5");
  assert.equal(enhancedCode(Buffer.from("421 4.7.28 slow down\r\n")), "4.7.28");
  assert.equal(enhancedCode(Buffer.from("250 ok\r\n")), "");
  for (const none of ["10.2.3 x", "2.1 x", "2.1.1234", "2..1", "3.1.1", "2.1.0x", "2.1234.1", "2.1.", "x"]) {
    assert.equal(enhancedCode(Buffer.from(`250 ${none}\r\n`)), "", none);
  }
  assert.equal(enhancedCode(Buffer.from("550 5.1.1\r\n")), "5.1.1");
});

test("an idle reader holds no buffer", () => {
  const reader = new ReplyReader();
  reader.feed(Buffer.from("220 x\r\n"));
  reader.next();
  assert.equal(reader.buffered, 0);
  assert.equal(reader.next(), undefined);
});

test("firstLineText gives the first line without code and line end", () => {
  assert.equal(firstLineText(Buffer.from("250-mx.example hello\r\n250 SIZE\r\n")), "mx.example hello");
});
