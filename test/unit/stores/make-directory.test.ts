import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { makeDirectory } from "../../../src/stores/make-directory.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-mkdir-"));
after(() => rmSync(folder, { recursive: true }));

test("makes every level, for this user alone, and takes one that is there", () => {
  const path = join(folder, "a", "b", "c");
  makeDirectory(path);
  makeDirectory(path);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  makeDirectory(`${path}/../d/`);
  assert.ok(statSync(join(folder, "a", "b", "d")).isDirectory());
});

test("says what is wrong where a file is in the way", () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  assert.throws(() => makeDirectory(join(file, "a", "b")), { code: "ENOTDIR" });
});

test("returns where a file system has no directories to make, below one or several", {
  skip: process.platform !== "linux",
}, () => {
  const module = fileURLToPath(new URL("../../../src/stores/make-directory.ts", import.meta.url));
  for (const path of ["/proc/warp", "/proc/warp/journal"]) {
    const program = `
      import { makeDirectory } from ${JSON.stringify(module)};
      try { makeDirectory(${JSON.stringify(path)}); } catch (error) { console.log(error.code); }`;
    const { stdout, signal } = spawnSync(
      process.execPath,
      ["--input-type=module-typescript", "-e", program],
      { encoding: "utf8", timeout: 10_000, killSignal: "SIGKILL" },
    );
    assert.deepEqual([signal, stdout], [null, "ENOENT\n"]);
  }
});
