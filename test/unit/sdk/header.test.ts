import assert from "node:assert/strict";
import { test } from "node:test";
import { endOfHeader } from "../../../src/sdk/header.ts";
import { parseHeader } from "../../../src/sdk/index.ts";
import { HookMessage } from "../../../src/sdk/message.ts";
import fc from "../../support/property.ts";

const message = Buffer.from(
  "Received: from a\r\n\tby b\r\nSubject: one\r\nsubject:two\r\nX-Empty:\r\nX-Utf8: d\u00e9j\u00e0\r\nOld : blank\r\n\r\nBody: no\r\n",
);

test("header section", async (t) => {
  await t.test("unfolds values, keeps order and case, finds names in any case", () => {
    const header = parseHeader(message);
    assert.deepEqual(
      header.fields.map(({ name, value }) => [name, value]),
      [
        ["Received", "from a\tby b"],
        ["Subject", "one"],
        ["subject", "two"],
        ["X-Empty", ""],
        ["X-Utf8", "déjà"],
        ["Old", "blank"],
      ],
    );
    assert.equal(header.get("SUBJECT"), "one");
    assert.deepEqual(header.all("Subject"), ["one", "two"]);
    assert.equal(header.get("Body"), undefined);
    assert.equal(message.toString("utf8", header.bodyStart), "Body: no\r\n");
  });
  await t.test("gives the octets of each field", () => {
    assert.equal(parseHeader(message).fields[0]!.raw.toString(), "Received: from a\r\n\tby b\r\n");
  });
  await t.test("skips and counts lines that are no field", () => {
    const header = parseHeader(Buffer.from("A: 1\r\nno field\r\n : \r\nB: 2\r\n\r\n"));
    assert.deepEqual([header.get("A"), header.get("B"), header.malformedLines], ["1", "2", 1]);
  });
  await t.test("takes no header, no body, and neither", () => {
    assert.deepEqual(parseHeader(Buffer.from("\r\nbody")).bodyStart, 2);
    assert.deepEqual(parseHeader(Buffer.from("A: 1")).get("a"), "1");
    assert.deepEqual(parseHeader(Buffer.alloc(0)).fields, []);
  });
  await t.test("blanks around a value go, and take no longer where there are many inside", () => {
    const blanks = " \t".repeat(30_000);
    const startedAt = performance.now();
    const { fields } = parseHeader(Buffer.from(`A: \t b${blanks}c \t\r\nD${blanks}d: e\r\n\r\n`));
    assert.ok(performance.now() - startedAt < 250);
    assert.deepEqual(
      fields.map(({ name, value }) => [name, value]),
      [["A", `b${blanks}c`]],
    );
  });
  await t.test("the raw fields are the header section, whatever it says", () => {
    const line = fc.stringMatching(/^[ -~]{0,30}$/).filter((text) => text !== "");
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const octets = Buffer.from(`${lines.map((text) => `${text}\r\n`).join("")}\r\nbody`);
        const header = parseHeader(octets);
        assert.equal(octets.toString("latin1", header.bodyStart), "body");
        for (const field of header.fields) assert.ok(octets.includes(field.raw));
      }),
    );
  });
});

test("message", async (t) => {
  async function* pieces(octets: Buffer, cuts: number[]): AsyncGenerator<Buffer> {
    let at = 0;
    for (const cut of [...cuts].sort((a, b) => a - b)) {
      yield octets.subarray(at, cut);
      at = cut;
    }
    yield octets.subarray(at);
  }
  await t.test("header first and the whole after it, at any split", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(message.length), { maxLength: 8 }), async (cuts) => {
        const whole = new HookMessage(pieces(message, cuts), 10_000);
        const header = await whole.header();
        assert.equal(header.get("subject"), "one");
        assert.equal(header.bodyStart, endOfHeader(message));
        assert.deepEqual(await whole.bytes(), message);
      }),
    );
  });
  await t.test("header() again gives the same, but not after the message was read", async () => {
    const whole = new HookMessage(pieces(message, [20]), 10_000);
    assert.equal((await whole.header()).get("X-Utf8"), (await whole.header()).get("X-Utf8"));
    await whole.bytes();
    await assert.rejects(whole.header(), /before the message is read/);
    await assert.rejects(whole.bytes(), /already read/);
  });
  await t.test("bytes() stops at its bound", async () => {
    await assert.rejects(new HookMessage(pieces(message, [5, 9]), 8).bytes(), /more than 8 octets/);
    assert.equal(
      (await new HookMessage(pieces(message, []), 8).bytes(message.length)).length,
      message.length,
    );
  });
  await t.test("a header section without end is read up to its bound, and says so", async () => {
    let given = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      for (;;) {
        given++;
        yield Buffer.from(`X-${given}: ${"y".repeat(65_000)}\r\n`);
      }
    }
    const message = new HookMessage(endless(), 1);
    const header = await message.header();
    assert.deepEqual([header.truncated, header.fields.length, given], [true, 17, 17]);
    assert.equal((await message.header()).truncated, true);
    assert.equal(given, 17);
    assert.equal((await new HookMessage(pieces(Buffer.from("A: 1"), []), 1).header()).truncated, false);
  });
});
