/**
 * File, flags and environment → `Config`. A flag wins over the file, the file over the environment. Every mistake is
 * reported at once, each with its place: file and line, or the flag that said it.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import {
  type Document,
  isMap,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
  type YAMLParseError,
} from "yaml";
import { ParsedOptions, parseOptions } from "../cli/options.ts";
import { spec } from "../cli/proxy-options.ts";
import { checkHost } from "./host.ts";
import { type Environment, isSamePath, type Overlay, optionOf, overlay, type Said } from "./overlay.ts";
import { type Problem, parseConfig, pathText } from "./parse.ts";
import type { Config } from "./schema.ts";

export interface LoadedConfig {
  readonly config: Config;
  /** Absent: no file was named. */
  readonly file: string | undefined;
  /** Nothing that keeps the proxy from running, but probably not what was meant. One line each. */
  readonly warnings: readonly string[];
  /** What was taken and not used (PLUGIN_PATH). One line each. */
  readonly notes: readonly string[];
}

/** The configuration is wrong; each line names the place, the setting, what it was and what it should be. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly lines: readonly string[];
  /** Every mistake is in a flag, so the command line is wrong: exit status 2. */
  readonly isUsage: boolean;

  constructor(lines: readonly string[], isUsage = false) {
    super(lines.join("\n"));
    this.lines = lines;
    this.isUsage = isUsage;
  }
}

/**
 * Reads what the options and the environment say, and looks at the files that it names. `options` may be another
 * command's than the proxy's: those with a name of the proxy's mean the same. Throws ConfigError, UsageError.
 */
export function loadConfig(options: ParsedOptions, environment: Environment): LoadedConfig {
  return read(options, environment, checkHost);
}

/**
 * The same for a command that only needs the settings, not the files and plugins that the proxy needs. `said`: what its own
 * options say of the file.
 */
export function loadSettings(
  options: ParsedOptions,
  environment: Environment,
  said: readonly Said[] = [],
): Config {
  return read(options, environment, () => [], said).config;
}

/** The file alone, as `warp check-config FILE` looks at it. Throws ConfigError. */
export function loadFile(file: string, environment: Environment): LoadedConfig {
  return loadConfig(parseOptions(spec, ["--config", file]), environment);
}

interface Source {
  readonly file: string | undefined;
  readonly document: Record<string, unknown>;
  /** Line (from 1) of a key or its value. */
  lineOf(path: readonly PropertyKey[], isKey: boolean): number | undefined;
}
const NO_FILE: Source = { file: undefined, document: {}, lineOf: () => undefined };
function read(
  given: ParsedOptions,
  environment: Environment,
  check: (config: Config) => readonly Problem[],
  said: readonly Said[] = [],
): LoadedConfig {
  const known = new Set(spec.options.map((option) => option.name));
  const options = new ParsedOptions(
    spec,
    given.occurrences.filter((said) => known.has(said.name)),
    [],
  );
  const file = options.value("config");
  const source = file === undefined ? NO_FILE : openFile(file);
  const layered = overlay(source.document, options, environment, said);
  const host = { hostname: hostname(), listenIsDefault: layered.listenIsDefault };
  const result = parseConfig(layered.document, host);
  if (result.config === undefined) throw errorOf(result.problems, source, layered);
  const problems = [...result.warnings, ...check(result.config)];
  if (problems.some((problem) => problem.isWarning !== true)) {
    // The words are right; it is the host that lacks something.
    throw new ConfigError(errorOf(problems, source, layered).lines);
  }
  const warnings = problems.map((problem) => located(problem, source, layered).line);
  return { config: result.config, file: source.file, warnings, notes: layered.notes };
}

function errorOf(problems: readonly Problem[], source: Source, layered: Overlay): ConfigError {
  const errors = problems.filter((problem) => problem.isWarning !== true);
  const placed = errors.map((problem) => located(problem, source, layered));
  placed.sort((a, b) => (a.lineNumber ?? 0) - (b.lineNumber ?? 0));
  return new ConfigError(
    placed.map(({ line }) => line),
    placed.every(({ isFlag }) => isFlag),
  );
}

