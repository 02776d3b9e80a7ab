import assert from "node:assert/strict";
import { test } from "node:test";
import { declaredSize, domainOf, hasPlainDomain, parsePath } from "../../../src/smtp/path.ts";
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
  ["FROM:< b@bank.example >", "b@bank.example", false],
  ["FROM:<b@bank.example\t> SIZE=1", "b@bank.example", false],
  ["FROM:<b@ bank . example>", "b@bank.example", false],
  // Blanks to servers in Python.
  ["FROM:<b@\u00a0bank\u2003.example\u3000>", "b@bank.example", false],
  ["FROM:b@bank.example\u0085", "b@bank.example", false],
  ["FROM:<b@bank.example\x1c>", "b@bank.example", false],
  ["FROM:<b@ba\u00a0nk.example>", "b@ba nk.example", false],
  ["FROM:<b\u00a0c@bank.example>", "b\u00a0c@bank.example", false],
  ["FROM:<b@bank.example(x)>", "b@bank.example", false],
  ["FROM:<b@(x (\\) y) z)bank.example>", "b@bank.example", false],
  ["FROM:<b@bank.example.>", "b@bank.example", false],
  ["FROM:<b@bank.example. (x)>", "b@bank.example", false],
  ["FROM:<b@bank.example..>", "b@bank.example..", false],
  ['FROM:<"b"@bank.example>', "b@bank.example", false],
  ['FROM:<"b". "c"@bank.example>', "b.c@bank.example", false],
  ["FROM:<\\b@bank.example>", "b@bank.example", false],
  ["FROM:<b\\@x@bank.example>", '"b@x"@bank.example', false],
  ['FROM:<"b (x)"@bank.example>', '"b (x)"@bank.example', false],
  ['FROM:<""@bank.example>', '""@bank.example', false],
  ['FROM:< @hop.example, @hop2.example : "a"@host >', "a@host", false],
  ["FROM:<@[IPv6:2001:db8::1]:user@host>", "2001:db8::1]:user@host", false],
  ["FROM:<b ob@bank.example>", "b ob@bank.example", false],
  ["FROM:<b(x)ob@bank.example>", "b ob@bank.example", false],
  ["FROM:< >", "", false],
  ["FROM:<(x)>", "", false],
  ["FROM:<;>", "", false],
  ['FROM:<"">', "", false],
  ["FROM:<@hop.example:>", "", false],
  ["FROM:<b@bank.example;>", "b@bank.example", false],
  ["FROM:<, ;b@bank.example. ;(x),>", "b@bank.example", false],
  ["FROM:<b@bank.example,c@d.example>", "b@bank.example,c@d.example", false],
  ['FROM:<";b,"@bank.example>', '";b,"@bank.example', false],
];

for (const [argument, address, spacing] of CASES) {
  test(`reads ${argument}`, () => {
    const path = parsePath(Buffer.from(argument), "FROM");
    assert.equal(path.address, address);
    assert.equal(path.spacing, spacing);
    assert.equal(path.raw.toString(), argument.slice(argument.indexOf(":") + 1));
  });
}

const UNREADABLE: readonly [argument: string, guess: string, raw?: string][] = [
  ["", ""],
  ["FROM", "FROM"],
  ["FROM:", "", ""],
  ["FROM:<", "<", "<"],
  ["FROM<a@b>", "a@b"],
  ["TO:<a@b>", "a@b"],
  ["FROM<>", "FROM<>"],
  ["FROM:<a@b", "a@b", "<a@b"],
  ["FROM:< a@b SIZE=10", "a@b", "< a@b SIZE=10"],
  ['FROM:<"a@b>', '"a@b', '<"a@b>'],
  ['FROM:<a"@spam.example>', 'a"@spam.example', '<a"@spam.example>'],
  ["FROM:<a@b(x>", "a@b(x", "<a@b(x>"],
  ["FROM:<<a@b>>", "a@b", "<<a@b>>"],
  ["FROM:<Bob <a@b>>", "a@b", "<Bob <a@b>>"],
  ["FROM:Bob <a@b>", "a@b", "Bob <a@b>"],
  ["FROM:(x)<a@b>", "a@b", "(x)<a@b>"],
  ["FROM:<c@d>@a.b", "c@d", "<c@d>@a.b"],
];
for (const [argument, guess, raw = argument] of UNREADABLE) {
  test(`guesses what ${JSON.stringify(argument)} may mean`, () => {
    const path = parsePath(Buffer.from(argument), "FROM");
    assert.equal(path.unreadable, true);
    assert.equal(path.address, guess);
    assert.equal(path.raw.toString(), raw);
  });
}

