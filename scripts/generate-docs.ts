/**
 * Writes what is made from the program's declarations: docs/configuration.md, docs/command-line.md, docs/warp.1 and the
 * completions below packaging/completion/. `--check`: writes nothing, says what isn't fresh and exits with 1.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { completionText, everySpec } from "../src/cli/completion.ts";
import { commandReference, manPage } from "../src/cli/manual.ts";
import { version } from "../src/cli/version.ts";
import { configurationPage } from "../src/config/reference-page.ts";
import { replyClassesPage } from "../src/deliverability/reply-classes-page.ts";

/** Path in the project → content. */
export async function generatedDocs(): Promise<ReadonlyMap<string, string>> {
  const specs = await everySpec();
  return new Map([
    ["docs/configuration.md", configurationPage()],
    ["docs/command-line.md", commandReference(specs)],
    ["docs/reply-classes.md", replyClassesPage()],
    ["docs/warp.1", manPage(specs, version().version)],
    ["packaging/completion/warp.bash", completionText("bash", specs)],
    ["packaging/completion/_warp", completionText("zsh", specs)],
    ["packaging/completion/warp.fish", completionText("fish", specs)],
  ]);
}

const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Paths whose content isn't what would be made now. */
export async function staleDocs(): Promise<readonly string[]> {
  const stale: string[] = [];
  for (const [path, text] of await generatedDocs()) if (contentOf(path) !== text) stale.push(path);
  return stale;
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(join(ROOT, path), "utf8");
  } catch {
    return undefined;
  }
}

async function main(): Promise<void> {
  const stale = await staleDocs();
  if (process.argv.includes("--check")) {
    for (const path of stale) console.log(`${path} is not fresh; npm run generate writes it`);
    process.exitCode = stale.length === 0 ? 0 : 1;
    return;
  }
  const docs = await generatedDocs();
  for (const path of stale) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true });
    writeFileSync(join(ROOT, path), docs.get(path)!);
    console.log(`${path} written`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
