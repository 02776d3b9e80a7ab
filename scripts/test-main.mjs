/**
 * The suites of `npm test`, or those that are named, or test files that are named. First come the tools that they need
 * (apt, when root). It closes with one line, `N passed, N failed, N skipped`, over everything that ran, and exits 1 if
 * anything failed, or was skipped where CI=true.
 */

import { existsSync } from "node:fs";
import { BootstrapError, say } from "./bootstrap.mjs";
import { endAll, runFiles, suites } from "./test-suites.mjs";
import { ensureTools } from "./test-tools.mjs";

const total = { passed: 0, failed: 0, skipped: 0 };

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
  process.on(signal, () => {
    endAll();
    process.exit(130);
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  say(error.message);
  total.failed += 1;
}
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 || (total.skipped > 0 && process.env.CI === "true") ? 1 : 0;

async function main(wanted) {
  const names = suites.map((suite) => suite.name);
  const files = wanted.filter((name) => !names.includes(name));
  const unknown = files.filter((name) => !existsSync(name));
  if (unknown.length > 0) {
    throw new BootstrapError(
      `no suite and no file ${unknown.join(", ")}; the suites are ${names.join(", ")}`,
    );
  }
  const chosen = suites.filter((suite) => wanted.length === 0 || wanted.includes(suite.name));
  const env = ensureTools(files.length > 0 ? names : chosen.map((suite) => suite.name), process.env);
  const context = { node: process.execPath, env };
  for (const suite of chosen) await runSuite(suite.name, () => suite.run(context));
  if (files.length > 0) await runSuite(files.join(" "), () => runFiles(context, files));
}

async function runSuite(name, run) {
  console.log(`\n${name}`);
  const started = Date.now();
  const counts = await run();
  for (const key of Object.keys(total)) total[key] += counts[key];
  const { passed, failed, skipped } = counts;
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  // Not in the form of the closing line: whoever reads the output must find that one only.
  console.log(`  = ${name}: passed ${passed}, failed ${failed}, skipped ${skipped} in ${seconds} s`);
}
