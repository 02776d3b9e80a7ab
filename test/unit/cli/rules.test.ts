/** `warp rules` as a command: what it prints and how it ends. What it installs is tested in test/netns/. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const skip = process.platform === "linux" ? false : "capture rules are Linux's";

function rules(...args: string[]) {
  const done = spawnSync(process.execPath, [join(root, "src/cli/main.ts"), "rules", ...args], {
    encoding: "utf8",
  });
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}

function withConfig(text: string, ...args: string[]) {
  const folder = mkdtempSync(join(tmpdir(), "warp-rules-"));
  try {
    writeFileSync(join(folder, "warp.yaml"), text);
    return rules("--config", join(folder, "warp.yaml"), ...args);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("warp rules", { skip }, () => {
  it("prints a ruleset for nft from the defaults", () => {
    const { status, stdout } = rules();
    assert.equal(status, 0);
    assert.match(stdout, /^#!\/usr\/sbin\/nft -f\n/);
    assert.match(stdout, /\n\t\tmeta mark 0x00000077 return\n/);
    assert.match(stdout, /\n\t\tmeta nfproto ipv4 tcp dport \{ 25 \} redirect to :10025\n/);
  });

  it("follows the file in mark, ports, listeners and clients", () => {
    const config = `
listen: ["0.0.0.0:2525"]
clients: [self, 10.0.0.0/8]
capture: { mark: 0x10, ports: [25, 465] }
`;
    const { status, stdout } = withConfig(config, "--uid", "990");
    assert.equal(status, 0);
    assert.match(stdout, /\n\t\tmeta mark 0x00000010 return\n\t\tmeta skuid 990 return\n/);
    assert.match(stdout, /\n\t\tip saddr \{ 10\.0\.0\.0\/8 \} tcp dport \{ 25, 465 \} redirect to :2525\n/);
    assert.match(stdout, /# This host's IPv6 mail is not captured: /);
  });

  it("prints a shell script for iptables that a shell can read", () => {
    const { status, stdout } = rules("--iptables");
    assert.equal(status, 0);
    assert.match(stdout, /\n-A WARP_OUTPUT -p tcp -m multiport --dports 25 -j REDIRECT --to-ports 10025\n/);
    assert.equal(spawnSync("sh", ["-n"], { input: stdout }).status, 0);
  });

  it("adds the routes of TPROXY as comments", () => {
    const { status, stdout } = rules("--mode", "tproxy");
    assert.equal(status, 0);
    assert.match(stdout, /\n# {3}ip -4 .* ip -4 rule add fwmark 0x100\/0x100 lookup 2525\n/);
  });

  it("exits with 1 and says why where the listeners can't receive what it should capture", () => {
    const { status, stdout, stderr } = rules("--client", "10.0.0.0/8");
    assert.equal(status, 1);
    assert.equal(stdout, "");
    assert.match(
      stderr,
      /^warp rules: no listener .* can receive the IPv4 connections of clients 10\.0\.0\.0\/8/,
    );
  });

  it("exits with 1 for fixed, which captures nothing", () => {
    const { status, stderr } = withConfig('capture: { destination: "mx.example:25" }\n');
    assert.equal(status, 1);
    assert.match(stderr, /mode fixed captures nothing/);
  });

  it("exits with 2 for wrong usage", () => {
    assert.equal(rules("--apply", "--remove").status, 2);
    const { status, stderr } = rules("--uid", "no-such-user-here");
    assert.equal(status, 2);
    assert.match(stderr, /--uid was "no-such-user-here", should be a user of this host or a number/);
  });
});
