/** `npm run demo` shows what it says it shows, ends by itself, and leaves nothing behind. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const demo = fileURLToPath(new URL("../../../scripts/demo.ts", import.meta.url));
const capture =
  process.getuid?.() === 0 &&
  ["ip", "nft"].every((name) => spawnSync(name, ["-V"], { stdio: "ignore" }).error === undefined);

function run(...flags: string[]): string {
  const done = spawnSync(process.execPath, [demo, ...flags], { encoding: "utf8", timeout: 60_000 });
  assert.equal(done.status, 0, done.stdout + done.stderr);
  assert.match(done.stdout, /tls connected TLSv1\.3/);
  assert.match(done.stdout, /"The minutes of yesterday" took \d+ ms; the client was told: 250/);
  assert.match(done.stdout, /It arrived over TLSv1\.3/);
  assert.match(done.stdout, /"You have won the lottery" took \d+ ms; the client was told: 550 5\.7\.1/);
  return done.stdout;
}

describe("demo", { timeout: 120_000 }, () => {
  it("relays to one destination where nothing can be captured", () => {
    assert.match(run("--loopback"), /Without capture/);
  });

  it("captures in a network of its own", { skip: capture ? false : "needs root, ip and nft" }, () => {
    assert.match(run(), /connected from 192\.0\.2\.1:/);
    assert.doesNotMatch(spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout, /warp-demo-/);
  });
});
