/** The package under a real systemd: its units, what they allow, and that nobody is refused while a warp follows another. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { buildDeb } from "../../scripts/build-deb.ts";
import { Lab, labUnavailable, type Program, root } from "./lab.ts";
import { Systemd, systemdUnavailable } from "./systemd.ts";

const skip = labUnavailable("dpkg-deb", "nsenter", "unshare", "smtp-source") || systemdUnavailable();
const MX = "192.0.2.20";

describe("the package under systemd", { skip }, () => {
  let lab: Lab;
  let systemd: Systemd;
  let destination: Program;

  before(async () => {
    const built = spawnSync(process.execPath, [join(root, "scripts/build.mjs")], { encoding: "utf8" });
    assert.equal(built.status, 0, built.stdout + built.stderr);
    lab = new Lab();
    const file = buildDeb(lab.folder, 1);
    const host = lab.namespace("host");
    const mx = lab.namespace("mx");
    lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", [`${MX}/24`]);
    destination = mx.start("smtp-sink", ["-u", "nobody", "-c", "-m", "500", `${MX}:25`, "1000"]);
    systemd = await Systemd.boot(lab, host, file);
  });
  after(() => lab.end());

  /** As an ordinary program of this host. */
  function send(messages: number, sessions = 5) {
    const counts = ["-s", `${sessions}`, "-m", `${messages}`, "-l", "2000"];
    return systemd.complete(
      "smtp-source",
      ...counts,
      "-f",
      "a@sender.example",
      "-t",
      "b@four.example",
      `${MX}:25`,
    );
  }

  /** Sessions of the warp that runs now. */
  async function sessions(): Promise<number> {
    const ask = "exec 3<>/dev/tcp/127.0.0.1/9625; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    const { stdout } = await systemd.complete("bash", "-c", ask);
    const values = [...stdout.matchAll(/^warp_sessions_total\S* (\d+)$/gm)];
    return values.reduce((sum, [, value]) => sum + Number(value), 0);
  }

  const mainPid = () => systemd.show("MainPID");

  it("starts warp as its own user with the one right it needs, and hears when it is ready", () => {
    systemd.run("systemctl", "start", "warp");
    assert.equal(systemd.show("ActiveState"), "active");
    assert.match(systemd.show("StatusText"), /^listens to 127\.0\.0\.1:10025/);
    const status = systemd.run("cat", `/proc/${mainPid()}/status`);
    const [, uid] = /^Uid:\t(\d+)\t/m.exec(status) ?? [];
    assert.equal(uid, systemd.run("id", "-u", "warp").trim());
    const netAdmin = (1n << 12n).toString(16).padStart(16, "0");
    for (const set of ["CapEff", "CapBnd", "CapAmb"])
      assert.match(status, new RegExp(`^${set}:\t${netAdmin}$`, "m"));
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Seccomp:\t2$/m);
  });

  it("captures this host's mail with the rules of their unit", async () => {
    systemd.run("systemctl", "start", "warp-rules");
    const done = await send(20);
    assert.equal(done.status, 0, done.stdout + done.stderr + systemd.journal());
    assert.equal(await sessions(), 20);
  });

  it("goes on capturing when the host's own rules are loaded anew, which takes all others away", async () => {
    systemd.run("systemctl", "stop", "warp-rules");
    systemd.run("systemctl", "start", "nftables");
    systemd.run("systemctl", "enable", "--now", "warp-rules");
    for (const actions of [["reload"], ["restart"], ["stop", "start"]]) {
      for (const action of actions) systemd.run("systemctl", action, "nftables");
      await until(() => systemd.attempt("nft", ["list", "table", "inet", "warp"]).status === 0);
    }
    // Waits for the end of its own start.
    systemd.run("systemctl", "start", "warp-rules");
  });

  it("reloads: a right file is taken, a wrong one changes nothing and is said", async () => {
    const pid = mainPid();
    systemd.run("systemctl", "reload", "warp");
    await until(() => /"code":"reloaded"/.test(systemd.journal()));
    systemd.run(
      "sh",
      "-c",
      "cp /etc/warp/warp.yaml /tmp/right.yaml; echo 'nonsense: 1' >> /etc/warp/warp.yaml",
    );
    systemd.run("systemctl", "reload", "warp");
    await until(() => /"code":"reload_failed".*nonsense/.test(systemd.journal()));
    systemd.run("cp", "/tmp/right.yaml", "/etc/warp/warp.yaml");
    assert.equal(mainPid(), pid);
    assert.equal((await send(3)).status, 0);
  });

  it("follows a new process that takes over while idle, when the old one ends at once", async () => {
    for (let i = 0; i < 5; i++) {
      const before = mainPid();
      systemd.run("systemctl", "kill", "--kill-who=main", "--signal=USR2", "warp");
      await until(() => mainPid() !== before);
      await until(() => systemd.attempt("kill", ["-0", before]).status !== 0);
      assert.equal(systemd.show("ActiveState"), "active");
    }
  });

  it("follows a new process that takes over under load; nobody is refused", async () => {
    const load = send(3000, 10);
    for (let i = 0; i < 3; i++) {
      const before = mainPid();
      systemd.run("systemctl", "kill", "--kill-who=main", "--signal=USR2", "warp");
      await until(() => mainPid() !== before && mainPid() !== "0");
    }
    const done = await load;
    assert.equal(done.status, 0, done.stdout + done.stderr + systemd.journal());
    assert.equal(systemd.show("ActiveState"), "active");
    assert.equal(systemd.show("NRestarts"), "0");
  });

  it("takes an upgrade of the package under load; nobody is refused", async () => {
    const before = mainPid();
    const load = send(3000, 10);
    systemd.run("dpkg", "-i", "/warp.deb");
    await until(() => mainPid() !== before && mainPid() !== "0");
    const done = await load;
    assert.equal(done.status, 0, done.stdout + done.stderr + systemd.journal());
    assert.equal(systemd.show("NRestarts"), "0");
  });

  it("starts a killed warp again", async () => {
    systemd.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "warp");
    await until(() => systemd.show("NRestarts") === "1" && systemd.show("ActiveState") === "active");
    assert.equal((await send(3)).status, 0);
  });

  it("keeps mail back while warp is stopped and the rules stay", async () => {
    systemd.run("systemctl", "stop", "warp");
    assert.equal(systemd.show("Result"), "success");
    assert.notEqual((await send(1)).status, 0);
  });

  it("starts warp by its socket, and restarts it under load; nobody is refused", async () => {
    systemd.run("systemctl", "start", "warp.socket");
    const first = await send(5);
    assert.equal(first.status, 0, first.stdout + first.stderr + systemd.journal());
    const load = send(2000, 10);
    await pause(200);
    systemd.run("systemctl", "restart", "warp");
    const done = await load;
    assert.equal(done.status, 0, done.stdout + done.stderr + systemd.journal());
  });

  it("runs a bundled hook server on its own, which stores what the proxy tells it", async () => {
    const hooks = "hooks: [{ name: file, address: 'unix:/run/warp-hook/file.sock', roles: [observe] }]";
    systemd.run("sh", "-c", `echo "${hooks}" >> /etc/warp/warp.yaml`);
    systemd.run("sh", "-c", "echo FILE_PATH=/var/log/warp/events.jsonl > /etc/warp/environment");
    systemd.run("systemctl", "start", "warp-hook@file");
    systemd.run("systemctl", "restart", "warp");
    assert.equal((await send(4)).status, 0);
    const stored = () =>
      systemd.attempt("grep", ["-c", '"type":"transaction"', "/var/log/warp/events.jsonl"]).stdout;
    await until(() => stored().trim() === "4");
  });

  it("lets mail go directly once the rules are stopped", async () => {
    systemd.run("systemctl", "stop", "warp-rules");
    const before = await sessions();
    assert.equal((await send(3)).status, 0);
    assert.equal(await sessions(), before);
    assert.doesNotMatch(systemd.run("nft", "list", "ruleset"), /warp/);
    assert.equal(destination.stderr, "");
  });

  it("is gone after its removal, hook servers too, and after a purge with all that it kept", () => {
    systemd.run("systemctl", "start", "warp-hook@file");
    systemd.run("dpkg", "--remove", "warp");
    const units = systemd.run("systemctl", "--plain", "--no-legend", "list-units", "warp*");
    assert.doesNotMatch(units, /\brunning\b/);
    systemd.run("test", "-e", "/var/log/warp/events.jsonl");
    systemd.run("dpkg", "--purge", "warp");
    for (const folder of ["/var/log/warp", "/var/lib/warp", "/etc/warp"])
      systemd.run("test", "!", "-e", folder);
  });
});

async function until(holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !holds(); await pause(100)) {
    if (Date.now() > deadline) assert.ok(holds());
  }
}
