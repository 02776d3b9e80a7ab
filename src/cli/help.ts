/** `warp help [COMMAND]`. */
import { COMMANDS } from "./commands.ts";
import { mainHelp, settingsOf } from "./dispatch.ts";
import { type CommandSpec, runCommand } from "./options.ts";

export const spec: CommandSpec = {
  name: "help",
  summary: "Show the help of warp or of one command",
  operands: [
    { name: "COMMAND", help: "The command", optional: true, choices: COMMANDS.map(({ name }) => name) },
  ],
  options: [],
};

export async function helpCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const command = COMMANDS.find(({ name }) => name === options.operands[0]);
    if (command !== undefined) return (await command.load()).run(["--help"], settingsOf);
    process.stdout.write(mainHelp());
    return 0;
  });
}
