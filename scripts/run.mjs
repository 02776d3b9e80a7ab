/**
 * `run.mjs PROGRAM ARGUMENTS`: the bootstrap, then a program of the checkout in our place (its output is ours, signals
 * reach it, and its exit status is ours). `npm start -- FLAGS` runs `dist/cli/main.js` by it; what is below `dist/` is
 * compiled first, where it is not fresh.
 */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { BootstrapError, bootstrap, root, say } from "./bootstrap.mjs";

const signals = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"];

try {
  const [program = "", ...args] = process.argv.slice(2);
  const { node, env } = bootstrap({ dist: program.startsWith("dist/") });
  // The proxy tells whoever starts it so what to do next, also where its output is no terminal.
  become(node, [join(root, program), ...args], { ...env, WARP_WELCOME: "1" });
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  say(error.message);
  process.exitCode = 1;
}

function become(command, args, env) {
  const child = spawn(command, args, { stdio: "inherit", env });
  for (const signal of signals) {
    process.on(signal, () => {
      // The terminal has sent its Ctrl-C to the whole process group already.
      if (signal === "SIGINT" && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.on("error", (error) => {
    say(`${command}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}
