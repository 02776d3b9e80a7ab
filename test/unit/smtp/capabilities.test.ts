import assert from "node:assert/strict";
import { test } from "node:test";
import {
  offeredSize,
  parseCapabilities,
  rewriteEhloReply,
  WITHHELD_ALWAYS,
  WITHHELD_WITH_FILTER,
} from "../../../src/smtp/capabilities.ts";

const shown = { withheld: WITHHELD_ALWAYS, sizeLimit: 1000, starttls: false };
const rewrite = (text: string, options = shown): string =>
  rewriteEhloReply(Buffer.from(text, "latin1"), options).toString("latin1");

const CASES: readonly [name: string, from: string, to: string][] = [
  ["keeps a reply of one line", "250 mx\r\n", "250 mx\r\n"],
  ["takes STARTTLS out of the middle", "250-mx\r\n250-STARTTLS\r\n250 HELP\r\n", "250-mx\r\n250 HELP\r\n"],
  ["takes STARTTLS from the end", "250-mx\r\n250-HELP\r\n250 STARTTLS\r\n", "250-mx\r\n250 HELP\r\n"],
  ["takes the only keyword out", "250-mx\r\n250 starttls\r\n", "250 mx\r\n"],
  ["knows keywords in any case", "250-mx\r\n250-StartTls\r\n250 BinaryMime\r\n", "250 mx\r\n"],
  ["keeps a keyword that only begins alike", "250-mx\r\n250 STARTTLSX\r\n", "250-mx\r\n250 STARTTLSX\r\n"],
  ["withholds REQUIRETLS", "250-mx\r\n250-REQUIRETLS\r\n250 DSN\r\n", "250-mx\r\n250 DSN\r\n"],
  ["withholds PRDR", "250-mx\r\n250-PRDR\r\n250 DSN\r\n", "250-mx\r\n250 DSN\r\n"],
  ["lowers a larger SIZE", "250-mx\r\n250 SIZE 99999\r\n", "250-mx\r\n250 SIZE 1000\r\n"],
  ["keeps a smaller SIZE", "250-mx\r\n250 SIZE 999\r\n", "250-mx\r\n250 SIZE 999\r\n"],
  [
    "puts its own limit for SIZE 0",
    "250-mx\r\n250-SIZE 0\r\n250 DSN\r\n",
    "250-mx\r\n250-SIZE 1000\r\n250 DSN\r\n",
  ],
  ["puts its own limit for a bare SIZE", "250-mx\r\n250 size\r\n", "250-mx\r\n250 size 1000\r\n"],
  [
    "keeps what it does not know, byte for byte",
    "250-mx \xff\r\n250 X-FOO a  b\t\r\n",
    "250-mx \xff\r\n250 X-FOO a  b\t\r\n",
  ],
];

for (const [name, from, to] of CASES) {
  test(name, () => assert.equal(rewrite(from), to));
}

test("offers STARTTLS where the operator gave a certificate, also where the destination has none", () => {
  assert.equal(rewrite("250 mx\r\n", { ...shown, starttls: true }), "250-mx\r\n250 STARTTLS\r\n");
});

test("withholds the ways around a filter where there is one", () => {
  const reply = "250-mx\r\n250-BURL imap\r\n250-TURN\r\n250-ATRN\r\n250-XEXCH50\r\n250 DSN\r\n";
  assert.equal(rewrite(reply), reply);
  assert.equal(rewrite(reply, { ...shown, withheld: WITHHELD_WITH_FILTER }), "250-mx\r\n250 DSN\r\n");
});

test("a reply that does not change is the very same buffer", () => {
  const wire = Buffer.from("250-mx\r\n250 DSN\r\n");
  assert.equal(rewriteEhloReply(wire, shown), wire);
});

test("reads keywords and sizes", () => {
  const capabilities = parseCapabilities(Buffer.from("250-mx\r\n250-size 10\r\n250 AUTH PLAIN LOGIN\r\n"));
  assert.equal(capabilities.has("AUTH"), true);
  assert.equal(offeredSize(capabilities), 10);
  assert.equal(offeredSize(parseCapabilities(Buffer.from("250 mx\r\n"))), undefined);
  assert.equal(offeredSize(parseCapabilities(Buffer.from("250-mx\r\n250 SIZE\r\n"))), 0);
});
