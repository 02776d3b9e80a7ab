/** `warp completion SHELL`: commands, options, their choices and files, made from the commands' own declarations. */
import { COMMANDS } from "./commands.ts";
import { type CommandSpec, type OptionSpec, runCommand, visibleOptions } from "./options.ts";
import { spec as proxySpec } from "./proxy-options.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

export const spec: CommandSpec = {
  name: "completion",
  summary: "Print the completion for a shell",
  operands: [{ name: "SHELL", help: "The shell", choices: SHELLS }],
  options: [],
  examples: [
    ["source <(warp completion bash)", "In this shell."],
    ["warp completion zsh > /usr/share/zsh/site-functions/_warp", "For every zsh."],
    ["warp completion fish > ~/.config/fish/completions/warp.fish", "For your fish."],
  ],
};

export async function completionCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    process.stdout.write(completionText(options.operands[0] as Shell, await everySpec()));
    return 0;
  });
}

/** The proxy's and every command's, in the order of the help. Commands with commands of their own give several. */
export async function everySpec(): Promise<readonly CommandSpec[]> {
  const modules = await Promise.all(COMMANDS.map((command) => command.load()));
  return [proxySpec, ...modules.flatMap(({ specs }) => specs)];
}

export function completionText(shell: Shell, specs: readonly CommandSpec[]): string {
  if (shell === "bash") return bash(specs);
  return shell === "zsh" ? zsh(specs) : fish(specs);
}

function names(): string {
  return COMMANDS.map(({ name }) => name).join(" ");
}
function topOf(spec: CommandSpec): string {
  return spec.name.split(" ")[0]!;
}
/** Specs that belong to one word after `warp`: "reputation show" and "reputation top" to "reputation". */
function grouped(specs: readonly CommandSpec[]): Map<string, CommandSpec[]> {
  const groups = new Map<string, CommandSpec[]>();
  for (const one of specs) groups.set(topOf(one), [...(groups.get(topOf(one)) ?? []), one]);
  return groups;
}
function uniqueOptions(specs: readonly CommandSpec[]): readonly OptionSpec[] {
  return [...new Map(specs.flatMap(visibleOptions).map((option) => [option.name, option])).values()];
}
/** Words that may stand as operands: choices, and the second words of commands that have commands. */
function operandWords(specs: readonly CommandSpec[]): string[] {
  const seconds = specs.map((one) => one.name.split(" ")[1]).filter((word) => word !== undefined);
  const choices = specs.flatMap((one) => (one.operands ?? []).flatMap((operand) => operand.choices ?? []));
  return [...new Set([...seconds, ...choices])];
}
function takesFiles(specs: readonly CommandSpec[]): boolean {
  return specs.some((one) => (one.operands ?? []).some((operand) => operand.completes !== undefined));
}

function bash(specs: readonly CommandSpec[]): string {
  const values: string[] = [];
  const words: string[] = [];
  for (const [command, group] of grouped(specs)) {
    const options = uniqueOptions(group);
    for (const option of options) {
      const reply = bashReply(option);
      if (reply !== undefined) values.push(`    "${command}:--${option.name}") ${reply}; return ;;`);
    }
    const flags = options.map((option) => `--${option.name}`).join(" ");
    const operands = command === "" ? names() : operandWords(group).join(" ");
    const files = takesFiles(group) ? ' COMPREPLY+=( $(compgen -f -- "$cur") )' : "";
    words.push(`    "${command}") COMPREPLY=( $(compgen -W "${flags} ${operands}" -- "$cur") )${files} ;;`);
  }
  return `# bash completion for warp; made by: warp completion bash
_warp() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" command=""
  if (( COMP_CWORD > 1 )) && [[ "\${COMP_WORDS[1]}" != -* ]]; then command="\${COMP_WORDS[1]}"; fi
  case "$command:$prev" in
${values.join("\n")}
  esac
  case "$command" in
${words.join("\n")}
  esac
}
complete -o filenames -F _warp warp
`;
}
/** What completes the value of an option; undefined: it has none. */
function bashReply(option: OptionSpec): string | undefined {
  if (option.value === undefined) return undefined;
  if (option.choices !== undefined)
    return `COMPREPLY=( $(compgen -W "${option.choices.join(" ")}" -- "$cur") )`;
  if (option.completes === "file") return 'COMPREPLY=( $(compgen -f -- "$cur") )';
  if (option.completes === "directory") return 'COMPREPLY=( $(compgen -d -- "$cur") )';
  return "COMPREPLY=()";
}

