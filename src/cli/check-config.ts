/** `warp check-config FILE`: everything that is wrong with a configuration file, each with its line. */
import { ConfigError, loadFile } from "../config/load.ts";
import { type CommandSpec, runCommand } from "./options.ts";

export const spec: CommandSpec = {
  name: "check-config",
  summary: "Say whether a configuration file is right, and what is not",
  description: [
    "Checks keys, values, what they say together, and whether the files that it names are there and can be used. Run it as the user that runs the proxy. Exit status 0: right (warnings may be printed); 1: not.",
  ],
  operands: [{ name: "FILE", help: "The file", completes: "file" }],
  options: [{ name: "json", help: "One JSON object: ok, problems, warnings" }],
  examples: [["warp check-config /etc/warp/warp.yaml", "Before a start or a reload."]],
};

export async function checkConfigCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, (options) => {
    const file = options.operands[0]!;
    const { problems, warnings } = check(file);
    if (options.flag("json")) {
      process.stdout.write(`${JSON.stringify({ ok: problems.length === 0, problems, warnings })}\n`);
    } else {
      for (const line of problems) process.stderr.write(`${line}\n`);
      for (const line of warnings) process.stderr.write(`${line} (warning)\n`);
      if (problems.length === 0) process.stdout.write(`${file} is right\n`);
    }
    return problems.length === 0 ? 0 : 1;
  });
}

function check(file: string): { readonly problems: readonly string[]; readonly warnings: readonly string[] } {
  try {
    return { problems: [], warnings: loadFile(file, process.env).warnings };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { problems: error.lines, warnings: [] };
  }
}
