/** Nobody reads the log: the process ends all the same, in seconds, whatever its stderr is. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const observation = fileURLToPath(new URL("../../../../src/cli/proxy/observation.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "warp-blocked-"));
after(() => rmSync(folder, { recursive: true }));

/** Its exit status, or the signal that ended it. `stderr`: what it is given as such, and nobody reads. */
async function end(stderr: "pipe" | number, by: string): Promise<number | string | null> {
  const program = `
    import { spawnSync } from "node:child_process";
    import { endOnDefect, observe } from ${JSON.stringify(observation)};
    const observation = observe({ log: { level: "info", format: "json", verbose: false } }, "1", undefined);
    endOnDefect(observation);
    process.on("SIGTERM", () => {});
    // As with workers: libuv makes what a child gets as its stderr a blocking one, for both.
    spawnSync("true", { stdio: "inherit" });
    for (let i = 0; i < 1000; i++) observation.log.write("info", "x", "y".repeat(1000));
    setInterval(() => {}, 1000);
    setTimeout(() => { ${by} }, 1500);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
    stdio: ["ignore", "ignore", stderr],
  });
  const late = setTimeout(() => child.kill("SIGKILL"), 15_000);
  const [status, signal] = (await once(child, "exit")) as [number | null, string | null];
  clearTimeout(late);
  assert.equal(child.killed, false, "it hangs");
  child.stderr?.destroy();
  return status ?? signal;
}

describe("a log that nobody reads", { concurrency: true, timeout: 60_000 }, () => {
  for (const [what, by, status, signal] of [
    ["that is done", "observation.flush().then(() => process.exit(0))", 0, "SIGTERM"],
    ["with a defect", 'throw new Error("a bug")', 70, "SIGKILL"],
  ] as const) {
    it(`does not hold up a process ${what}, with a pipe as its stderr`, async () => {
      const path = join(folder, String(status));
      execFileSync("mkfifo", [path]);
      const fd = openSync(path, constants.O_RDWR);
      assert.equal(await end(fd, by), status);
      closeSync(fd);
    });
    // What node:child_process calls a pipe is one, and so is what systemd gives.
    it(`does not hold up a process ${what}, with a socket as its stderr`, async () => {
      assert.equal(await end("pipe", by), signal);
    });
  }
});
