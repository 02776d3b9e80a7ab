import assert from "node:assert/strict";
import { test } from "node:test";
import { DataReader, DotStuffer, DotUnstuffer, NewlineNormalizer } from "../../../src/smtp/content.ts";
import fc from "../../support/property.ts";

/** What a plain reading of the rules gives: split at true CRLFs only, unstuff, normalise, stuff. */
function reference(octets: string): { wire: string; rest: string } | undefined {
  // The message ends at the first CRLF.CRLF; its beginning counts as a line's start.
  const framed = `\r\n${octets}`;
  const end = framed.indexOf("\r\n.\r\n");
  if (end < 0) return undefined;
  const body = framed.slice(2, Math.max(2, end + 2));
  const lines = body.split("\r\n");
  const content = lines.map((line) => (line.startsWith(".") ? line.slice(1) : line)).join("\r\n");
  const normal = content.replace(/\r\n|\r|\n/g, "\r\n");
  const stuffed = normal.replace(/^\./, "..").replace(/\r\n\./g, "\r\n..");
  return { wire: `${stuffed}.\r\n`, rest: framed.slice(end + 5) };
}

function read(reader: DataReader, pieces: Buffer[]): { wire: string; end: boolean; rest: string } {
  let wire = "";
  let rest = "";
  let end = false;
  for (const piece of pieces) {
    if (end) {
      rest += piece.toString("latin1");
      continue;
    }
    const result = reader.read(piece);
    wire += Buffer.concat(result.wire).toString("latin1");
    end = result.end;
    rest += piece.subarray(result.used).toString("latin1");
  }
  return { wire, end, rest };
}

/** Octets that matter here far more often than chance would bring them. */
const hostile = fc
  .array(fc.constantFrom("\r", "\n", ".", "\r\n", "\r\n.", "a", "\0", "\r\n.\r\n"), { maxLength: 40 })
  .map((parts) => parts.join(""));
const cuts = fc.array(fc.nat(60), { maxLength: 6 });

function cut(text: string, at: readonly number[]): Buffer[] {
  const octets = Buffer.from(text, "latin1");
  const points = [...new Set(at.map((point) => Math.min(point, octets.length)))].sort((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const point of [...points, octets.length]) {
    pieces.push(octets.subarray(from, point));
    from = point;
  }
  return pieces.filter((piece) => piece.length > 0);
}

test("the message and its end are what a plain reading of RFC 5321 gives, at any split", () => {
  fc.assert(
    fc.property(hostile, cuts, (text, at) => {
      const expected = reference(`${text}\r\n.\r\n`);
      const got = read(new DataReader(), cut(`${text}\r\n.\r\n`, at));
      assert.equal(got.end, true);
      assert.equal(got.wire, expected?.wire);
      assert.equal(got.rest, expected?.rest);
    }),
    { numRuns: 5000 },
  );
});

test("no bare CR or LF and no second terminator ever leaves", () => {
  fc.assert(
    fc.property(hostile, cuts, (text, at) => {
      const { wire, end } = read(new DataReader(), cut(text, at));
      assert.equal(/\r(?!\n)|(?<!\r)\n/.test(wire), false);
      const first = `\r\n${wire}`.indexOf("\r\n.\r\n");
      assert.equal(first < 0 ? !end : first + 5 === wire.length + 2, true);
    }),
    { numRuns: 5000 },
  );
});

test("the octets that are counted are the message's: not stuffed, without its terminator", () => {
  fc.assert(
    fc.property(hostile, cuts, (text, at) => {
      const reader = new DataReader();
      const { wire } = read(reader, cut(`${text}\r\n.\r\n`, at));
      const content = Buffer.concat(new DotUnstuffer().read(Buffer.from(wire, "latin1")));
      assert.equal(reader.octets, content.length);
    }),
    { numRuns: 2000 },
  );
});

test("unstuffing what was read and stuffing it again gives the same octets, at any split", () => {
  fc.assert(
    fc.property(hostile, cuts, cuts, (text, at, again) => {
      const { wire } = read(new DataReader(), cut(`${text}\r\n.\r\n`, at));
      const unstuffer = new DotUnstuffer();
      const content = cut(wire, again)
        .flatMap((piece) => unstuffer.read(piece))
        .map((piece) => piece.toString("latin1"))
        .join("");
      const stuffer = new DotStuffer();
      const stuffed = cut(content, at)
        .flatMap((piece) => stuffer.read(piece))
        .map((piece) => piece.toString("latin1"))
        .join("");
      assert.equal(stuffed + stuffer.end().toString("latin1"), wire);
    }),
    { numRuns: 2000 },
  );
});

test("a message by BDAT is normalised alike at any split, and a CR at a piece's end waits", () => {
  fc.assert(
    fc.property(hostile, cuts, (text, at) => {
      const normalizer = new NewlineNormalizer();
      const out = cut(text, at)
        .flatMap((piece) => normalizer.read(piece))
        .map((piece) => piece.toString("latin1"))
        .join("");
      const all = out + normalizer.end().toString("latin1");
      assert.equal(all, text.replace(/\r\n|\r|\n/g, "\r\n"));
      assert.equal(normalizer.octets, all.length);
    }),
    { numRuns: 3000 },
  );
});

for (const variant of [
  "\n.\n",
  "\r.\r",
  "\r.\n",
  "\n.\r",
  "\n.\r\n",
  "\r\n.\n",
  "\r.\r\n",
  "\r\n.\r",
  "\r\n\0.\r\n",
  "\r\n.\0\r\n",
  "\r\r\n.\r\r\n",
]) {
  test(`${JSON.stringify(variant)} ends no message, at every split`, () => {
    const text = `x${variant}MAIL FROM:<smuggled@example.com>\r\nend\r\n.\r\n`;
    for (let at = 0; at <= text.length; at++) {
      for (let second = at; second <= text.length; second += 3) {
        const { wire, end, rest } = read(new DataReader(), cut(text, [at, second]));
        assert.equal(end, true);
        assert.equal(rest, "");
        assert.equal(wire.includes("MAIL FROM:<smuggled@example.com>\r\nend\r\n.\r\n"), true);
        assert.equal(`\r\n${wire}`.indexOf("\r\n.\r\n"), wire.length - 3);
      }
    }
  });
}

test("a clean chunk is passed on without a copy", () => {
  const chunk = Buffer.from("Subject: x\r\n\r\nline\r\n..dot\r\nend\r\n");
  const { wire } = new DataReader().read(chunk);
  assert.equal(wire.length <= 3, true);
  assert.equal(Buffer.concat(wire).equals(chunk), true);
});
