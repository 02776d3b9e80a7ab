/** The man page and the reference of the command line, from the commands' declarations. */
import { COMMANDS } from "./commands.ts";
import {
  type CommandSpec,
  commandName,
  optionForm,
  optionHelp,
  usageLine,
  visibleOptions,
} from "./options.ts";

/** warp(1), in man(7) macros. */
export function manPage(specs: readonly CommandSpec[], version: string): string {
  const [proxy, ...commands] = specs;
  const lines = [
    `.\\" Made from the program's own declarations; do not edit.`,
    `.TH WARP 1 "" "warp ${version}" "User Commands"`,
    ".SH NAME",
    "warp \\- outbound transparent SMTP proxy with a gRPC hook protocol",
    ".SH SYNOPSIS",
    ".B warp",
    "[\\fIoptions\\fR]",
    ".br",
    ".B warp",
    "\\fICOMMAND\\fR [\\fIoptions\\fR] [\\fIoperands\\fR]",
    ".SH DESCRIPTION",
    roff(`${proxy!.summary}.`),
    ...(proxy!.description ?? []).flatMap((paragraph) => [".PP", roff(paragraph)]),
    ".PP",
    "Options are written with one dash or two, their values as a word of their own or behind an equals sign.",
    ".SH OPTIONS",
    ...optionLines(proxy!),
    ".SH COMMANDS",
    ...commands.flatMap(commandLines),
    ...exitStatusLines(),
    ".SH EXAMPLES",
    ...(proxy!.examples ?? []).flatMap(([command, meaning]) => [".TP", `.B ${roff(command)}`, roff(meaning)]),
    ".SH SEE ALSO",
    "The project's docs/configuration.md, docs/operations.md and docs/before-you-redirect.md.",
  ];
  return `${lines.join("\n")}\n`;
}

function commandLines(spec: CommandSpec): string[] {
  return [
    `.SS ${roff(usageLine(spec))}`,
    roff(`${spec.summary}.`),
    ...(spec.description ?? []).flatMap((paragraph) => [".PP", roff(paragraph)]),
    ...(spec.operands ?? []).flatMap(({ name, help, choices }) => [
      ".TP",
      `.I ${roff(name)}`,
      roff(choices === undefined ? help : `${help} (${choices.join(", ")})`),
    ]),
    ...optionLines(spec),
  ];
}

function optionLines(spec: CommandSpec): string[] {
  return visibleOptions(spec).flatMap((option) => {
    const value = option.value === undefined ? "" : ` \\fI${roff(option.value)}\\fR`;
    return [".TP", `\\fB${roff(`--${option.name}`)}\\fR${value}`, roff(optionHelp(option))];
  });
}

function exitStatusLines(): string[] {
  const statuses = [
    ["0", "Done."],
    ["1", "Failed; stderr says why."],
    ["2", "Wrong usage; stderr names it."],
  ];
  return [".SH EXIT STATUS", ...statuses.flatMap(([status, meaning]) => [".TP", `.B ${status}`, meaning!])];
}

/** Text that troff shows as it stands. */
function roff(text: string): string {
  const ascii = text.replaceAll("\\", "\\e").replaceAll("-", "\\-");
  const escaped = ascii.replace(/[^\x00-\x7f]/gu, (character) => {
    return `\\[u${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

/** The command line in Markdown: `docs/command-line.md`. */
export function commandReference(specs: readonly CommandSpec[]): string {
  const sections = specs.map((spec) => {
    const lines = [`## ${commandName(spec)}`, "", `\`${usageLine(spec)}\``, "", `${spec.summary}.`];
    for (const paragraph of spec.description ?? []) lines.push("", paragraph);
    const operands = (spec.operands ?? []).map(({ name, help, choices }) => {
      return [name, choices === undefined ? help : `${help} (${choices.join(", ")})`] as const;
    });
    const options = visibleOptions(spec).map((option) => [optionForm(option), optionHelp(option)] as const);
    lines.push("", "| | |", "|---|---|");
    for (const [form, help] of [...operands, ...options])
      lines.push(`| \`${form}\` | ${help.replaceAll("|", "\\|")} |`);
    for (const [command, meaning] of spec.examples ?? []) lines.push("", "```", command, "```", meaning);
    return lines.join("\n");
  });
  const list = COMMANDS.map(({ name, summary }) => `- \`warp ${name}\`: ${summary}`).join("\n");
  return [
    "# Command line",
    "Made from the program's own declarations (`npm run generate`); `warp COMMAND --help` says the same. Options are written with one dash or two, with their value as a word of its own or behind `=`; booleans take `=false`. Exit status: 0 done, 1 failed, 2 wrong usage.",
    "`warp` alone runs the proxy. Commands:",
    list,
    ...sections,
    "",
  ]
    .join("\n\n")
    .replace(/\n+$/, "\n");
}
