// The reply classes against replies as receivers really say them (test/fixtures/replies.json).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { classifyReply, parseReplyText, replyClassOf } from "../../../src/deliverability/classify.ts";
import {
  CLASS_MEANINGS,
  GENERIC_RULES,
  PROVIDER_RULES,
  REPLY_CLASSES,
} from "../../../src/deliverability/reply-classes.ts";
import fc from "../../support/property.ts";

interface Fixture {
  readonly server: string;
  readonly provider?: string;
  readonly reply: string;
  readonly class: string;
}
const fixtures: readonly Fixture[] = JSON.parse(
  readFileSync(new URL("../../fixtures/replies.json", import.meta.url), "utf8"),
);

describe("the classes of real replies", () => {
  it("are the same where the provider is not known, or is another", () => {
    const different = fixtures.filter(({ reply, class: expected }) => {
      const parsed = parseReplyText(reply)!;
      return ["", "dest.example"].some((provider) => classifyReply(parsed, provider).class !== expected);
    });
    // Microsoft's «suspected spam» is about the message, QQ's goes on with «ip».
    assert.deepEqual(
      different.map(({ reply }) => reply.slice(0, 21)),
      ["550 Suspected spam ip"],
    );
  });
  it("has at least 120 of them, and one of every class", () => {
    assert.ok(fixtures.length >= 120);
    assert.deepEqual(
      REPLY_CLASSES.filter((name) => !fixtures.some((fixture) => fixture.class === name)),
      [],
    );
  });
  for (const { server, provider, reply, class: expected } of fixtures) {
    it(`${server}: ${expected}: ${reply.replace(/\s+/g, " ").slice(0, 90)}`, () => {
      const parsed = parseReplyText(reply);
      assert.ok(parsed !== undefined);
      const result = classifyReply(parsed, provider);
      assert.equal(result.class, expected, `rule ${result.rule}: ${result.detail}`);
    });
  }
});

describe("the class that an event has", () => {
  it("is empty for a 354: the destination asks for the message and says nothing about it", () => {
    assert.equal(replyClassOf(354, "", Buffer.from("354 Start mail input")), "");
    assert.equal(replyClassOf(250, "2.0.0", Buffer.from("250 2.0.0 queued")), "accepted");
    assert.equal(replyClassOf(550, "5.1.1", Buffer.from("550 5.1.1 who")), "unknown-recipient");
    const ownWording = Buffer.from("550 Mailbox unavailable or access denied");
    assert.equal(replyClassOf(550, "", ownWording, "qq.com"), "mailbox-full");
  });
});

describe("the table of reply classes", () => {
  it("names every rule once, with a source and a class that has a meaning", () => {
    const rules = [...PROVIDER_RULES, ...GENERIC_RULES];
    assert.equal(new Set(rules.map(({ id }) => id)).size, rules.length);
    for (const rule of rules) {
      assert.ok(rule.source !== "" && rule.detail !== "", rule.id);
      assert.ok(rule.class in CLASS_MEANINGS, rule.id);
      assert.ok(!rule.pattern.global && !rule.pattern.sticky, `${rule.id} keeps no state`);
    }
  });
  it("asks text before the enhanced code, and the enhanced code before the basic one", () => {
    const say = (text: string) => classifyReply(parseReplyText(text)!).class;
    assert.equal(say("550 5.7.1 mailbox full"), "mailbox-full");
    assert.equal(say("550 5.2.2 Sorry"), "mailbox-full");
    assert.equal(say("550 Sorry"), "unknown-recipient");
  });
  it("asks the destination's own provider first", () => {
    const reply = { code: 550, enhancedCode: "", text: "550 Mailbox unavailable or access denied" };
    assert.equal(classifyReply(reply, "qq.com").class, "mailbox-full");
    assert.equal(classifyReply(reply, "qq.com").rule, "qq-recipient-busy");
  });
  it("finds the enhanced code in the text where none was given", () => {
    assert.equal(classifyReply({ code: 452, enhancedCode: "", text: "452 4.2.2 x" }).class, "mailbox-full");
  });
  it("reads octets, and every line of a reply", () => {
    const text = Buffer.from("550-hello\r\n550 blocked using zen.spamhaus.org\xff", "latin1");
    assert.equal(classifyReply({ code: 550, enhancedCode: "", text }).class, "blocked-ip");
  });
});

describe("classifyReply on any reply", () => {
  it("always gives a class of the list, accepted for 2xx and for nothing else", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 200, max: 599 }),
        fc.string({ unit: "binary", maxLength: 300 }),
        fc.option(fc.constantFrom("google.com", "outlook.com", "x.example")),
        (code, text, provider) => {
          const result = classifyReply({ code, enhancedCode: "", text }, provider ?? undefined);
          assert.ok(REPLY_CLASSES.includes(result.class));
          assert.equal(result.class === "accepted", code < 300);
        },
      ),
    );
  });
  it("stays fast on text made to slow patterns down", () => {
    const seeds = ["user ", "mail ", "ip ", "too many ", "spf ", "1.2.3.4 ", "mailbox", "-", "a@", "server "];
    for (const seed of seeds) {
      const text = seed.repeat(4000);
      const started = performance.now();
      classifyReply({ code: 550, enhancedCode: "", text });
      classifyReply({ code: 450, enhancedCode: "", text });
      assert.ok(performance.now() - started < 250, `${seed}: ${performance.now() - started} ms`);
    }
  });
});

describe("a reply pasted from a log", () => {
  const cases: readonly [string, number, string][] = [
    ["421 4.7.28 try later", 421, "4.7.28"],
    ["host mx.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO)", 550, "5.1.1"],
    ["smtp;550 5.7.1 no", 550, "5.7.1"],
    ["550-5.7.26 a\r\n550 5.7.26 b", 550, "5.7.26"],
    ["250", 250, ""],
  ];
  for (const [line, code, enhancedCode] of cases) {
    it(`is found in: ${line.slice(0, 40)}`, () => {
      const reply = parseReplyText(line);
      assert.equal(reply?.code, code);
      assert.equal(reply?.enhancedCode, enhancedCode);
    });
  }
  it("is nothing without a code", () => {
    assert.equal(parseReplyText("hello world"), undefined);
  });
});
