/**
 * Every command: its name, what it does in one line, and where it lives. A command's module exports
 * `<name>Command(argv, settingsOf): Promise<exit status>` and its `spec` (a `CommandSpec`, or several where it has commands of its
 * own), from which help, man page, completions and reference are made. Modules are imported when they are needed.
 */
import type { Said } from "../config/overlay.ts";
import type { Config } from "../config/schema.ts";
import type { CommandSpec, ParsedOptions } from "./options.ts";

/**
 * What the options (of this command) say of the configuration; `said`: those that the proxy does not have. Throws
 * ConfigError, which ends the command.
 */
export type SettingsOf = (options: ParsedOptions, said?: readonly Said[]) => Config;
export type CommandFunction = (argv: readonly string[], settingsOf: SettingsOf) => Promise<number>;
export interface CommandModule {
  readonly run: CommandFunction;
  readonly specs: readonly CommandSpec[];
}
export interface Command {
  readonly name: string;
  readonly summary: string;
  load(): Promise<CommandModule>;
}

export const COMMANDS: readonly Command[] = [
  command("rules", "Print, apply or remove the capture rules"),
  command("check-config", "Say whether a configuration file is right, and what is not"),
  command("hook", "Run bundled hook servers"),
  command("hook-check", "Drive a hook server through the protocol and say what holds"),
  command("hook-send", "Send a hook server one message and show its verdict"),
  command("log", "Read what the sqlite sink stored"),
  command("reputation", "Show and correct the counters of senders"),
  command("egress", "Explain the choice of the source IP"),
  command("classify", "Explain the class of a reply"),
  command("completion", "Print the completion for a shell"),
  command("version", "Print version and commit"),
  command("help", "Show the help of a command"),
];

/** "hook-check" → hookCheckCommand. */
export function functionName(name: string): string {
  return `${name.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase())}Command`;
}

function command(name: string, summary: string): Command {
  const load = async (): Promise<CommandModule> => {
    const found = (await import(`./${name}.ts`)) as Readonly<Record<string, unknown>>;
    const run = found[functionName(name)];
    if (typeof run !== "function")
      throw new TypeError(`the module of "${name}" exports no ${functionName(name)}`);
    const spec = found.spec ?? [];
    return {
      run: run as CommandFunction,
      specs: (Array.isArray(spec) ? spec : [spec]) as readonly CommandSpec[],
    };
  };
  return { name, summary, load };
}
