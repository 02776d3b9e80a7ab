/** The page that lists warp's own replies has them all, and no other. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { OWN } from "../../../src/smtp/own-replies.ts";

test("docs/transparency.md lists each of warp's own replies with its reason", () => {
  const page = readFileSync(new URL("../../../docs/transparency.md", import.meta.url), "utf8");
  const listed = [...page.matchAll(/^\| `(\d{3})(?: (\d\.\d\.\d+))?` \| `(\w+)` \|/gm)].map(
    ([, code, enhanced, reason]) => `${code} ${enhanced ?? ""} ${reason}`,
  );
  const made = Object.values(OWN).map(
    ({ code, enhancedCode, reason }) => `${code} ${enhancedCode} ${reason}`,
  );
  assert.deepEqual(listed.toSorted(), made.toSorted());
});
