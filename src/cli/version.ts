/** `warp version` and `--version`: version and commit, on stderr as the original prints it. */
import { readFileSync } from "node:fs";
import { type CommandSpec, runCommand } from "./options.ts";

export const spec: CommandSpec = {
  name: "version",
  summary: "Print version and commit on stderr",
  options: [{ name: "json", help: "One JSON object on stdout" }],
};

export interface Version {
  readonly version: string;
  /** Short hash; "unknown" where neither the build nor a checkout says it. */
  readonly commit: string;
  readonly node: string;
}

export async function versionCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, (options) => {
    if (options.flag("json")) process.stdout.write(`${JSON.stringify(version())}\n`);
    else process.stderr.write(`${versionText()}\n`);
    return 0;
  });
}

/** "warp version 0.1.0, build 1a2b3c4". */
export function versionText(): string {
  const { version: number, commit } = version();
  return `warp version ${number}, build ${commit}`;
}

/** The folder of package.json is two above this module, in the sources and in dist alike. */
const ROOT = new URL("../../", import.meta.url);

export function version(): Version {
  const { version: number } = JSON.parse(readFileSync(new URL("package.json", ROOT), "utf8")) as {
    version: string;
  };
  return {
    version: number,
    commit: (builtCommit() ?? checkedOutCommit() ?? "unknown").slice(0, 7),
    node: process.versions.node,
  };
}

/** What a package or image says, which has no `.git`. */
function builtCommit(): string | undefined {
  return process.env.WARP_COMMIT ?? readText("dist/COMMIT") ?? undefined;
}
function checkedOutCommit(): string | undefined {
  const head = readText(".git/HEAD");
  const reference = /^ref: (\S+)$/.exec(head ?? "")?.[1];
  if (reference === undefined) return head;
  const packed = readText(".git/packed-refs")
    ?.split("\n")
    .find((line) => line.endsWith(` ${reference}`));
  return readText(`.git/${reference}`) ?? packed?.split(" ")[0];
}
function readText(path: string): string | undefined {
  try {
    return readFileSync(new URL(path, ROOT), "utf8").trim();
  } catch {
    return undefined;
  }
}
