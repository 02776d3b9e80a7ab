/**
 * `npm test [-- SUITE | FILE …]`: the bootstrap, on whatever Node there is, then the suites on the project's own Node
 * (test-main.mjs, which says the rest).
 */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { BootstrapError, bootstrap, root, say } from "./bootstrap.mjs";

try {
  const { node, env } = bootstrap({ dist: false });
  const main = join(root, "scripts", "test-main.mjs");
  const child = spawn(node, [main, ...process.argv.slice(2)], { cwd: root, env, stdio: "inherit" });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code) => {
    process.exitCode = code ?? 1;
  });
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  say(error.message);
  console.log("\n0 passed, 1 failed, 0 skipped");
  process.exitCode = 1;
}
