import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { COMMANDS } from "../../../src/cli/commands.ts";
import { completionText, everySpec } from "../../../src/cli/completion.ts";
import { helpText, visibleOptions } from "../../../src/cli/options.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-completion-"));
after(() => rmSync(folder, { recursive: true }));
const specs = await everySpec();

function missing(program: string): string | false {
  if (process.env.CI === "true" || spawnSync(program, ["--version"]).error === undefined) return false;
  return `${program} is missing`;
}
/** What bash offers for the last word. */
function offered(...words: string[]): string[] {
  const file = join(folder, "warp.bash");
  writeFileSync(file, completionText("bash", specs));
  const script = `source '${file}'; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _warp; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const run = spawnSync("bash", ["--norc", "-c", script, "bash", ...words], {
    encoding: "utf8",
    cwd: folder,
  });
  assert.equal(run.stderr, "");
  return run.stdout.split("\n").filter((line) => line !== "");
}

describe("every command", () => {
  it("is there, with its declaration", async () => {
    for (const { name, load } of COMMANDS) {
      const { specs: own } = await load();
      assert.ok(own.length > 0, name);
      assert.ok(
        own.every((spec) => spec.name.split(" ")[0] === name),
        name,
      );
    }
  });

  it("says a summary and helps without a full stop too many, in lines that fit", () => {
    for (const spec of specs) {
      assert.doesNotMatch(spec.summary, /\.$/, spec.name);
      for (const option of visibleOptions(spec))
        assert.doesNotMatch(option.help, /\.$/, `${spec.name} --${option.name}`);
      for (const line of helpText(spec).split("\n")) {
        if (!line.startsWith("  ")) assert.ok(line.length <= 120, `${spec.name}: ${line}`);
      }
    }
  });

  it("declares no option twice", () => {
    for (const spec of specs) {
      const names = spec.options.map(({ name }) => name);
      assert.equal(new Set(names).size, names.length, spec.name);
    }
  });
});

describe("the completion for bash", { skip: missing("bash") }, () => {
  const cases: [words: string[], expected: string[]][] = [
    [["warp", "ru"], ["rules"]],
    [
      ["warp", "hook"],
      ["hook", "hook-check", "hook-send"],
    ],
    [["warp", "--outb"], ["--outbound-ip"]],
    [
      ["warp", "--mode", ""],
      ["redirect", "tproxy", "fixed"],
    ],
    [["warp", "--port", ""], []],
    [["warp", "rules", "--app"], ["--apply"]],
    [
      ["warp", "reputation", "s"],
      ["show", "set"],
    ],
    [
      ["warp", "completion", ""],
      ["--help", "bash", "zsh", "fish"],
    ],
  ];
  for (const [words, expected] of cases) {
    it(`offers ${expected.join(" ") || "nothing"} for ${words.join(" ")}`, () =>
      assert.deepEqual(offered(...words), expected));
  }

  it("offers files where a file is asked for", () => {
    writeFileSync(join(folder, "my.yaml"), "");
    assert.deepEqual(offered("warp", "--config", "my"), ["my.yaml"]);
    assert.deepEqual(offered("warp", "check-config", "my"), ["my.yaml"]);
  });
});

describe("the completions for zsh and fish", () => {
  it("are what zsh takes", { skip: missing("zsh") }, () => {
    const file = join(folder, "_warp");
    writeFileSync(file, completionText("zsh", specs));
    assert.equal(spawnSync("zsh", ["-n", file], { encoding: "utf8" }).stderr, "");
  });
  it("are what fish takes", { skip: missing("fish") }, () => {
    const file = join(folder, "warp.fish");
    writeFileSync(file, completionText("fish", specs));
    assert.equal(spawnSync("fish", ["--no-execute", file], { encoding: "utf8" }).stderr, "");
  });
  it("name every command and every option", () => {
    for (const shell of ["zsh", "fish"] as const) {
      const text = completionText(shell, specs);
      for (const { name } of COMMANDS) assert.ok(text.includes(name), `${shell}: ${name}`);
      for (const option of specs.flatMap(visibleOptions)) {
        assert.ok(
          text.includes(shell === "zsh" ? `--${option.name}[` : `-l ${option.name} `),
          `${shell}: ${option.name}`,
        );
      }
    }
  });
});
