/**
 * From a bare checkout to something that runs: dependencies, native addon, `dist/`. Plain JavaScript for Node 18 and
 * later, because it runs before `npm ci` has brought the Node that the project itself needs. Each step is skipped where
 * its result is fresh, says one line where it has work to do, and shows a tool's output only when it failed.
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");

const minimumNode = 24;

/** A step that can't be done; the message is all that a person needs to see. */
export class BootstrapError extends Error {}

/**
 * Makes the checkout ready, with `dist/` unless told otherwise. Gives the path of the Node to run the project with, and
 * an environment whose PATH finds it. Throws a BootstrapError.
 */
export function bootstrap({ dist = true } = {}) {
  ensureDependencies();
  const node = projectNode();
  const env = projectEnvironment(node);
  runOrFail(node, [join(root, "scripts", "build-native.mjs")], { env, show: true, what: "the native addon" });
  if (dist) ensureDist(env);
  return { node, env };
}

/** `npm ci`, where node_modules is missing or holds other versions than package-lock.json. */
export function ensureDependencies() {
  if (dependenciesAreFresh()) return;
  ensureCompiler();
  say("installing dependencies (npm ci)");
  const npmCli = process.env.npm_execpath;
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error", "--foreground-scripts=false"];
  const [command, argv] = npmCli?.endsWith("js") ? [process.execPath, [npmCli, ...args]] : ["npm", args];
  runOrFail(command, argv, { what: "npm ci" });
}

/** The Node that came with the dependencies; where there is none for this machine, the one we run on if it will do. */
export function projectNode() {
  const bundled = join(root, "node_modules", ".bin", "node");
  if (existsSync(bundled)) return bundled;
  if (Number(process.versions.node.split(".")[0]) >= minimumNode) return process.execPath;
  throw new BootstrapError(
    `Node ${minimumNode} or later is needed; this is ${process.version}, and none is bundled for ${process.platform} ${process.arch}`,
  );
}

export function projectEnvironment(node) {
  const path = [dirname(node), join(root, "node_modules", ".bin"), process.env.PATH ?? ""].join(delimiter);
  return { ...process.env, PATH: path };
}

/** Compiles `src/` to `dist/` where a source has changed since. Type errors fail it. */
export function ensureDist(env) {
  const stamp = join(root, "dist", ".sources");
  const wanted = sourcesHash();
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("compiling");
  rmSync(join(root, "dist"), { recursive: true, force: true });
  const tsc = join(root, "node_modules", ".bin", "tsc");
  runOrFail(tsc, ["-p", "tsconfig.build.json"], { env, what: "tsc" });
  for (const file of filesBelow(join(root, "src"))) {
    // Scripts for Redis, schemas and the like travel beside the code that reads them.
    if (!file.endsWith(".ts")) cpSync(file, join(root, "dist", relative(join(root, "src"), file)));
  }
  const main = join(root, "dist", "cli", "main.js");
  if (existsSync(main)) chmodSync(main, 0o755);
  writeFileSync(stamp, wanted);
}

export function say(text) {
  console.error(`warp: ${text}`);
}

/** Runs a command to its end, silently unless it fails or `show` is set. */
export function runOrFail(command, args, { env = process.env, show = false, what = command } = {}) {
  const run = spawnSync(command, args, {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: ["ignore", show ? "inherit" : "pipe", show ? "inherit" : "pipe"],
    maxBuffer: 256 * 1024 * 1024,
  });
  if (run.error) throw new BootstrapError(`${what}: ${run.error.message}`);
  if (run.status === 0) return;
  const output = show ? "" : `\n${run.stdout}${run.stderr}`.trimEnd();
  throw new BootstrapError(`${what} failed${output}`);
}

export function hasCommand(name) {
  return spawnSync("sh", ["-c", `command -v ${name}`], { stdio: "ignore" }).status === 0;
}

function dependenciesAreFresh() {
  const installed = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installed)) return false;
  const have = JSON.parse(readFileSync(installed, "utf8")).packages;
  const want = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  return Object.entries(want).every(
    ([path, { version, optional }]) => path === "" || optional || have[path]?.version === version,
  );
}

/** npm ci builds the addon, which takes a C++ compiler; a bare Debian has none. */
function ensureCompiler() {
  const missing = ["g++", "make", "python3"].filter((name) => !hasCommand(name));
  if (process.platform !== "linux" || missing.length === 0) return;
  if (process.getuid() !== 0 || !hasCommand("apt-get")) return;
  say(`installing ${missing.join(", ")} with apt, for the native addon`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  runOrFail("apt-get", ["update", "-qq"], { env, what: "apt-get update" });
  runOrFail("apt-get", ["install", "-qq", "-y", "--no-install-recommends", ...missing], {
    env,
    what: "apt-get",
  });
}

function sourcesHash() {
  const hash = createHash("sha256");
  const settings = ["package.json", "tsconfig.json", "tsconfig.build.json"].map((name) => join(root, name));
  for (const file of [...settings, ...filesBelow(join(root, "src"))]) {
    hash.update(relative(root, file)).update("\0").update(readFileSync(file)).update("\0");
  }
  return `${hash.digest("hex")}\n`;
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesBelow(path) : [path];
    });
}