function zsh(specs: readonly CommandSpec[]): string {
  const cases: string[] = [];
  for (const [command, group] of grouped(specs)) {
    const lines = uniqueOptions(group).map((option) => zshOption(option));
    if (command !== "") {
      const words = operandWords(group);
      if (words.length > 0) lines.push(`'*:operand:(${words.join(" ")})'`);
      else if (takesFiles(group)) lines.push("'*:file:_files'");
      cases.push(`    ${command}) _arguments ${lines.join(" \\\n      ")} ;;`);
    }
  }
  const proxy = uniqueOptions([proxySpec]).map(zshOption).join(" \\\n    ");
  const commands = COMMANDS.map(({ name, summary }) => `'${name}:${zshText(summary)}'`).join("\n    ");
  return `#compdef warp
# zsh completion for warp; made by: warp completion zsh
_warp() {
  local -a commands
  commands=(
    ${commands}
  )
  if (( CURRENT == 2 )) && [[ "$words[2]" != -* ]]; then
    _describe command commands
    return
  fi
  if [[ "$words[2]" == -* ]]; then
    _arguments ${proxy}
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
${cases.join("\n")}
  esac
}
if [[ "$funcstack[1]" == _warp ]]; then _warp "$@"; else compdef _warp warp; fi
`;
}
function zshOption(option: OptionSpec): string {
  const many = option.repeatable === true ? "*" : "";
  const head = `'${many}--${option.name}[${zshText(option.help)}]`;
  if (option.value === undefined) return `${head}'`;
  let action = " ";
  if (option.choices !== undefined) action = `(${option.choices.join(" ")})`;
  else if (option.completes === "file") action = "_files";
  else if (option.completes === "directory") action = "_files -/";
  return `${head}:${zshText(option.value)}:${action}'`;
}
function zshText(text: string): string {
  // What _arguments reads first, then what the shell's quotes need: the other way round escapes the quote's backslash.
  return text.replace(/[[\]:\\]/g, (character) => `\\${character}`).replaceAll("'", "'\\''");
}

function fish(specs: readonly CommandSpec[]): string {
  const lines = ["# fish completion for warp; made by: warp completion fish", "complete -c warp -f"];
  for (const { name, summary } of COMMANDS) {
    lines.push(`complete -c warp -n __fish_use_subcommand -a ${name} -d ${fishText(summary)}`);
  }
  for (const [command, group] of grouped(specs)) {
    const condition = command === "" ? "__fish_use_subcommand" : `'__fish_seen_subcommand_from ${command}'`;
    for (const option of uniqueOptions(group)) lines.push(fishOption(condition, option));
    const words = operandWords(group);
    if (command === "") continue;
    if (words.length > 0) lines.push(`complete -c warp -n ${condition} -a ${fishText(words.join(" "))}`);
    if (takesFiles(group)) lines.push(`complete -c warp -n ${condition} -F`);
  }
  return `${lines.join("\n")}\n`;
}
function fishOption(condition: string, option: OptionSpec): string {
  const parts = [`complete -c warp -n ${condition} -l ${option.name}`];
  if (option.value !== undefined) parts.push(option.completes === "file" ? "-r -F" : "-x");
  if (option.choices !== undefined) parts.push(`-a ${fishText(option.choices.join(" "))}`);
  if (option.completes === "directory") parts.push("-a '(__fish_complete_directories)'");
  parts.push(`-d ${fishText(option.help)}`);
  return parts.join(" ");
}
function fishText(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
