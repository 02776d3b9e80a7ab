import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { validateVerdict } from "../../../src/filter/verdict.ts";
import { BeforeRelayResponseSchema } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import * as sdk from "../../../src/sdk/index.ts";
import fc from "../../support/property.ts";

const rules = { smtputf8: false, eightBit: true, maxOctets: undefined, discardAllowed: true, sawWhole: true };
const accepted = (verdict: sdk.Verdict): boolean =>
  validateVerdict(create(BeforeRelayResponseSchema, verdict), rules).ok;

test("verdict builders", async (t) => {
  await t.test("reads a reject from a reply line", () => {
    assert.deepEqual(sdk.reject("550 5.7.1 No card numbers").verdict, {
      case: "reject",
      value: { code: 550, enhancedCode: "5.7.1", text: "No card numbers" },
    });
    assert.deepEqual(sdk.reject("451").verdict?.value, {
      code: 451,
      enhancedCode: "4.7.0",
      text: "Message rejected",
    });
    assert.deepEqual(sdk.reject("554 Spam").verdict?.value, {
      code: 554,
      enhancedCode: "5.7.0",
      text: "Spam",
    });
  });
  await t.test("refuses replies that warp would refuse", () => {
    const replies = [
      "250 2.0.0 ok",
      "99",
      "421 4.7.0 go away",
      "521 5.7.1 no",
      "600",
      "",
      "reject",
      "550 4.7.1 classes differ",
      "550 5.7.1 two\r\nlines",
      "550 5.7.1 naïve",
      `550 5.7.1 ${"x".repeat(401)}`,
    ];
    for (const reply of replies) assert.throws(() => sdk.reject(reply), TypeError, reply);
  });
  await t.test("refuses fields that warp would refuse", () => {
    const fields: [string, string][] = [
      ["X\r\nBcc", "a"],
      ["X Y", "a"],
      ["X:", "a"],
      ["", "a"],
      ["Ünï", "a"],
      ["X", "a\r\n\r\nbody"],
      ["X", "a\0"],
      ["X", "a\n"],
      ["X", "a\u0085b"],
      ["X", "\ud800"],
    ];
    for (const [name, value] of fields) {
      for (const make of [sdk.add, sdk.insert, sdk.set]) assert.throws(() => make(name, value), TypeError);
    }
    assert.throws(() => sdk.set("X", "a", -1), TypeError);
    assert.throws(() => sdk.remove("X", 1.5), TypeError);
    assert.throws(() => sdk.addHeader([]), TypeError);
  });
  await t.test("refuses findings beyond their bounds", () => {
    assert.throws(() => sdk.relay({ score: Number.NaN }), TypeError);
    assert.throws(() => sdk.relay({ tags: Array.from({ length: 65 }, String) }), TypeError);
    assert.throws(() => sdk.relay({ tags: ["x".repeat(129)] }), TypeError);
    assert.throws(() => sdk.relay({ note: "x".repeat(1025) }), TypeError);
  });
  await t.test("makes only what the proxy accepts", () => {
    const verdicts = [
      sdk.relay({ score: -3.5, tags: ["a", "b"], note: "fine" }),
      sdk.reject("451 4.7.1 later"),
      sdk.reject({ code: 599 }),
      sdk.addHeader([
        sdk.add("X-A", "1"),
        sdk.insert("X-B", ""),
        sdk.set("Subject", "s", 0),
        sdk.remove("X-C"),
      ]),
      sdk.replace(Buffer.from("A: b\r\n\r\nc\r\n")),
      sdk.discard(),
    ];
    for (const verdict of verdicts) assert.ok(accepted(verdict), JSON.stringify(verdict));
  });
  await t.test("whatever the text, asReplyText makes a reply of it and asFieldValue a value", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 600 }), (text) => {
        const words = sdk.asReplyText(text);
        assert.ok(accepted(sdk.reject({ code: 550, ...(words !== "" && { text: words }) })));
        // A single word of some hundred octets is no text; it cannot be folded.
        const spaced = text.replace(/(.{60})/gu, "$1 ");
        assert.ok(accepted(sdk.addHeader([sdk.insert("X-Text", sdk.asFieldValue(spaced))])));
      }),
    );
  });
  await t.test("asFieldValue's encoded words decode to the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 200 }), (text) => {
        const value = sdk.asFieldValue(`é${text}é`);
        const words = value.split(" ");
        assert.ok(words.every((word) => word.length <= 75));
        const decoded = words
          .map((word) => Buffer.from(/^=\?UTF-8\?B\?(.*)\?=$/.exec(word)![1]!, "base64").toString("utf8"))
          .join("");
        assert.equal(
          decoded,
          `é${text}é`
            .toWellFormed()
            .replace(/[\r\n\t ]+/g, " ")
            .replace(/[\x00-\x1f\x7f-\x9f]/g, "?"),
        );
      }),
    );
  });
  await t.test("cutOctets never cuts inside a character", () => {
    assert.equal(sdk.cutOctets("aé", 2), "a");
    assert.equal(sdk.cutOctets("aé", 3), "aé");
    assert.equal(sdk.cutOctets("😀", 3), "");
  });
});
