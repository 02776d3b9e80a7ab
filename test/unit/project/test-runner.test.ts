/** `npm test` itself: what it counts, the line that it closes with, and its exit status. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const passing = 'import { it } from "node:test"; it("passes", () => {}); it("passes too", () => {});\n';
const skipping = 'import { it } from "node:test"; it("needs a tool", { skip: "no such tool" }, () => {});\n';
const failing =
  'import { describe, it } from "node:test"; describe("outer", () => { it("fails", () => { throw new Error("so it does"); }); it("passes", () => {}); });\n';

function runOn(files: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const folder = mkdtempSync(join(tmpdir(), "warp-runner-"));
  try {
    const paths = files.map((text, number) => {
      const path = join(folder, `${number}.test.ts`);
      writeFileSync(path, text);
      return path;
    });
    // Not as a test of the runner that runs this one.
    const { NODE_TEST_CONTEXT: _context, CI: _ci, WARP_TEST_COUNTS: _counts, ...outer } = process.env;
    const done = spawnSync(process.execPath, [join(root, "scripts/test-main.mjs"), ...paths], {
      cwd: root,
      encoding: "utf8",
      env: { ...outer, ...env },
    });
    return { status: done.status, output: done.stdout, last: done.stdout.trimEnd().split("\n").at(-1) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("npm test", () => {
  it("adds up the tests of several files and ends with 0 where all passed", () => {
    const { status, last } = runOn([passing, passing]);
    assert.equal(last, "4 passed, 0 failed, 0 skipped");
    assert.equal(status, 0);
  });

  it("ends with 1 for a failure, and shows its full name and cause", () => {
    const { status, last, output } = runOn([passing, failing]);
    assert.equal(last, "3 passed, 1 failed, 0 skipped");
    assert.equal(status, 1);
    assert.match(output, /✖ outer › fails\n\s+Error: so it does/);
  });

  it("counts a file that can't be loaded as a failure, and shows what it said", () => {
    const { status, last, output } = runOn([passing, 'throw new Error("not loadable");\n']);
    assert.equal(last, "2 passed, 1 failed, 0 skipped");
    assert.equal(status, 1);
    assert.match(output, /not loadable/);
  });

  it("lets skipped tests pass, with their reason, but not where CI=true", () => {
    const relaxed = runOn([passing, skipping]);
    assert.equal(relaxed.last, "2 passed, 0 failed, 1 skipped");
    assert.equal(relaxed.status, 0);
    assert.match(relaxed.output, /- skipped: needs a tool \(no such tool\)/);
    assert.equal(runOn([passing, skipping], { CI: "true" }).status, 1);
  });

  it("prints one closing line, which nothing else in the output resembles", () => {
    const { output } = runOn([passing, failing]);
    assert.equal(output.match(/\d+ passed, \d+ failed/g)?.length, 1);
  });

  it("refuses the name of no suite and no file", () => {
    const done = spawnSync(process.execPath, [join(root, "scripts/test-main.mjs"), "no-such-suite"], {
      encoding: "utf8",
    });
    assert.equal(done.status, 1);
    assert.match(done.stderr, /no suite and no file no-such-suite; the suites are check, generated, unit,/);
    assert.match(done.stdout, /^0 passed, 1 failed, 0 skipped$/m);
  });
});
