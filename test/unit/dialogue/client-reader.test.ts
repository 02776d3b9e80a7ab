import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientReader } from "../../../src/dialogue/client-reader.ts";
import fc from "../../support/property.ts";

/** A client's input in which DATA and BDAT mean what they say, as words; runs of data are joined. */
function read(pieces: readonly Buffer[], limit = 64): string[] {
  const reader = new ClientReader(limit);
  const out: string[] = [];
  const add = (word: string, text: string): void => {
    const last = out.at(-1);
    if (last?.startsWith(`${word}:`) && word !== "line") out[out.length - 1] = last + text;
    else out.push(`${word}:${text}`);
  };
  for (const piece of pieces) {
    reader.feed(piece);
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      if (event.kind === "line") {
        const wire = event.wire.toString("latin1");
        assert.ok(wire.endsWith("\r\n"));
        const line = wire.slice(0, -2);
        add("line", line);
        if (line === "DATA") reader.expectData();
        const chunk = /^BDAT (\d+)$/.exec(line)?.[1];
        if (chunk !== undefined) reader.expectChunk(Number(chunk));
      } else if (event.kind === "bad_line") out.push(`bad:${event.reason}`);
      else if (event.kind === "data") {
        add("data", Buffer.concat(event.wire).toString("latin1"));
        if (event.end) out.push("end");
      } else {
        add("chunk", event.octets.toString("latin1"));
        if (event.end) out.push("chunk end");
      }
    }
  }
  return out;
}

const input = fc
  .array(
    fc.constantFrom(
      "NOOP\r\n",
      "DATA\r\n",
      "BDAT 7\r\n",
      "x",
      "\r",
      "\n",
      "\r\n",
      ".",
      ".\r\n",
      "\r\n.\r\n",
      "long ".repeat(20),
    ),
    { maxLength: 25 },
  )
  .map((parts) => parts.join(""));

test("any split gives the same events", () => {
  fc.assert(
    fc.property(input, fc.array(fc.nat(150), { maxLength: 8 }), (text, at) => {
      const octets = Buffer.from(text, "latin1");
      const points = [0, ...at.map((p) => Math.min(p, octets.length)).sort((a, b) => a - b), octets.length];
      const pieces = points.slice(1).map((p, i) => octets.subarray(points[i], p));
      assert.deepEqual(read(pieces.filter((piece) => piece.length > 0)), read([octets]));
    }),
    { numRuns: 5000 },
  );
});

test("a line is taken at CRLF alone", () => {
  assert.deepEqual(read([Buffer.from("A\nB\r\nC\r\n")]), ["bad:bare_newline", "line:C"]);
  assert.deepEqual(read([Buffer.from("A\rB\r\nC\r\n")]), ["bad:bare_newline", "line:C"]);
  assert.deepEqual(read([Buffer.from("A\r\r\nC\r\n")]), ["bad:bare_newline", "line:C"]);
});

test("a line with a NUL is refused, and the one behind it is taken", () => {
  assert.deepEqual(read([Buffer.from("A\0B\r\nC\r\n")]), ["bad:nul", "line:C"]);
});

test("a bare LF is answered at once, not only at the CRLF that may never come", () => {
  assert.deepEqual(read([Buffer.from("EHLO x\n")]), ["bad:bare_newline"]);
});

test("a line without an end is refused at the limit, and what is kept stays bounded", () => {
  const reader = new ClientReader(1000);
  let refused = 0;
  for (let i = 0; i < 1000; i++) {
    reader.feed(Buffer.alloc(1000, 0x78));
    for (let event = reader.next(); event !== undefined; event = reader.next()) refused++;
    assert.equal(reader.buffered <= 2000, true);
  }
  assert.equal(refused, 1);
});

test("a chunk of no octets is over at once", () => {
  assert.deepEqual(read([Buffer.from("BDAT 0\r\nNOOP\r\n")]), [
    "line:BDAT 0",
    "chunk:",
    "chunk end",
    "line:NOOP",
  ]);
});

test("discard forgets what was pipelined and says how much it was", () => {
  const reader = new ClientReader();
  reader.feed(Buffer.from("STARTTLS\r\nEVIL\r\n"));
  reader.next();
  assert.equal(reader.discard(), 6);
  assert.equal(reader.next(), undefined);
});
