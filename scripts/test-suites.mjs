/**
 * The suites of `npm test`, in their order: cheap and telling first. A suite is a name and a function that runs it to its
 * end within its time-out and gives its counts of individual tests. Output is streamed as it comes.
 */

import { spawn, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./bootstrap.mjs";

const minute = 60_000;

export const suites = [
  { name: "check", run: check },
  { name: "generated", run: (context) => commandCases(context, generatedCases, 3 * minute) },
  nodeSuite("unit", 8 * minute, { concurrency: 2 }),
  nodeSuite("transcripts", 3 * minute, { concurrency: 2 }),
  { name: "fuzz", run: fuzz },
  nodeSuite("integration", 15 * minute),
  { name: "clients", run: clients },
  nodeSuite("netns", 15 * minute),
];

/** Runs test files (or folders) with node's own runner; the counts are those of its summary. */
export async function runFiles({ node, env }, files, { timeoutMs = 10 * minute, concurrency = 1 } = {}) {
  const countsFile = join(root, ".cache", `counts-${process.pid}.json`);
  mkdirSync(join(root, ".cache"), { recursive: true });
  rmSync(countsFile, { force: true });
  const args = [
    "--test",
    `--test-concurrency=${concurrency}`,
    `--test-reporter=${join(root, "scripts", "test-reporter.mjs")}`,
    "--test-reporter-destination=stdout",
    ...files,
  ];
  const status = await stream(node, args, { env: { ...env, WARP_TEST_COUNTS: countsFile }, timeoutMs });
  if (!existsSync(countsFile)) return { passed: 0, failed: 1, skipped: 0 };
  const counts = JSON.parse(readFileSync(countsFile, "utf8"));
  rmSync(countsFile, { force: true });
  const failed = counts.failed + counts.cancelled;
  return {
    passed: counts.passed,
    failed: status === 0 ? failed : Math.max(failed, 1),
    skipped: counts.skipped + counts.todo,
  };
}

function nodeSuite(name, timeoutMs, { concurrency = 1 } = {}) {
  const run = async (context) => {
    const files = testFiles(name);
    if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
    return runFiles(context, files, { timeoutMs, concurrency });
  };
  return { name, run };
}

function testFiles(folder) {
  return globSync(`test/${folder}/**/*.test.ts`, { cwd: root }).sort();
}

function check(context) {
  const cases = [
    ["format and lint (biome)", "biome", ["ci", "--colors=off", "--error-on-warnings"]],
    ["types (tsc)", "tsc", ["-p", "tsconfig.json"]],
    ["dist builds", "node", ["scripts/build.mjs"]],
  ];
  return commandCases(context, cases, 3 * minute);
}

const generatedCases = [
  ["proto is well formed (buf lint)", "buf", ["lint"]],
  [
    "proto breaks no reader of the last commit (buf breaking)",
    "node",
    ["scripts/check-generated.mjs", "breaking"],
  ],
  ["generated code is fresh (buf generate)", "node", ["scripts/check-generated.mjs", "fresh"]],
];

/** Each case is one test: a name, a command, its arguments. */
async function commandCases({ env }, cases, timeoutMs) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, command, args, options] of cases) {
    const status = await stream(command, args, { env, timeoutMs, quiet: true, ...options });
    counts[status === 0 ? "passed" : "failed"] += 1;
    console.log(`  ${status === 0 ? "✔" : "✖"} ${name}`);
  }
  return counts;
}

async function fuzz(context) {
  const counts = await nodeSuite("fuzz", 3 * minute).run(context);
  const seconds = process.env.WARP_FUZZ_SECONDS ?? "60";
  // The same seeds in every run: what fails here fails again. New ones are for `npm run fuzz`.
  const args = ["test/fuzz/main.ts", "--seconds", seconds, "--seed", "1"];
  const name = `the dialogue survives ${seconds} s of generated input`;
  if (!existsSync(join(root, "test/fuzz/main.ts"))) return counts;
  return sum(
    counts,
    await commandCases(context, [[name, "node", args]], Number(seconds) * 1000 + 2 * minute),
  );
}

async function clients(context) {
  let counts = await nodeSuite("clients", 6 * minute).run(context);
  if (existsSync(join(root, "clients/python"))) counts = sum(counts, await pytest(context));
  if (existsSync(join(root, "clients/go/go.mod"))) counts = sum(counts, await goTest(context));
  return counts;
}

