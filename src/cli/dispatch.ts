/** Chooses the command and gives its exit status: 0 done, 1 failed, 2 wrong usage. */
import { ConfigError, loadConfig, loadSettings } from "../config/load.ts";
import { nearest } from "../config/nearest.ts";
import { COMMANDS, type SettingsOf } from "./commands.ts";
import { helpText, type ParsedOptions, runCommand } from "./options.ts";
import { spec as proxySpec } from "./proxy-options.ts";
import { versionText } from "./version.ts";

/** Runs the command line (without node and script) and resolves to the exit status. */
export async function dispatch(argv: readonly string[]): Promise<number> {
  const [word] = argv;
  const isProxy = word === undefined || word.startsWith("-");
  // The proxy goes on without its stdout (a full disk): the log says the same. `warp log | head` closes ours: that is the
  // reader's right, not an error of ours.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (isProxy) return;
    if (error.code === "EPIPE") process.exit(0);
    process.stderr.write(`warp: stdout: ${error.message}\n`);
    process.exit(1);
  });
  try {
    if (isProxy) return await proxyCommand(argv);
    const command = COMMANDS.find(({ name }) => name === word);
    if (command === undefined) return unknownCommand(word);
    return await (await command.load()).run(argv.slice(1), settingsOf);
  } catch (error) {
    if (error instanceof ConfigError) return configFailure(error);
    process.stderr.write(`warp: ${errorText(error)}\n`);
    return 1;
  }
}

/** Ends the process once what was written to stdout and stderr is out. */
export function exitWith(status: number): void {
  process.exitCode = status;
  // An error of stdout is told after the write that met it: that comes first.
  process.stdout.write("", () => setImmediate(() => process.stderr.write("", () => process.exit(status))));
}

/** The help of `warp` itself: its options and the commands. */
export function mainHelp(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length)) + 2;
  const lines = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`);
  return `${helpText(proxySpec)}\nCommands (warp COMMAND --help says more):\n${lines.join("\n")}\n`;
}

async function proxyCommand(argv: readonly string[]): Promise<number> {
  return runCommand(proxySpec, argv, runWith, mainHelp);
}

async function runWith(options: ParsedOptions): Promise<number> {
  if (options.flag("version")) {
    process.stderr.write(`${versionText()}\n`);
    return 0;
  }
  const load = () => loadConfig(options, process.env);
  const loaded = load();
  const { runProxy } = await import("./run.ts");
  return runProxy(loaded, load);
}

/** For the commands that read the proxy's configuration. */
export const settingsOf: SettingsOf = (options, said) => loadSettings(options, process.env, said);

function unknownCommand(word: string): number {
  const near = nearest(
    word,
    COMMANDS.map(({ name }) => name),
  );
  const hint = near === undefined ? "" : `; the nearest is ${near}`;
  process.stderr.write(`warp: "${word}" is no command${hint}\nTry: warp --help\n`);
  return 2;
}

function configFailure(error: ConfigError): number {
  for (const line of error.lines) process.stderr.write(`warp: ${line}\n`);
  return error.isUsage ? 2 : 1;
}

/** What a person can use of it; the stack only where WARP_DEBUG asks for it. */
function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return process.env.WARP_DEBUG === undefined ? error.message : (error.stack ?? error.message);
}
