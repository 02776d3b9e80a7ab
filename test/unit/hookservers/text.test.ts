import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { test } from "node:test";
import {
  cutCharacters,
  cutOctets,
  decodeMarked,
  octetsOf,
  printable,
  visible,
} from "../../../src/hookservers/text.ts";
import fc from "../../support/property.ts";

const hostile = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  fc.string({ unit: "binary", maxLength: 40 }).map((text) => Buffer.from(text)),
  fc.constantFrom("\\r", "\\x00", "\r\n", "\0", "é", "😀", "\\").map((text) => Buffer.from(text)),
);

test("shows CR LF as four characters, and other text as it is", () => {
  assert.deepEqual(visible(Buffer.from("250-a\r\n250 b é 😀")), {
    text: "250-a\\r\\n250 b é 😀",
    exact: true,
  });
});

test("shows NUL and octets that are not UTF-8 as \\xHH, and says that the text alone is not exact", () => {
  assert.deepEqual(visible(Buffer.from([0x61, 0x00, 0xff, 0xc3, 0x28])), {
    text: "a\\x00\\xff\\xc3(",
    exact: false,
  });
});

test("says that text with a backslash escape of its own is not exact", () => {
  assert.equal(visible(Buffer.from("C:\\new")).exact, false);
  assert.equal(visible(Buffer.from("a\\b")).exact, true);
});

test("gives the octets back wherever it says that the text is exact, and never has a NUL, CR or LF", () => {
  fc.assert(
    fc.property(
      fc.array(hostile).map((parts) => Buffer.concat(parts)),
      (octets) => {
        const { text, exact } = visible(octets);
        assert.ok(!/[\0\r\n]/.test(text));
        assert.ok(isUtf8(Buffer.from(text)));
        assert.equal(Buffer.from(text).toString(), text);
        if (exact) assert.deepEqual(octetsOf(text), octets);
      },
    ),
  );
});

test("marks exactly the octets that a UTF-8 decoder would replace", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 30 }), (octets) => {
      const marked = decodeMarked(octets);
      assert.equal(marked === Buffer.from(octets).toString("utf8"), isUtf8(octets));
    }),
  );
});

test("cuts at characters, never inside one", () => {
  assert.equal(cutOctets("aé😀", 4), "aé");
  assert.equal(cutOctets("aé😀", 7), "aé😀");
  assert.equal(cutCharacters("a😀b", 2), "a😀");
});

test("makes control characters and marks that turn text around printable", () => {
  assert.equal(printable("a\x1b[31m\u202eb\u009b"), "a\\x1b[31m\\u202eb\\x9b");
});
