import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../src/cli/commands.ts";
import { parseOptions } from "../../../src/cli/options.ts";
import { spec as proxySpec } from "../../../src/cli/proxy-options.ts";

const units = fileURLToPath(new URL("../../../packaging/systemd/", import.meta.url));
const services = readdirSync(units).filter((name) => /\.(?:service|socket)$/.test(name));
const folder = mkdtempSync(join(tmpdir(), "warp-units-"));
after(() => rmSync(folder, { recursive: true }));

const hasAnalyze = spawnSync("systemd-analyze", ["--version"]).status === 0;
const needsAnalyze = hasAnalyze || process.env.CI === "true" ? false : "systemd-analyze is missing";

/** The units with a program that is there in place of /usr/bin/warp. */
function installed(): string[] {
  mkdirSync(join(folder, "bin"), { recursive: true });
  const program = join(folder, "bin", "warp");
  writeFileSync(program, "#!/bin/sh\n");
  chmodSync(program, 0o755);
  return services.map((name) => {
    const text = readFileSync(join(units, name), "utf8");
    const file = join(folder, name.replace("@.", "@sqlite."));
    writeFileSync(file, text.replaceAll("/usr/bin/warp", program).replace(/^Documentation=.*$/m, ""));
    return file;
  });
}

/** Every command line that a unit runs or proposes, without prefix and program. */
function commandLines(): [unit: string, argv: string[]][] {
  return services.flatMap((name) => {
    const text = readFileSync(join(units, name), "utf8");
    return [...text.matchAll(/^#?Exec\w+=\+?\/usr\/bin\/warp (.*)$/gm)].map(
      ([, line]): [string, string[]] => [name, line!.replaceAll("%i", "sqlite").split(" ")],
    );
  });
}

describe("the systemd units", () => {
  it("are what systemd takes", { skip: needsAnalyze }, () => {
    const run = spawnSync("systemd-analyze", ["verify", ...installed()], { encoding: "utf8" });
    const complaints = run.stderr.split("\n").filter((line) => line.includes(folder) || /^warp/.test(line));
    assert.deepEqual(complaints, []);
  });

  it("leave the service little to do harm with", { skip: needsAnalyze }, () => {
    const files = installed().filter((file) => /warp(?:-hook@sqlite)?\.service$/.test(file));
    for (const file of files) {
      const run = spawnSync("systemd-analyze", ["security", "--offline=true", "--threshold=25", file], {
        encoding: "utf8",
      });
      assert.equal(run.status, 0, run.stdout.split("\n").slice(-3).join("\n") + run.stderr);
    }
  });

  it("run warp with options that it has", async () => {
    const lines = commandLines();
    assert.ok(lines.length >= 6, "no command lines were found");
    for (const [, argv] of lines) {
      const command = COMMANDS.find(({ name }) => name === argv[0]);
      if (command === undefined) parseOptions(proxySpec, argv);
      else parseOptions((await command.load()).specs[0]!, argv.slice(1));
    }
  });

  it("never run the proxy as root", () => {
    for (const name of ["warp.service", "warp-hook@.service"]) {
      assert.match(readFileSync(join(units, name), "utf8"), /^User=warp$/m, name);
    }
  });
});
