/** docs/reply-classes.md, made from the table: classes and their meaning, then every rule in the order they are asked. */
import {
  BASIC_RULES,
  CLASS_MEANINGS,
  ENHANCED_RULES,
  GENERIC_RULES,
  PROVIDER_RULES,
  REPLY_CLASSES,
  type TextRule,
} from "./reply-classes.ts";

/** The whole page; ends with a newline. */
export function replyClassesPage(): string {
  return `${[
    "# Classes of replies",
    "",
    "What warp makes of a destination's answer. The class is in the events and the log of each recipient, in `warp_replies_total`, and",
    'decides what [reputation](reputation.md) counts. `warp classify "REPLY"` says it of a reply. This page is made from the table in the',
    "program (`npm run generate`).",
    "",
    "Asked in this order, the first rule that matches decides: the wordings of the destination's own provider, every other wording, the",
    "enhanced code, the basic code. Wordings are regular expressions over the reply's text without its codes, its lines joined by blanks, case aside.",
    "",
    ...table(
      ["class", "meaning"],
      REPLY_CLASSES.map((name) => [name, CLASS_MEANINGS[name]]),
    ),
    "",
    "## Wordings of providers and products",
    "",
    ...textRules(PROVIDER_RULES),
    "",
    "## Wordings that many share",
    "",
    ...textRules(GENERIC_RULES),
    "",
    "## Enhanced codes",
    "",
    "RFC 3463, RFC 7372, RFC 7505, and the IANA registry of SMTP enhanced status codes. `*` is any number.",
    "",
    ...table(
      ["code", "class", "meaning"],
      ENHANCED_RULES.map((rule) => [code(rule.code), rule.class, rule.detail]),
    ),
    "",
    "## Basic codes",
    "",
    "RFC 5321 §4.2. `*` is any digit.",
    "",
    ...table(
      ["code", "class", "meaning"],
      BASIC_RULES.map((rule) => [code(rule.code), rule.class, rule.detail]),
    ),
  ].join("\n")}\n`;
}

function textRules(rules: readonly TextRule[]): readonly string[] {
  return table(
    ["rule", "provider", "for", "class", "meaning", "wording", "source"],
    rules.map((rule) => [
      rule.id,
      rule.provider ?? "any",
      rule.codes === undefined ? "4xx, 5xx" : `${rule.codes}xx`,
      rule.class,
      rule.detail,
      code(rule.pattern.source),
      rule.source,
    ]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---").join("|")}|`, ...rows.map(line)];
}

/** A bar would end the cell, also inside of code. */
function code(text: string): string {
  return `\`${text.replaceAll("|", "\\|")}\``;
}
