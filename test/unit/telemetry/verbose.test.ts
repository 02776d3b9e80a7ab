import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { timeText, VerboseLog } from "../../../src/telemetry/verbose.ts";
import fc from "../../support/property.ts";
import { address, CONNECTION, comm, conn, Lines } from "./events.ts";

/** 2026-03-01 12:34:56.123456 in the time zone of this machine. */
const AT = new Date(2026, 2, 1, 12, 34, 56, 123).getTime() + 0.456;
const HEAD = `2026/03/01 12:34:56.123456 ${CONNECTION}`;

function lineOf(event: Parameters<VerboseLog["emit"]>[0]): string {
  const lines = new Lines();
  new VerboseLog({ destination: lines }).emit(event);
  assert.equal(lines.lines.length, 1);
  return lines.lines[0]!;
}

describe("--verbose", () => {
  const data: [what: string, octets: Buffer | string, shown: string][] = [
    ["a command as it is", "MAIL FROM:<a@b> SIZE=5", "MAIL FROM:<a@b> SIZE=5"],
    ["CR LF inside as four characters", "250-a\r\n250 b", "250-a\\r\\n250 b"],
    ["a bare CR and a bare LF", "a\rb\nc", "a\\rb\\nc"],
    ["tabs, NUL and escapes visibly", "a\tb\0c\x1b[31md\x7f", "a\\tb\\x00c\\x1b[31md\\x7f"],
    ["UTF-8 as it is", "MAIL FROM:<jürgen@例え.jp> 😀", "MAIL FROM:<jürgen@例え.jp> 😀"],
    ["octets that are no UTF-8", Buffer.from([0x61, 0xff, 0xc3, 0x41, 0xe2, 0x82]), "a\\xff\\xc3A\\xe2\\x82"],
    ["U+FFFD that came as such", "a\ufffdb\xff", "a\ufffdbÿ"],
    ["U+FFFD beside rubbish", Buffer.concat([Buffer.from("\ufffd"), Buffer.from([0xff])]), "\ufffd\\xff"],
    [
      "C1 controls, line separators and what turns text round",
      "a\u0085b\u2028c\u202ed",
      "a\\x85b\\u2028c\\u202ed",
    ],
    ["an overlong NUL as its octets", Buffer.from([0xc0, 0x80]), "\\xc0\\x80"],
    ["a surrogate in UTF-8 as its octets", Buffer.from([0xed, 0xa0, 0x80]), "\\xed\\xa0\\x80"],
    ["nothing", "", ""],
    ["a backslash as it is", "a\\r\\n", "a\\r\\n"],
  ];
  for (const [what, octets, shown] of data) {
    it(`shows ${what}`, () => {
      assert.equal(lineOf(comm({ at: AT, data: Buffer.from(octets as string) })), `${HEAD} -> ${shown}\n`);
    });
  }

  it("makes one line without controls of any octets, and shows UTF-8 text unchanged", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (octets) => {
        const line = lineOf(comm({ at: AT, data: Buffer.from(octets) }));
        assert.match(line, /^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\n$/);
        assert.equal(Buffer.from(line).toString(), line, "a lone surrogate is left");
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", " ", "ü", "例", "😀", "\ufffd") }), (text) => {
        assert.equal(lineOf(comm({ at: AT, data: Buffer.from(text) })), `${HEAD} -> ${text}\n`);
      }),
    );
  });

  for (const direction of ["->", "<-", ">|", "|>", "|<", "<|", "--"] as const) {
    it(`writes the arrow ${direction}`, () => {
      assert.equal(lineOf(comm({ at: AT, direction })), `${HEAD} ${direction} NOOP\n`);
    });
  }

  it("marks what was cut", () => {
    assert.equal(lineOf(comm({ at: AT, truncated: true })), `${HEAD} -> NOOP…\n`);
  });

  const ends: [what: string, event: Parameters<typeof conn>[0], text: string][] = [
    ["the first transaction", {}, "from:<alice@example.net> to:<bob@example.org> elapse:20 msec"],
    ["the null sender", { mailFrom: address("") }, "from:<> to:<bob@example.org> elapse:20 msec"],
    [
      "nobody",
      { mailFrom: undefined, mailTo: [], elapseMs: -2 },
      "from:<unknown> to:<unknown> elapse:-2 msec",
    ],
    ["no recipient", { mailTo: [], elapseMs: -1 }, "from:<alice@example.net> to:<unknown> elapse:-1 msec"],
  ];
  for (const [what, event, text] of ends) {
    it(`closes a connection with a note of ${what}`, () => {
      assert.equal(lineOf(conn({ ...event, at: AT })), `${HEAD} -- ${text}\n`);
    });
  }

  it("matches what a parser of the original's lines expects", () => {
    const pattern =
      /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\.\d{6} [0-9A-HJKMNP-TV-Z]{26} (?:->|<-|>\||\|>|\|<|<\||--) .*\n$/;
    assert.match(lineOf(comm({ at: Date.now() })), pattern);
  });

  it("asks for lines and ends only", () => {
    const log = new VerboseLog({ destination: new Lines() });
    assert.deepEqual(
      (["after_comm", "after_conn", "after_transaction", "notice"] as const).map((kind) => log.wants(kind)),
      [true, true, false, false],
    );
  });

  it("in colour shows the time since the connection began, and forgets it at its end", () => {
    const lines = new Lines();
    const log = new VerboseLog({ destination: lines, style: "colour" });
    log.emit(comm({ at: 1000, direction: "--" }));
    log.emit(comm({ at: 1012.34, direction: "<-" }));
    log.emit(conn({ at: 1020 }));
    log.emit(comm({ at: 5000 }));
    const plain = lines.lines.map((line) => line.replace(/\x1b\[\d+m/g, ""));
    assert.match(plain[1]!, /\+12\.3 ms <- NOOP\n$/);
    assert.match(plain[2]!, /\+20\.0 ms -- from:<alice@example\.net>/);
    assert.match(plain[3]!, /\+0\.0 ms -> NOOP\n$/);
    assert.match(lines.lines[1]!, /\x1b\[32m<- NOOP/);
  });

  it("writes times without gaps over the turn of a second", () => {
    const base = new Date(2026, 11, 31, 23, 59, 59).getTime();
    assert.equal(timeText(base + 999.999), "2026/12/31 23:59:59.999999");
    assert.equal(timeText(base + 1000), "2027/01/01 00:00:00.000000");
    assert.equal(timeText(base), "2026/12/31 23:59:59.000000");
  });
});
