/** A full disk (a small tmpfs): a clear error, no acknowledgement, and all that was sent once there is room again. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statfsSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { eventsPerSession, makeSource, sessions } from "./events.ts";
import { startHook } from "./hook-process.ts";
import { sendAll } from "./observer.ts";

function missingMount(): string | false {
  const folder = mkdtempSync(join(tmpdir(), "warp-mount-"));
  const tried = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]);
  if (tried.status === 0) execFileSync("umount", [folder]);
  rmSync(folder, { recursive: true, force: true });
  if (tried.status === 0 || process.env.CI === "true") return false;
  return "a tmpfs cannot be mounted here (needs root)";
}
const skip = missingMount();

function smallDisk(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "warp-full-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=48m", "tmpfs", folder]);
  t.after(() => {
    execFileSync("umount", ["-l", folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

for (const [kind, argv, check] of [
  [
    "file",
    (folder: string) => ["--file-path", join(folder, "f.json"), "--fsync", "interval"],
    (folder: string, total: number) => {
      const lines = readFileSync(join(folder, "f.json"), "utf8").trimEnd().split("\n");
      const ids = lines.map((line) => JSON.parse(line).id);
      assert.equal(lines.length, total);
      assert.equal(new Set(ids).size, total);
    },
  ],
  [
    "sqlite",
    (folder: string) => ["--sqlite-dsn", join(folder, "warp.db")],
    (folder: string, total: number) => {
      const database = new DatabaseSync(join(folder, "warp.db"), { readOnly: true });
      const row = database.prepare(
        "select (select count(*) from communications) + (select count(*) from connections) + (select count(*) from transactions) n",
      );
      assert.equal(Number(row.get()!.n), total);
      assert.equal(database.prepare("pragma integrity_check").get()!.integrity_check, "ok");
      database.close();
    },
  ],
] as const) {
  test(`${kind}: says that the disk is full, acknowledges nothing, and goes on when there is room`, {
    skip,
  }, async (t) => {
    const disk = smallDisk(t);
    const { bsize, bavail } = statfsSync(disk);
    // Leaves about 1 MiB.
    writeFileSync(join(disk, "ballast"), Buffer.alloc(bsize * bavail - 1024 * 1024));
    const socket = mkdtempSync(join(tmpdir(), "warp-full-socket-"));
    t.after(() => rmSync(socket, { recursive: true, force: true }));
    const server = await startHook(kind, `unix:${socket}/s`, argv(disk));
    t.after(() => server.end("SIGKILL"));
    const events = sessions(1000);
    let acked = 0n;
    const full = Promise.withResolvers<void>();
    let breaks = 0;
    const sent = sendAll(events, {
      address: server.address,
      source: makeSource(),
      window: 512,
      onAck: (sequence) => {
        acked = sequence;
      },
      onBreak: (error) => {
        assert.match(error.message, /the disk of .* is full; nothing is acknowledged until there is room/);
        breaks += 1;
        if (breaks === 3) full.resolve();
      },
    });
    await full.promise;
    const stuck = acked;
    assert.ok(stuck < BigInt(events.length));
    assert.ok(server.log.some((line) => line.includes(`the disk of ${disk}`) && line.includes("is full")));
    unlinkSync(join(disk, "ballast"));
    await sent;
    assert.equal(acked, BigInt(events.length));
    assert.deepEqual(await server.end("SIGTERM"), [0, null]);
    check(disk, 1000 * eventsPerSession);
  });
}
