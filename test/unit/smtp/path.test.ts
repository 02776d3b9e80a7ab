import assert from "node:assert/strict";
import { test } from "node:test";
import { domainOf, parsePath } from "../../../src/smtp/path.ts";
import fc from "../../support/property.ts";

const CASES: readonly [argument: string, address: string, spacing: boolean][] = [
  ["FROM:<a@b.example>", "a@b.example", false],
  ["from:<>", "", false],
  ["FROM:<> BODY=8BITMIME", "", false],
  ["FROM: <a@b>", "a@b", true],
  ["FROM :<a@b>", "a@b", true],
  ["FROM:a@b", "a@b", false],
  ["FROM:a@b SIZE=1", "a@b", false],
  ['FROM:<"john doe"@b>', '"john doe"@b', false],
  ['FROM:<"a>b"@c> SIZE=10', '"a>b"@c', false],
  ['FROM:<"a\\"b"@c>', '"a\\"b"@c', false],
  ["FROM:<@hop.example,@hop2.example:user@host>", "user@host", false],
  ["FROM:<user..name.@example.com>", "user..name.@example.com", false],
  ["FROM:<.user@example.com>", ".user@example.com", false],
  ["FROM:<-user@example.com>", "-user@example.com", false],
  ["FROM:<postmaster>", "postmaster", false],
  ["FROM:<用户@例子.广告> SMTPUTF8", "用户@例子.广告", false],
];

for (const [argument, address, spacing] of CASES) {
  test(`reads ${argument}`, () => {
    const path = parsePath(Buffer.from(argument), "FROM");
    assert.equal(path?.address, address);
    assert.equal(path?.spacing, spacing);
    assert.equal(path?.raw.toString(), argument.slice(argument.indexOf(":") + 1));
  });
}

for (const argument of ["", "FROM", "FROM<a@b>", "TO:<a@b>", "FROM:<a@b", 'FROM:<"a@b>']) {
  test(`takes ${JSON.stringify(argument)} for no path`, () => {
    assert.equal(parsePath(Buffer.from(argument), "FROM"), undefined);
  });
}

test("parameters keep their values, keywords in capitals", () => {
  const path = parsePath(Buffer.from("FROM:<a@b> size=100 Body=8BITMIME smtputf8 ENVID=x=y"), "FROM");
  assert.deepEqual(
    [...(path?.parameters ?? [])],
    [
      ["SIZE", "100"],
      ["BODY", "8BITMIME"],
      ["SMTPUTF8", ""],
      ["ENVID", "x=y"],
    ],
  );
});

test("octets that are no UTF-8 are replaced in the address and kept in the raw form", () => {
  const path = parsePath(Buffer.from("TO:<\xe9@b>", "latin1"), "TO");
  assert.equal(path?.address, "\uFFFD@b");
  assert.equal(path?.raw.toString("latin1"), "<\xe9@b>");
});

test("any octets give an answer", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => void parsePath(Buffer.from(octets), "TO")),
  );
});

test("the domain is what stands behind the last @, lower-cased", () => {
  assert.equal(domainOf('"a@b"@C.Example'), "c.example");
  assert.equal(domainOf("postmaster"), "");
});