/** pytest's own counts come from its JUnit file: its closing line changes with options and plugins. */
async function pytest({ env }) {
  const junit = join(root, ".cache", "pytest.xml");
  rmSync(junit, { force: true });
  const args = ["-m", "pytest", "-q", "-p", "no:cacheprovider", `--junit-xml=${junit}`];
  const status = await stream("python3", args, {
    env,
    cwd: join(root, "clients/python"),
    timeoutMs: 5 * minute,
  });
  if (!existsSync(junit)) return { passed: 0, failed: 1, skipped: 0 };
  const suite = /<testsuite [^>]*>/.exec(readFileSync(junit, "utf8"))?.[0] ?? "";
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  const skipped = number("skipped");
  const passed = Math.max(0, number("tests") - failed - skipped);
  return { passed, failed: status === 0 ? failed : Math.max(failed, 1), skipped };
}

/** Undefined where the Go that is there can build the client, else why not. From 1.21 on it fetches a newer one itself. */
function goTooOld(env) {
  const said = spawnSync("go", ["version"], { env, encoding: "utf8" }).stdout ?? "";
  const [, minor] = /go1\.(\d+)/.exec(said) ?? [];
  if (minor === undefined) return "Go is missing";
  return Number(minor) < 21 ? `Go is too old: ${said.trim()}` : undefined;
}

/** `go test -json` has one line per event; an event with a Test and a final Action is one test. */
async function goTest({ env }) {
  const unusable = goTooOld(env);
  if (unusable !== undefined) {
    console.log(`    - skipped: clients/go (${unusable})`);
    return { passed: 0, failed: 0, skipped: 1 };
  }
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const outcomes = { pass: "passed", fail: "failed", skip: "skipped" };
  const output = new Map();
  const onLine = (line) => {
    if (!line.startsWith("{")) {
      console.log(`    ${line}`);
      return;
    }
    const event = JSON.parse(line);
    const name = `${event.Package ?? event.ImportPath ?? ""} ${event.Test ?? ""}`.trim();
    if (event.Output !== undefined) output.set(name, (output.get(name) ?? "") + event.Output);
    const outcome = outcomes[event.Action];
    if (event.Test !== undefined && outcome !== undefined) counts[outcome] += 1;
    if (event.Action === "fail") console.log(`    ✖ ${name}\n${output.get(name) ?? ""}`);
    if (event.Action === "build-output") console.log(`    ${event.Output.trimEnd()}`);
    if (event.Test !== undefined && event.Action === "skip") console.log(`    - skipped: ${name}`);
    if (event.Test === undefined && event.Action === "pass") console.log(`  ✔ ${name}`);
  };
  // Not from the cache: it does not see that the .proto, which the stubs are compared with, has changed.
  const args = ["test", "-count=1", "-json", "./..."];
  const status = await stream("go", args, {
    env,
    cwd: join(root, "clients/go"),
    timeoutMs: 6 * minute,
    onLine,
  });
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}

function sum(a, b) {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

const running = new Set();

/** Ends whatever a suite has running; for when we are ended ourselves. */
export function endAll() {
  for (const pid of running) endGroup(pid, "SIGTERM");
}

/**
 * Runs a command in a process group of its own, so that a time-out ends all that it started. Gives its exit status, 124
 * for a time-out. `quiet` shows its output only if it failed; `onLine` takes each line of its stdout instead.
 */
function stream(command, args, { env, cwd = root, timeoutMs, quiet = false, onLine }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    running.add(child.pid);
    const held = [];
    let rest = "";
    const take = (chunk) => {
      if (quiet) held.push(chunk);
      else if (onLine === undefined) process.stdout.write(chunk);
      else {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        lines.forEach(onLine);
      }
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr
      .setEncoding("utf8")
      .on("data", (chunk) => (quiet ? held.push(chunk) : process.stdout.write(chunk)));
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      console.log(`  ✖ ${command} ${args[0] ?? ""}: not done within ${timeoutMs / 1000} s, ended`);
      endGroup(child.pid, "SIGTERM");
      setTimeout(() => endGroup(child.pid, "SIGKILL"), 5000).unref();
    }, timeoutMs);
    child.on("error", (error) => {
      clearTimeout(timer);
      console.log(`    ${command}: ${error.message}`);
      resolve(127);
    });
    child.on("close", (code) => {
      running.delete(child.pid);
      clearTimeout(timer);
      const status = timedOut ? 124 : (code ?? 1);
      if (status !== 0 && quiet) console.log(lastLines(held.join(""), 200));
      resolve(status);
    });
  });
}

function endGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // Gone already.
  }
}

function lastLines(text, count) {
  const lines = text.trimEnd().split("\n");
  const kept = lines.slice(-count);
  return [...(kept.length < lines.length ? ["    …"] : []), ...kept.map((line) => `    ${line}`)].join("\n");
}
