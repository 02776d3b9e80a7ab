import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), "utf8");
const stages = read("Dockerfile")
  .split(/^FROM /m)
  .slice(1);

describe("the image", () => {
  it("is built in one stage and runs in another, as a user without root", () => {
    assert.equal(stages.length, 2);
    assert.match(stages[1]!, /^USER (?!root|0)\w+$/m);
    assert.doesNotMatch(stages[1]!, /g\+\+|npm ci/);
  });

  it("copies only what is there and what .dockerignore lets through", () => {
    const allowed = new Set(
      read(".dockerignore")
        .split("\n")
        .filter((line) => line.startsWith("!"))
        .map((line) => line.slice(1)),
    );
    const copies = [...read("Dockerfile").matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, list]) =>
      list!.split(" "),
    );
    assert.ok(copies.length > 5);
    for (const path of copies) {
      assert.ok(existsSync(new URL(path, root)), path);
      assert.ok(allowed.has(path), `${path} is kept out by .dockerignore`);
    }
  });

  it("takes from the build only what the build makes", () => {
    const made = [...stages[1]!.matchAll(/^COPY --from=build \/build\/(\S+) /gm)].map(([, path]) => path!);
    assert.deepEqual(made.sort(), ["build", "dist", "node_modules", "package.json", "proto"]);
  });

  it("runs a Node that the program takes", () => {
    const { engines } = JSON.parse(read("package.json")) as { engines: { node: string } };
    const lowest = Number(/\d+/.exec(engines.node)![0]);
    for (const stage of stages) assert.ok(Number(/^node:(\d+)/.exec(stage)![1]) >= lowest);
  });
});
