/**
 * `breaking`: the protocol against the one of the last commit that it differs from (buf breaking, rules in buf.yaml).
 * `fresh`: what `buf generate` would write against what is committed below `src/gen/`.
 */

import { spawnSync } from "node:child_process";
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./bootstrap.mjs";

const [what] = process.argv.slice(2);
if (what === "breaking") process.exitCode = breaking();
else if (what === "fresh") process.exitCode = fresh();
else {
  console.error("usage: check-generated.mjs breaking | fresh");
  process.exitCode = 2;
}

function breaking() {
  const dirty = run("git", ["status", "--porcelain", "--", "proto"]).stdout.trim() !== "";
  const against =
    dirty || run("git", ["rev-parse", "--verify", "--quiet", "HEAD~1"]).status !== 0 ? "HEAD" : "HEAD~1";
  const result = run("buf", ["breaking", "--against", `.git#ref=${against}`]);
  process.stdout.write(result.stdout + result.stderr);
  return result.status ?? 1;
}

function fresh() {
  const scratch = mkdtempSync(join(tmpdir(), "warp-gen-"));
  try {
    const result = run("buf", ["generate", "-o", scratch]);
    if (result.status !== 0) {
      process.stdout.write(result.stdout + result.stderr);
      return 1;
    }
    const stale = differences(join(scratch, "src/gen"), join(root, "src/gen"));
    for (const path of stale) console.log(`src/gen/${path} is not what buf generate writes`);
    if (stale.length > 0) console.log("npm run generate writes it");
    return stale.length === 0 ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Paths that are only in one of the folders, or not the same in both. */
function differences(made, committed) {
  const list = (folder) => globSync("**/*.ts", { cwd: folder });
  const paths = new Set([...list(made), ...list(committed)]);
  const read = (path) => (existsSync(path) ? readFileSync(path, "utf8") : undefined);
  return [...paths].sort().filter((path) => read(join(made, path)) !== read(join(committed, path)));
}

function run(command, args) {
  return spawnSync(command, args, { cwd: root, encoding: "utf8" });
}
