import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "warp-cli-"));
after(() => rmSync(folder, { recursive: true }));

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
function warp(...argv: string[]): Run {
  const { PATH = "", HOME = "" } = process.env;
  return spawnSync(process.execPath, [MAIN, ...argv], { encoding: "utf8", env: { PATH, HOME } });
}
function fileOf(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

describe("warp", () => {
  it("prints version and commit on stderr, as the original does", () => {
    const { version } = JSON.parse(
      readFileSync(new URL("../../../package.json", import.meta.url), "utf8"),
    ) as { version: string };
    for (const argv of [["-version"], ["--version"], ["version"]]) {
      const run = warp(...argv);
      assert.deepEqual([run.status, run.stdout], [0, ""]);
      assert.match(
        run.stderr,
        new RegExp(`^warp version ${version.replaceAll(".", "\\.")}, build ([0-9a-f]{7}|unknown)\n$`),
      );
    }
  });

  it("shows its help with every option and command on stdout", () => {
    for (const argv of [["--help"], ["-h"], ["help"]]) {
      const run = warp(...argv);
      assert.deepEqual([run.status, run.stderr], [0, ""]);
      assert.match(run.stdout, /--outbound-ip ADDRESS[\s\S]*Commands[\s\S]*check-config/);
    }
  });

  it("shows a command's help both ways", () => {
    const direct = warp("check-config", "--help");
    assert.equal(direct.status, 0);
    assert.equal(warp("help", "check-config").stdout, direct.stdout);
  });

  const needsFull = existsSync("/dev/full") ? false : "there is no /dev/full";
  it("fails where a full disk does not take its output", { skip: needsFull }, () => {
    const run = spawnSync(process.execPath, [MAIN, "version", "--json"], {
      encoding: "utf8",
      stdio: ["ignore", openSync("/dev/full", "w"), "pipe"],
    });
    assert.deepEqual([run.status, run.stderr], [1, "warp: stdout: ENOSPC: no space left on device, write\n"]);
  });

  it("serves without its stdout, and opens no debugger for SIGUSR1", { skip: needsFull }, async () => {
    const flags = ["--ip", "127.0.0.1", "--port", "0", "--destination", "127.0.0.1:1", "--workers", "2"];
    const child = spawn(process.execPath, [MAIN, ...flags], {
      stdio: ["ignore", openSync("/dev/full", "w"), "pipe"],
    });
    const stderr = child.stderr as NonNullable<typeof child.stderr>;
    let log = "";
    const listens = new Promise<void>((resolve) =>
      stderr.setEncoding("utf8").on("data", (text) => {
        log += text;
        if (/"listening"/.test(log)) resolve();
      }),
    );
    const ended = once(child, "close");
    await Promise.race([listens, ended]);
    const workers = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ");
    assert.equal(workers.length, 2, log);
    for (const pid of [child.pid as number, ...workers.map(Number)]) process.kill(pid, "SIGUSR1");
    await pause(300);
    child.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
    assert.doesNotMatch(log, /Debugger|defect/);
  });

  const wrong: [argv: string[], message: RegExp][] = [
    [["--verson"], /^warp: --verson is no option of warp; the nearest is --version\n/],
    [["rulez"], /^warp: "rulez" is no command; the nearest is rules\n/],
    [["-port", "http"], /^warp: --port was "http", should be a whole number from 0 to 65535\n/],
    [["--metrics", "x"], /^warp: --metrics: metrics\.listen was "x"/],
    [["check-config"], /^warp check-config: FILE is missing/],
    [["check-config", "a", "b"], /"b" is one operand too many/],
    [["--verbose", "false"], /"false" is one operand too many/],
  ];
  for (const [argv, message] of wrong) {
    it(`exits with 2 and names the mistake: ${argv.join(" ")}`, () => {
      const run = warp(...argv);
      assert.match(run.stderr, message);
      assert.deepEqual([run.status, run.stdout], [2, ""]);
    });
  }

  it("exits with 1 where the file is wrong, and says every mistake with its line", () => {
    const file = fileOf("wrong.yaml", "workers: 0\nlisten: nowhere\n");
    const run = warp("--config", file);
    assert.equal(run.status, 1);
    assert.match(
      run.stderr,
      new RegExp(`^warp: ${file}:1: workers was 0.*\nwarp: ${file}:2: listen was "nowhere".*\n$`),
    );
  });

  it("ends quietly when the reader of its output has gone", async () => {
    const child = spawn(process.execPath, [MAIN, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const status = await new Promise((resolve) => child.once("close", resolve));
    assert.deepEqual([status, stderr], [0, ""]);
  });
});

describe("warp check-config", () => {
  it("says that a file is right", () => {
    const file = fileOf("right.yaml", "workers: 2\n");
    const run = warp("check-config", file);
    assert.deepEqual([run.status, run.stdout, run.stderr], [0, `${file} is right\n`, ""]);
  });

  it("prints warnings and still says that it is right", () => {
    const file = fileOf("doubtful.yaml", "clients: 0.0.0.0/0\n");
    const run = warp("check-config", file);
    assert.equal(run.status, 0);
    assert.match(run.stderr, /:1: clients was 0\.0\.0\.0\/0: everybody .* \(warning\)\n$/);
  });

  it("says what is wrong, for people and as JSON", () => {
    const file = fileOf("bad.yaml", "prxy: a\n");
    const run = warp("check-config", file);
    assert.deepEqual([run.status, run.stdout], [1, ""]);
    assert.equal(run.stderr, `${file}:1: prxy is no known key; the nearest is proxy\n`);
    const json = warp("check-config", "--json", file);
    assert.deepEqual(JSON.parse(json.stdout), { ok: false, problems: [run.stderr.trim()], warnings: [] });
    assert.equal(json.status, 1);
  });
});
