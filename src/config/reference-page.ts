/** `docs/configuration.md`: every key with its kind, default and meaning, from the schema. */
import { configReference, type KeyReference } from "./reference.ts";

const INTRODUCTION = `# Configuration

Made from the schema (\`npm run generate\`). \`warp --config FILE\` reads it, \`warp check-config FILE\` says what is wrong with
it. It is YAML; unknown keys are errors. What a flag of the command line says wins over the file, the file over the environment.

- **Durations** carry a unit: \`250ms\`, \`10s\`, \`1m30s\`, \`1h\`, \`1d\`. **Sizes** may: \`10240000\`, \`16KiB\`, \`2GiB\`, \`1MB\`.
- **Networks** are \`10.0.0.0/8\`, \`2001:db8::/32\` or one address. **Globs** take \`*\` and \`?\`, without case; one that begins
  with \`*\` is quoted. Of domains \`"*.example.com"\` is what lies below \`example.com\`, without it; a leading dot and \`@\` are refused.
- Where a **list** is asked for, one value may stand for a list of one.
- A key without a value is a key that isn't there; unknown ones are errors all the same. An empty file is one too.
- Limits, budgets and caps are for the whole proxy, however many workers it has.
`;

export function configurationPage(): string {
  const top = configReference();
  const plain = top.filter((key) => key.children.length === 0);
  const sections = top.filter((key) => key.children.length > 0);
  const parts = [INTRODUCTION, "## Top level", table(plain, "")];
  for (const section of sections) {
    parts.push(`## ${section.key}`, headline(section), ...tables(section.children, prefixOf("", section)));
  }
  return `${parts.join("\n\n").replace(/\n{3,}/g, "\n\n")}\n`;
}

/** One table for a level, and one more for each level below. */
function tables(level: readonly KeyReference[], prefix: string): string[] {
  if (level.length === 1 && level[0]!.key === "NAME") return tables(level[0]!.children, `${prefix}.NAME`);
  const below = level.filter((key) => key.children.length > 0);
  return [table(level, prefix), ...below.flatMap((key) => tables(key.children, prefixOf(prefix, key)))];
}

function prefixOf(prefix: string, key: KeyReference): string {
  const path = prefix === "" ? key.key : `${prefix}.${key.key}`;
  return key.isList ? `${path}[]` : path;
}

function headline(section: KeyReference): string {
  const shape = section.isList
    ? "A list of sections. "
    : section.isMap
      ? "A map: names of your choice to sections. "
      : "";
  const value = section.default;
  const isPlain = value === undefined || JSON.stringify(value) === "{}" || JSON.stringify(value) === "[]";
  return `${shape}${section.description}${isPlain ? "" : ` Default: ${defaultText(value)}.`}`;
}

function table(keys: readonly KeyReference[], prefix: string): string {
  const rows = keys.map((key) => {
    const name = prefix === "" ? key.key : `${prefix}.${key.key}`;
    const cells = [
      `\`${name}\``,
      kindText(key),
      key.required ? "required" : defaultText(key.default),
      key.description,
    ];
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  });
  return ["| key | value | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function kindText(key: KeyReference): string {
  if (key.isMap) return "map";
  if (key.children.length === 0) return key.kind;
  return key.isList ? "list of sections" : "section";
}

function defaultText(value: unknown): string {
  if (value === undefined) return "–";
  const text = JSON.stringify(value);
  if (text === "{}" || text === "[]") return "–";
  return `\`${typeof value === "string" ? value : text.replaceAll('"', "").replaceAll(",", ", ").replaceAll(":{", ": {")}\``;
}
