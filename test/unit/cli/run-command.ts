/** Runs one command of the command line in a process of its own: its module alone, as `warp NAME …` would. */
import { spawn } from "node:child_process";

export interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `name` as in src/cli/commands.ts; its module exports `<name>Command`. */
export function runCommand(name: string, ...argv: string[]): Promise<Run> {
  const module = new URL(`../../../src/cli/${name}.ts`, import.meta.url).href;
  const exported = `${name.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase())}Command`;
  const script = `import { ${exported} as run } from ${JSON.stringify(module)};
    process.exitCode = await run(process.argv.slice(1));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script, "--", ...argv], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, stdout, stderr })));
}