interface Located {
  readonly line: string;
  readonly lineNumber: number | undefined;
  readonly isFlag: boolean;
}
/** "warp.yaml:12: hooks[0].deadline was 5, should be …", or "--port: listen[0] was …". */
function located(problem: Problem, source: Source, layered: Overlay): Located {
  const setting = problem.path.length === 0 ? problem.text : `${pathText(problem.path)} ${problem.text}`;
  const asking = askingOption(problem.path, layered);
  if (asking !== undefined) {
    const missing = `${pathText(problem.path)} (${optionOf(problem.path)}) ${problem.text}`;
    return { line: `${asking}: ${missing}`, lineNumber: undefined, isFlag: true };
  }
  const origin = originOf(problem.path, layered);
  if (origin !== undefined) {
    return { line: `${origin}: ${setting}`, lineNumber: undefined, isFlag: origin.startsWith("-") };
  }
  const isOfAPlace = problem.path.length > 0;
  const lineNumber = isOfAPlace ? source.lineOf(problem.path, problem.isKey === true) : undefined;
  if (source.file === undefined) return { line: setting, lineNumber, isFlag: false };
  const place = lineNumber === undefined ? source.file : `${source.file}:${lineNumber}`;
  return { line: `${place}: ${setting}`, lineNumber, isFlag: false };
}

function originOf(path: readonly PropertyKey[], layered: Overlay): string | undefined {
  const fitting = layered.origins.filter((origin) =>
    origin.path.every((step, index) => path[index] === step),
  );
  return fitting.sort((a, b) => b.path.length - a.path.length)[0]?.origin;
}

/** Of a setting that is missing and has an option of its own: the option beside it that asks for it (--tls-cert for --tls-key). */
function askingOption(path: readonly PropertyKey[], layered: Overlay): string | undefined {
  if (optionOf(path) === undefined || layered.get(path) !== undefined) return undefined;
  const section = path.slice(0, -1);
  const beside = layered.origins.find((said) => isSamePath(said.path.slice(0, -1), section));
  return beside?.origin.startsWith("--") === true ? beside.origin : undefined;
}

// -------------------------------------------------------------------------------------------------------- the file

function openFile(file: string): Source {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`${file}: can't be read: ${(error as Error).message}`]);
  }
  // What a full disk or a copy that was broken off leaves: nobody means it, and it would lift every rule and filter.
  if (text.trim() === "") {
    throw new ConfigError([
      `${file}: is empty; should hold settings, or a comment where every default is meant`,
    ]);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    merge: true,
    logLevel: "error",
  });
  const mistakes = [...document.errors.map(syntaxMistake), ...unknownAnchors(document)];
  if (mistakes.length > 0) {
    throw new ConfigError(mistakes.map((one) => `${file}:${lines.linePos(one.offset).line}: ${one.text}`));
  }
  const value: unknown = plainValue(document, file);
  if (value !== null && (typeof value !== "object" || Array.isArray(value))) {
    throw new ConfigError([`${file}:1: should hold keys and values at its top level`]);
  }
  const lineOf = (path: readonly PropertyKey[], isKey: boolean): number | undefined => {
    const offset = offsetOf(document, path, isKey);
    return offset === undefined ? undefined : lines.linePos(offset).line;
  };
  return { file, document: (value ?? {}) as Record<string, unknown>, lineOf };
}

interface Mistake {
  readonly offset: number;
  readonly text: string;
}

function syntaxMistake({ code, message, pos }: YAMLParseError): Mistake {
  const text = code === "MULTIPLE_DOCS" ? "a second document (---) begins here; should be one" : message;
  return { offset: pos[0], text };
}

/** Most often a pattern without its quotes: `*.example.com`. */
function unknownAnchors(document: Document): Mistake[] {
  const found: Mistake[] = [];
  visit(document, {
    Alias: (_key, alias) => {
      if (alias.resolve(document) !== undefined) return;
      const text = `*${alias.source} has to be in quotes; without them YAML looks for an anchor of that name, and there is none`;
      found.push({ offset: alias.range?.[0] ?? 0, text });
    },
  });
  return found;
}

function plainValue(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw new ConfigError([`${file}: ${(error as Error).message}`]);
  }
}

/** Where the key or value at `path` begins; where it isn't in the file, its nearest parent. */
function offsetOf(document: Document, path: readonly PropertyKey[], isKey: boolean): number | undefined {
  let node: unknown = document.contents;
  let offset: number | undefined = (node as Node | null)?.range?.[0];
  for (const [index, step] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => keyText(item) === step);
      if (pair === undefined) return offset;
      const isLast = index === path.length - 1;
      const value = pair.value as Node | null;
      const place = isLast && isKey ? pair.key : (value ?? pair.key);
      // A section or list of its own lines begins below its key: the key is what a person looks for.
      const opensBelow = isMap(value) || isSeq(value);
      offset = ((opensBelow ? pair.key : place) as Node).range?.[0] ?? offset;
      node = value;
    } else if (isSeq(node)) {
      node = node.items[step as number];
      offset = (node as Node | undefined)?.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

function keyText(pair: Pair): unknown {
  const key = pair.key as { readonly value?: unknown } | string;
  return typeof key === "string" ? key : String(key.value);
}
