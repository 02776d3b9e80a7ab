import assert from "node:assert/strict";
import { test } from "node:test";
import { parseBdat, parseCommand, redactAuth } from "../../../src/smtp/command.ts";

const CASES: readonly [line: string, verb: string, word: string, argument: string][] = [
  ["EHLO host", "EHLO", "EHLO", "host"],
  ["ehlo  host ", "EHLO", "EHLO", "host "],
  ["MAIL FROM:<a@b>", "MAIL", "MAIL", "FROM:<a@b>"],
  ["SOML FROM:<a@b>", "MAIL", "SOML", "FROM:<a@b>"],
  ["X-EXPS NTLM abc", "AUTH", "X-EXPS", "NTLM abc"],
  ["XCLIENT NAME=x", "OTHER", "XCLIENT", "NAME=x"],
  ["", "OTHER", "", ""],
  ["  NOOP", "NOOP", "NOOP", ""],
  ["\tDATA", "DATA", "DATA", ""],
  // Blanks to Postfix and Sendmail.
  ["RCPT\vTO:<a@b>", "RCPT", "RCPT", "TO:<a@b>"],
  ["\f MAIL \vFROM:<a@b>", "MAIL", "MAIL", "FROM:<a@b>"],
  ["BDAT\f0 LAST", "BDAT", "BDAT", "0 LAST"],
  ["rCpT TO:<a@b>", "RCPT", "RCPT", "TO:<a@b>"],
  // The same letters to servers in JavaScript.
  ["MA\u0131L FROM:<a@b>", "MAIL", "MAIL", "FROM:<a@b>"],
  ["R\u017fET", "RSET", "RSET", ""],
  ["\ufb05ARTTLS", "STARTTLS", "STARTTLS", ""],
  ["ma\u0131l:FROM:<a@b>", "OTHER", "MAIL:FROM:<A@B>", ""],
  ["mail:FROM:<a@b>", "MAIL", "MAIL", ":FROM:<a@b>"],
  ["RCPT\vTO:<a@b>", "RCPT", "RCPT", "TO:<a@b>"],
  ["\fDATA", "DATA", "DATA", ""],
  ["auth LOGIN", "AUTH", "AUTH", "LOGIN"],
  ["MAI", "OTHER", "MAI", ""],
  ["MAIL\u0000", "OTHER", "MAIL\u0000", ""],
  // Octets that differ from the letters of a verb in the bit of case alone, or in the highest.
  ["mA\u0009L x", "OTHER", "MA", "L x"],
  ["DAT\u0001", "OTHER", "DAT\u0001", ""],
  ["DAT!", "OTHER", "DAT!", ""],
];
for (const [line, verb, word, argument] of CASES) {
  test(`reads ${JSON.stringify(line)}`, () => {
    const command = parseCommand(Buffer.from(`${line}\r\n`));
    assert.deepEqual([command.verb, command.word, command.argument.toString()], [verb, word, argument]);
    assert.equal(command.line.toString(), line);
    assert.equal(command.wire.toString(), `${line}\r\n`);
  });
}

test("a chunk's size is read exactly, or not at all", () => {
  assert.deepEqual(parseBdat(Buffer.from("10")), { octets: 10, last: false });
  assert.deepEqual(parseBdat(Buffer.from("0 last")), { octets: 0, last: true });
  for (const wrong of [
    "",
    "-1",
    "+1",
    "0x10",
    "1e3",
    "10 LASTX",
    "10LAST",
    "9".repeat(16),
    "1.5",
    "10 LAST x",
  ]) {
    assert.equal(parseBdat(Buffer.from(wrong)), undefined, wrong);
  }
});

test("an AUTH command is shown with its mechanism alone", () => {
  assert.equal(
    redactAuth(parseCommand(Buffer.from("AUTH PLAIN AGEAYg==\r\n"))).toString(),
    "AUTH PLAIN [redacted]",
  );
  assert.equal(
    redactAuth(parseCommand(Buffer.from("AUTH\vPLAIN\fAGEAYg==\r\n"))).toString(),
    "AUTH PLAIN [redacted]",
  );
  assert.equal(redactAuth(parseCommand(Buffer.from("AUTH LOGIN\r\n"))).toString(), "AUTH LOGIN");
  for (const odd of ["AUTH PLAIN:AGEAYg==", "AUTH AGEAYg==", "AUTH =AGEAYg=="]) {
    assert.equal(redactAuth(parseCommand(Buffer.from(`${odd}\r\n`))).toString(), "AUTH [redacted]", odd);
  }
});