test("a path that can be read says so", () => {
  for (const [argument] of CASES) {
    assert.equal(parsePath(Buffer.from(argument), "FROM").unreadable, false, argument);
  }
});

test("the size that MAIL declares is in digits", () => {
  const sizeOf = (word: string) =>
    declaredSize(parsePath(Buffer.from(`FROM:<a@b> ${word}`), "FROM").parameters);
  assert.equal(sizeOf("SIZE=100"), 100);
  assert.equal(sizeOf("size=99999999999999999999"), 1e20);
  for (const word of ["", "SIZE", "SIZE=", "SIZE=1e9", "SIZE=0x10", "SIZE=-1", "SIZE=1.5", "XSIZE=7"]) {
    assert.equal(sizeOf(word), 0, word);
  }
});

test("parameters keep their values, keywords in capitals", () => {
  const path = parsePath(Buffer.from("FROM:<a@b> size=100\vBody=8BITMIME\f smtputf8 ENVID=x=y"), "FROM");
  assert.deepEqual(
    [...(path.parameters ?? [])],
    [
      ["SIZE", "100"],
      ["BODY", "8BITMIME"],
      ["SMTPUTF8", ""],
      ["ENVID", "x=y"],
    ],
  );
});

test("octets that are no UTF-8 are shown in the address, each as its own, and kept in the raw form", () => {
  const path = parsePath(Buffer.from("TO:<\xe9\xff@b>", "latin1"), "TO");
  assert.equal(path.address, "\\xe9\\xff@b");
  assert.equal(path.raw.toString("latin1"), "<\xe9\xff@b>");
  assert.equal(parsePath(Buffer.from("TO:<\xfe@b", "latin1"), "TO").address, "\\xfe@b");
  assert.equal(parsePath(Buffer.from("TO:<ü\ufffd@b>"), "TO").address, "ü\ufffd@b");
});

test("any octets give an answer", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => void parsePath(Buffer.from(octets), "TO")),
  );
});

test("however a path is split by blanks and comments, it is the same address", () => {
  const gap = fc.constantFrom("", "", " ", "\t", "(x)", " (x (y)) ");
  fc.assert(
    fc.property(fc.array(gap, { minLength: 6, maxLength: 6 }), (gaps) => {
      const [a, b, c, d, e, f] = gaps;
      const path = parsePath(Buffer.from(`TO:<${a}b${b}@${c}bank${d}.${e}example${f}>`), "TO");
      assert.equal(path.address, "b@bank.example");
      assert.equal(path.unreadable, false);
    }),
  );
});

test("the time that a path takes grows with its length only", () => {
  for (const piece of ["(", ";", "@;", "\\", '"', "<", " ", "@", ":", "@:", "a ", ". ", '"" ', "(x)"]) {
    const startedAt = performance.now();
    const path = parsePath(Buffer.from(`TO:<${piece.repeat(16_000)}>`), "TO");
    hasPlainDomain(path.address);
    assert.ok(performance.now() - startedAt < 250, piece);
  }
});

test("a domain is plain where no server reads another one out of the address", () => {
  const plain = [
    "a@b.example",
    "a@b.example.",
    "user..name.@b",
    '"john doe"@b.example',
    "用户@例子.广告",
    "a=b+c@d",
  ];
  for (const address of plain) assert.ok(hasPlainDomain(address), address);
  const others = [
    ...["", "a", "postmaster", "@b", "a@", "a@b..", "a@.b", "a@b c", "a@[192.0.2.1]", "a@b(x)", 'a@"b"'],
    ...[
      "a%b@c",
      "b!a@c",
      "a@b@c",
      '"a@b"@c',
      '"a%b"@c',
      'a"@b',
      '"@b',
      "a b@c",
      "a,b@c",
      "\\xff@b",
      "a@\\xff",
      "a@b\u200b.example",
      "a@b\u00a0.example",
    ],
  ];
  for (const address of others) assert.ok(!hasPlainDomain(address), address);
});

test("the domain is what stands behind the last @, lower-cased", () => {
  assert.equal(domainOf('"a@b"@C.Example'), "c.example");
  assert.equal(domainOf("a@b.example."), "b.example");
  assert.equal(domainOf("postmaster"), "");
  for (const stop of ["\u3002", "\uff0e", "\uff61"])
    assert.equal(domainOf(`a@b.example${stop}`), "b.example");
});
