import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { generatedDocs, staleDocs } from "../../../scripts/generate-docs.ts";
import { configReference, everyKey, type KeyReference } from "../../../src/config/reference.ts";

const hasGroff = spawnSync("groff", ["--version"]).error === undefined;

function everyReference(level: readonly KeyReference[]): KeyReference[] {
  return level.flatMap((key) => [key, ...everyReference(key.children)]);
}

describe("the pages made from declarations", () => {
  it("are fresh (npm run generate writes them)", async () => assert.deepEqual(await staleDocs(), []));

  it("say the meaning of every key of the configuration", () => {
    for (const key of everyReference(configReference())) {
      if (key.key !== "NAME") assert.ok(key.description.length > 10, key.key);
    }
  });

  it("name every key of the configuration", async () => {
    const page = (await generatedDocs()).get("docs/configuration.md")!;
    for (const path of everyKey()) {
      const key = path.split(".").at(-1)!;
      if (key !== "NAME") assert.match(page, new RegExp(`(?:\`|\\.|## )${key}(?:\`|\\n)`), path);
    }
  });

  it("are a man page that groff takes without a warning", {
    skip: hasGroff || process.env.CI === "true" ? false : "groff is missing",
  }, () => {
    const file = fileURLToPath(new URL("../../../docs/warp.1", import.meta.url));
    const run = spawnSync("groff", ["-man", "-Tutf8", "-ww", "-z", file], { encoding: "utf8" });
    assert.deepEqual([run.status, run.stderr], [0, ""]);
  });
});

describe("the operator's pages", () => {
  it("link only to pages and headings that are there", () => {
    const pages = ["before-you-redirect.md", "operations.md"];
    const text = (page: string) => readFileSync(new URL(`../../../docs/${page}`, import.meta.url), "utf8");
    for (const page of pages) {
      for (const [, target, anchor] of text(page).matchAll(/\]\(([\w.-]+\.md)(?:#([\w-]+))?\)/g)) {
        const headings = [...text(target!).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => {
          return heading!
            .toLowerCase()
            .replace(/[^\w\s-]/g, "")
            .replace(/\s/g, "-");
        });
        if (anchor !== undefined) assert.ok(headings.includes(anchor), `${page}: ${target}#${anchor}`);
      }
    }
  });
});
