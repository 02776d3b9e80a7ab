/**
 * How the commands say what they take. A command declares a `CommandSpec`; from it come its parsing, its `--help`, the
 * man page, the completions and the reference. Syntax as Go's flag package has it: `-name value`, `-name=value`, one
 * dash or two, booleans `-verbose` and `-verbose=false`, `--` ends the options. Unlike Go's, options may also follow
 * operands. Wrong usage is a `UsageError`: one message for a person, exit status 2.
 */
import { nearest } from "../config/nearest.ts";
import { readDuration, readSize, Unreadable } from "../config/scalars.ts";

export interface OptionSpec {
  /** Without dashes: "message-size-limit". */
  readonly name: string;
  /** What the value is called in the help: "FILE". Absent: a boolean. */
  readonly value?: string;
  readonly help: string;
  readonly repeatable?: boolean;
  /** Shown in the help; the command itself applies it. */
  readonly default?: string;
  /** The values that it may have; others are wrong usage. */
  readonly choices?: readonly string[];
  /** For completion: file names, directories. */
  readonly completes?: "file" | "directory";
  /** Taken for compatibility; not in the help. */
  readonly hidden?: boolean;
}

export interface OperandSpec {
  /** As in the usage line: "ADDRESS". */
  readonly name: string;
  readonly help: string;
  readonly optional?: boolean;
  /** Takes all that follow; only the last operand. */
  readonly repeatable?: boolean;
  readonly choices?: readonly string[];
  readonly completes?: "file" | "directory";
}

export interface CommandSpec {
  /** Words after `warp`: "hook-check", "reputation show"; empty for the proxy itself. */
  readonly name: string;
  /** One line, without a full stop. */
  readonly summary: string;
  /** Paragraphs below the usage. */
  readonly description?: readonly string[];
  readonly operands?: readonly OperandSpec[];
  readonly options: readonly OptionSpec[];
  /** Command lines and what they do. */
  readonly examples?: readonly (readonly [command: string, meaning: string])[];
}

/** The user's mistake; the message names it and what would be right. Exit status 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface Occurrence {
  readonly name: string;
  /** "true" or "false" for booleans. */
  readonly value: string;
}

/** What a command line said. Asking for an option that the spec lacks is a programming error and throws. */
export class ParsedOptions {
  readonly operands: readonly string[];
  /** Every option as it was said, in the order of the command line. */
  readonly occurrences: readonly Occurrence[];
  readonly #spec: CommandSpec;

  constructor(spec: CommandSpec, occurrences: readonly Occurrence[], operands: readonly string[]) {
    this.#spec = spec;
    this.occurrences = occurrences;
    this.operands = operands;
  }

  given(name: string): boolean {
    return this.list(name).length > 0;
  }
  /** A boolean option; the last one said wins. */
  flag(name: string): boolean {
    return this.list(name).at(-1) === "true";
  }
  /** The value said last. */
  value(name: string): string | undefined {
    return this.list(name).at(-1);
  }
  /** Every value, in order. */
  list(name: string): readonly string[] {
    if (name !== "help" && !this.#spec.options.some((option) => option.name === name)) {
      throw new TypeError(`the command "${this.#spec.name}" declares no option --${name}`);
    }
    return this.occurrences.filter((said) => said.name === name).map((said) => said.value);
  }
  /** Whole number between the bounds. */
  number(name: string, lowest = 0, highest = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    const number = Number(value);
    if (!/^-?\d+$/.test(value) || number < lowest || number > highest) {
      throw new UsageError(`--${name} was "${value}", should be a whole number from ${lowest} to ${highest}`);
    }
    return number;
  }
  /** "10s", "30d" → ms. */
  durationMs(name: string): number | undefined {
    return this.#read(name, readDuration);
  }
  /** "16KiB" → octets. */
  octets(name: string): number | undefined {
    return this.#read(name, readSize);
  }
  #read<T>(name: string, read: (value: unknown) => T): T | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    try {
      return read(value);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      throw new UsageError(`--${name} was "${value}", should be ${error.message}`);
    }
  }
}

const HELP: OptionSpec = { name: "help", help: "Show this help" };

/** Reads a command line (without the words that chose the command). Throws UsageError. */
export function parseOptions(spec: CommandSpec, argv: readonly string[]): ParsedOptions {
  const known = new Map([...spec.options, HELP].map((option) => [option.name, option]));
  const occurrences: Occurrence[] = [];
  const operands: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index]!;
    if (word === "--") {
      operands.push(...argv.slice(index + 1));
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) {
      if (word.startsWith("-") && word !== "-") throw new UsageError(`"${word}" is no option`);
      operands.push(word);
      continue;
    }
    const name = match[1] === "h" && !known.has("h") ? "help" : match[1]!;
    const option = known.get(name);
    if (option === undefined) throw new UsageError(unknownOption(spec, match[1]!));
    let value = match[2];
    if (option.value === undefined) value = readBoolean(name, value ?? "true");
    else value ??= argv[++index];
    if (value === undefined) throw new UsageError(`--${name} needs a value: --${name} ${option.value}`);
    checkChoice(option, value);
    occurrences.push({ name, value });
  }
  const parsed = new ParsedOptions(spec, occurrences, operands);
  if (!parsed.flag("help")) checkOperands(spec, operands);
  return parsed;
}

/**
 * Runs one command: prints its help, or parses and calls `body`, whose number is the exit status. Wrong usage (also
 * where `body` finds it) goes to stderr and is 2.
 */
