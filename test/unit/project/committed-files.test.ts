/** What is committed says nothing of the machine that it was made on, and names no package registry. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Taken apart, so that this file does not name what it looks for. */
const registries = [
  ["registry", "npmjs", "org"],
  ["registry", "yarnpkg", "com"],
  ["npm", "pkg", "github", "com"],
  ["pypi", "org"],
  ["files", "pythonhosted", "org"],
  ["proxy", "golang", "org"],
  ["sum", "golang", "org"],
  ["crates", "io"],
  ["deb", "debian", "org"],
].map((labels) => labels.join("."));

function committed(): { path: string; text: string }[] {
  const list = execFileSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" });
  return list
    .split("\0")
    .filter((path) => path !== "")
    .flatMap((path) => {
      const text = textOf(path);
      return text === undefined ? [] : [{ path, text }];
    });
}

/** Undefined for what was deleted and not committed yet, and for binary files. */
function textOf(path: string): string | undefined {
  try {
    const octets = readFileSync(join(root, path));
    return octets.includes(0) ? undefined : octets.toString("utf8");
  } catch (error) {
    if (
      (error as NodeJS.ErrnoException).code === "ENOENT" ||
      (error as NodeJS.ErrnoException).code === "EISDIR"
    )
      return undefined;
    throw error;
  }
}

function lookFor(words: readonly string[]): string[] {
  return committed().flatMap(({ path, text }) =>
    words.filter((word) => text.includes(word)).map((word) => `${path} has ${word}`),
  );
}

describe("committed files", () => {
  it("are found, and looked into", () => {
    assert.ok(lookFor(["SO_ORIGINAL_DST"]).some((found) => found.startsWith("native/sockets.h")));
  });

  it("name no package registry", () => {
    assert.deepEqual(lookFor(registries), []);
  });

  it("name no folder of the machine that they were made on", () => {
    const checkout = root.replace(/\/$/, "");
    // Its own place and its parent's, unless that is a folder that every machine has; and where it was first written.
    const folders = [checkout, dirname(checkout), ["", "work", ""].join("/")].filter(
      (folder) => folder.split("/").length > 2,
    );
    assert.deepEqual(lookFor([...new Set(folders)]), []);
  });
});
