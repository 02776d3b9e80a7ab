/**
 * The layers of the code: a module imports only from its own layer or a lower one, types included. Hook servers and the
 * SDK know the protocol only. A folder that no layer names is an error, so that a new one gets its place.
 */

import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));

const layers: Readonly<Record<string, number>> = {
  events: 0,
  smtp: 0,
  dialogue: 1,
  filter: 2,
  reputation: 2,
  egress: 2,
  deliverability: 2,
  net: 3,
  hooks: 3,
  stores: 3,
  session: 4,
  config: 5,
  telemetry: 5,
  cli: 5,
};
/** Below everything; generated, or apart from the proxy. */
const apart: Readonly<Record<string, readonly string[]>> = {
  gen: ["gen"],
  sdk: ["gen", "sdk", "hookservers"],
  hookservers: ["gen", "sdk", "hookservers"],
};
/** What the proxy may use of those: hooks speak the generated protocol, commands start servers. */
const outward: Readonly<Record<string, readonly string[]>> = {
  gen: ["hooks", "cli"],
  sdk: ["hooks", "cli"],
  hookservers: ["cli"],
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly file: string;
}

/** "src/net/dial.ts" → "net"; a file of src/ itself is a mistake. */
function folderOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const specifiers = [
    ...text.matchAll(/(?:^|\n)\s*(?:import|export)\b[^"';]*?\bfrom\s*["']([^"']+)["']/g),
    ...text.matchAll(/\bimport\s*\(\s*["'`]([^"'`]+)["'`]/g),
    ...text.matchAll(/(?:^|\n)\s*import\s*["']([^"']+)["']/g),
  ].map((match) => match[1]!);
  return specifiers
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => {
      const to = posix.normalize(posix.join(dirname(file), specifier));
      return { file, from: folderOf(file), to: to.startsWith("src/") ? folderOf(to) : to };
    });
}

function problemOf({ file, from, to }: Import): string | undefined {
  const allowedApart = apart[from];
  if (allowedApart !== undefined) {
    return allowedApart.includes(to)
      ? undefined
      : `${file}: ${from} is apart from the proxy and imports ${to}`;
  }
  const layer = layers[from];
  if (layer === undefined) return `${file}: no layer names the folder ${from}`;
  if (apart[to] !== undefined) {
    return outward[to]?.includes(from) ? undefined : `${file}: ${from} imports ${to}`;
  }
  const other = layers[to];
  if (other === undefined) return `${file}: imports ${to}, which no layer names`;
  return other > layer ? `${file}: layer ${layer} (${from}) imports layer ${other} (${to})` : undefined;
}

describe("layers", () => {
  const files = globSync("src/**/*.ts", { cwd: root }).sort();

  it("finds the sources and their imports, types included", () => {
    assert.ok(files.length > 10);
    const found = importsOf("src/net/rules-nft.ts");
    assert.deepEqual(found, [{ file: "src/net/rules-nft.ts", from: "net", to: "net" }]);
  });

  it("sees an import that goes up", () => {
    assert.match(problemOf({ file: "x", from: "smtp", to: "net" }) ?? "", /layer 0 \(smtp\) imports layer 3/);
    assert.match(problemOf({ file: "x", from: "hookservers", to: "net" }) ?? "", /apart from the proxy/);
    assert.match(problemOf({ file: "x", from: "smtp", to: "gen" }) ?? "", /smtp imports gen/);
    assert.equal(problemOf({ file: "x", from: "net", to: "smtp" }), undefined);
  });

  it("are kept by every module", () => {
    const problems = files
      .flatMap(importsOf)
      .map(problemOf)
      .filter((problem) => problem !== undefined);
    assert.deepEqual(problems, []);
  });

  it("below the adapters use no sockets, files, processes or clock", () => {
    const pure = files.filter((file) => (layers[folderOf(file)] ?? 9) < 3);
    const forbidden =
      /["']node:(?:net|tls|fs|fs\/promises|child_process|dgram|http|https|dns|dns\/promises|cluster|worker_threads|timers|timers\/promises|os)["']|\b(?:Date\.now|performance\.now|Math\.random|setTimeout|setInterval|setImmediate|process\.env|new Date\(\))\b/;
    const problems = pure.flatMap((file) => {
      const code = readFileSync(join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      const found = forbidden.exec(code)?.[0];
      return found === undefined ? [] : [`${file}: ${found}`];
    });
    assert.deepEqual(problems, []);
  });
});
