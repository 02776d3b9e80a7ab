/**
 * Builds the native addon into `build/Release` (the install script of the package; also part of the bootstrap).
 * Plain JavaScript for Node 18 and later. It does nothing where a build or a prebuilt binary is fresh, and where the
 * addon can't be built it says so in one line and succeeds: without it `--mode fixed` still works.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const binary = join(root, "build", "Release", "warp_native.node");
const stamp = join(root, "build", "warp_native.sources");

const skipped = buildNative();
if (skipped !== undefined) {
  console.error(`warp: no native addon (${skipped}): modes redirect and tproxy are unavailable, fixed works`);
}

/** Undefined: the addon is there and fresh. Else the reason why it is not. */
function buildNative() {
  if (process.platform !== "linux") return `not built on ${process.platform}`;
  if (existsSync(join(root, "prebuilds"))) return undefined;
  const wanted = sourcesHash();
  if (existsSync(binary) && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return undefined;
  const nodeGyp = resolveNodeGyp();
  if (nodeGyp === undefined) return "node-gyp is not installed";
  for (const tool of ["make", process.env.CXX ?? "g++", "python3"]) {
    if (spawnSync(tool, ["--version"], { stdio: "ignore" }).error) return `${tool} is missing`;
  }
  const nodeDir = headersFolder();
  const args = [nodeGyp, "rebuild", "--silent", ...(nodeDir === undefined ? [] : [`--nodedir=${nodeDir}`])];
  const run = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  if (run.status !== 0) {
    console.error(`${run.stdout ?? ""}${run.stderr ?? ""}`.trimEnd());
    return "node-gyp failed, see above";
  }
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, wanted);
  return undefined;
}

/** A digest of everything that the binary is made from. */
function sourcesHash() {
  const hash = createHash("sha256");
  const native = join(root, "native");
  const files = readdirSync(native)
    .filter((name) => /\.(cc|h)$/.test(name))
    .sort()
    .map((name) => join(native, name));
  for (const file of [join(root, "binding.gyp"), ...files]) hash.update(readFileSync(file)).update("\0");
  return `${process.arch} ${hash.digest("hex")}\n`;
}

function resolveNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
  } catch {
    return undefined;
  }
}

/** The folder with Node's headers, so that node-gyp needs no download; undefined lets node-gyp fetch them. */
function headersFolder() {
  const beside = join(dirname(process.execPath), "..");
  if (existsSync(join(beside, "include", "node", "node_api.h"))) return beside;
  try {
    const configured = execFileSync("npm", ["config", "get", "nodedir"], { encoding: "utf8" }).trim();
    if (configured !== "" && configured !== "undefined" && configured !== "null") return configured;
  } catch {
    // Without npm there is nothing to ask.
  }
  return undefined;
}