export async function runCommand(
  spec: CommandSpec,
  argv: readonly string[],
  body: (options: ParsedOptions) => Promise<number> | number,
  help: (spec: CommandSpec) => string = helpText,
): Promise<number> {
  try {
    const options = parseOptions(spec, argv);
    if (options.flag("help")) {
      process.stdout.write(help(spec));
      return 0;
    }
    return await body(options);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${commandName(spec)}: ${error.message}\nTry: ${commandName(spec)} --help\n`);
    return 2;
  }
}

/** The text of `--help`, at most 100 columns wide. */
export function helpText(spec: CommandSpec): string {
  const lines = [`Usage: ${usageLine(spec)}`, "", `${spec.summary}.`];
  for (const paragraph of spec.description ?? []) lines.push("", ...wrap(paragraph, 98));
  const operands = spec.operands ?? [];
  if (operands.length > 0) {
    lines.push("", "Operands:");
    lines.push(...table(operands.map((operand) => [operand.name, operandHelp(operand)])));
  }
  lines.push(
    "",
    "Options:",
    ...table(visibleOptions(spec).map((option) => [optionForm(option), optionHelp(option)])),
  );
  if ((spec.examples ?? []).length > 0) lines.push("", "Examples:");
  for (const [command, meaning] of spec.examples ?? []) lines.push(`  ${command}`, `      ${meaning}`);
  return `${lines.join("\n")}\n`;
}

/** "warp hook-check", or "warp". */
export function commandName(spec: CommandSpec): string {
  return spec.name === "" ? "warp" : `warp ${spec.name}`;
}
/** "warp hook-send [options] ADDRESS FILE". */
export function usageLine(spec: CommandSpec): string {
  const operands = (spec.operands ?? []).map((operand) => {
    const name = operand.repeatable === true ? `${operand.name}…` : operand.name;
    return operand.optional === true ? `[${name}]` : name;
  });
  return [commandName(spec), "[options]", ...operands].join(" ");
}
/** The options that help and documents show, `--help` last. */
export function visibleOptions(spec: CommandSpec): readonly OptionSpec[] {
  return [...spec.options.filter((option) => option.hidden !== true), HELP];
}
/** "--ip ADDRESS". */
export function optionForm(option: OptionSpec): string {
  return option.value === undefined ? `--${option.name}` : `--${option.name} ${option.value}`;
}
/** Help with default and "repeatable". */
export function optionHelp(option: OptionSpec): string {
  const notes: string[] = [];
  if (option.choices !== undefined) notes.push(option.choices.join(", "));
  if (option.default !== undefined) notes.push(`default ${option.default}`);
  if (option.repeatable === true) notes.push("repeatable");
  return notes.length === 0 ? option.help : `${option.help} (${notes.join("; ")})`;
}
/** Lines of at most `width` columns. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

function operandHelp(operand: OperandSpec): string {
  return operand.choices === undefined ? operand.help : `${operand.help} (${operand.choices.join(", ")})`;
}
function table(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(30, Math.max(...rows.map(([left]) => left.length)) + 2);
  return rows.flatMap(([left, right]) => {
    const [first = "", ...rest] = wrap(right, 98 - width);
    const indent = " ".repeat(width + 2);
    const more = rest.map((line) => indent + line);
    if (left.length + 2 > width) return [`  ${left}`, indent + first, ...more];
    return [`  ${left.padEnd(width)}${first}`, ...more];
  });
}

function unknownOption(spec: CommandSpec, name: string): string {
  const names = visibleOptions(spec).map((option) => option.name);
  const near = nearest(name, names);
  return near === undefined
    ? `--${name} is no option of ${commandName(spec)}`
    : `--${name} is no option of ${commandName(spec)}; the nearest is --${near}`;
}
/** The words that Go's flag package takes. */
function readBoolean(name: string, value: string): string {
  if (/^(?:1|t|T|true|TRUE|True)$/.test(value)) return "true";
  if (/^(?:0|f|F|false|FALSE|False)$/.test(value)) return "false";
  throw new UsageError(`--${name} was "${value}", should be true or false`);
}
function checkChoice(option: OptionSpec, value: string): void {
  if (option.choices === undefined || option.choices.includes(value)) return;
  const near = nearest(value, option.choices);
  const hint = near === undefined ? "" : `; the nearest is ${near}`;
  throw new UsageError(`--${option.name} was "${value}", should be ${option.choices.join(", ")}${hint}`);
}
function checkOperands(spec: CommandSpec, operands: readonly string[]): void {
  const specs = spec.operands ?? [];
  const missing = specs.slice(operands.length).find((operand) => operand.optional !== true);
  if (missing !== undefined) throw new UsageError(`${missing.name} is missing; usage: ${usageLine(spec)}`);
  if (operands.length > specs.length && specs.at(-1)?.repeatable !== true) {
    throw new UsageError(`"${operands[specs.length]}" is one operand too many; usage: ${usageLine(spec)}`);
  }
  for (const [index, value] of operands.entries()) {
    const choices = (specs[index] ?? specs.at(-1))?.choices;
    if (choices === undefined || choices.includes(value)) continue;
    const near = nearest(value, choices);
    const hint = near === undefined ? "" : `; the nearest is ${near}`;
    throw new UsageError(`"${value}" should be ${choices.join(", ")}${hint}`);
  }
}
