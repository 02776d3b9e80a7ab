import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { buildDeb } from "../../scripts/build-deb.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const hasDpkg = spawnSync("dpkg-deb", ["--version"]).status === 0;
const skip = hasDpkg || process.env.CI === "true" ? false : "dpkg-deb is missing";

const folder = mkdtempSync(join(tmpdir(), "warp-deb-test-"));
after(() => rmSync(folder, { recursive: true }));

function run(command: string, ...argv: string[]) {
  return spawnSync(command, argv, { encoding: "utf8", cwd: root, maxBuffer: 64 * 1024 * 1024 });
}

describe("the Debian package", { skip }, () => {
  const tree = join(folder, "tree");
  let file = "";
  before(() => {
    const built = run(process.execPath, join(root, "scripts/build.mjs"));
    assert.equal(built.status, 0, built.stdout + built.stderr);
    file = buildDeb(folder, 1);
    assert.equal(run("dpkg-deb", "-x", file, tree).status, 0);
  });

  /** The program of the package, with its own Node where it brings one. */
  function warp(...argv: string[]) {
    const [, program = ""] = /exec (\S+) /.exec(readFileSync(join(tree, "usr/bin/warp"), "utf8")) ?? [];
    const node = program.startsWith("/") ? join(tree, program) : process.execPath;
    return run(node, join(tree, "usr/lib/warp/dist/cli/main.js"), ...argv);
  }

  it("holds a program that runs by itself, and says the commit that it was built from", () => {
    assert.match(warp("--version").stderr, /^warp version \d+\.\d+\.\d+, build (?:[0-9a-f]{7}|unknown)\n$/);
  });

  it("holds every module that its commands need", () => {
    for (const command of [
      "rules",
      "hook",
      "hook-check",
      "hook-send",
      "log",
      "reputation",
      "egress",
      "classify",
      "completion",
    ]) {
      const { status, stderr } = warp(command, "--help");
      assert.deepEqual([status, stderr], [0, ""], command);
    }
  });

  it("holds a native addon that loads", () => {
    const { stdout, stderr } = warp("rules", "--mode", "redirect");
    assert.match(stdout, /table inet warp/, stderr);
  });

  it("brings a configuration that is right once its directories are there", () => {
    const state = join(folder, "state");
    mkdirSync(state);
    const yaml = readFileSync(join(tree, "etc/warp/warp.yaml"), "utf8").replaceAll("/var/lib/warp", state);
    const config = join(folder, "warp.yaml");
    writeFileSync(config, yaml);
    const { status, stderr } = warp("check-config", config);
    assert.equal(status, 0, stderr);
  });

  it("holds nothing that only building and testing need", () => {
    const contents = run("dpkg-deb", "--contents", file).stdout;
    for (const name of ["typescript", "@biomejs", "fast-check", "node-gyp", "nodemailer", "include/node"]) {
      assert.doesNotMatch(contents, new RegExp(`node_modules/(?:[^/]+/)?${name}/`), name);
    }
    assert.match(contents, / root.root /);
    assert.doesNotMatch(contents, /^[dl-][rwx-]{7}w/m, "something is writable by everybody");
  });

  it("has scripts that sh takes", () => {
    const control = join(folder, "control");
    assert.equal(run("dpkg-deb", "-e", file, control).status, 0);
    for (const script of ["postinst", "prerm", "postrm"])
      assert.equal(run("sh", "-n", join(control, script)).stderr, "");
    assert.equal(readFileSync(join(control, "conffiles"), "utf8"), "/etc/warp/warp.yaml\n");
  });
});
