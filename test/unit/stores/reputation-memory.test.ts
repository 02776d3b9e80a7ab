import assert from "node:assert/strict";
import { chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { SharedIp } from "../../../src/deliverability/throttle.ts";
import { EMPTY_TALLY } from "../../../src/reputation/counts.ts";
import { MemoryReputationStore } from "../../../src/stores/reputation-memory.ts";
import { StateFile, StateFileError } from "../../../src/stores/state-file.ts";
import { settingsWith } from "../../integration/reputation-settings.ts";

const HOUR = 3_600_000;
const settings = settingsWith([HOUR, 24 * HOUR]);

describe("reputation in memory", () => {
  let directory = "";
  let now = 1_000_000_000_000;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "warp-state-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));
  const store = (stateFile?: string, maxSenders?: number) =>
    new MemoryReputationStore({
      settings,
      now: () => now,
      stateFile,
      ...(maxSenders === undefined ? {} : { maxSenders }),
    });

  it("is kept over a restart in the state file, which is complete at any time and nobody else's to read", async () => {
    const path = join(directory, "reputation.json");
    const first = store(path);
    await first.open();
    first.count("mail_from:bad@example.com", { ...EMPTY_TALLY, spam: 100 }, 100);
    await first.set("mail_from:friend@example.com", { pin: "good" });
    first.countMessages("203.0.113.1", "google.com", "20260301", 5);
    const until = now + HOUR;
    const cooling = { ip: "203.0.113.1", provider: "google.com", from: "normal", at: now } as const;
    first.shareState({ ...cooling, state: "throttled", until, why: "x" });
    await first.close();
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(directory), ["reputation.json"]);
    now += HOUR / 2;
    const second = store(path);
    await second.open();
    const standing = second.standing("mail_from:bad@example.com");
    assert.equal(standing.tier, "poor");
    assert.ok(
      Math.abs(standing.counts.windows[0]!.spam - 100 * 2 ** -0.5) < 1e-9,
      "decays while nobody runs",
    );
    assert.equal(second.standing("mail_from:friend@example.com").tier, "good");
    assert.equal(second.messages("203.0.113.1", "google.com", "20260301"), 5);
    const heard: SharedIp[] = [];
    second.listen((_ip, _provider, shared) => heard.push(shared));
    assert.deepEqual(
      heard.map(({ state, until: end }) => [state, end]),
      [["throttled", until]],
    );
    await second.close();
  });
  it("that was kept by a clock a day ahead counts today's messages, and cools no IP longer than it was meant", async () => {
    const path = join(directory, "ahead.json");
    const right = now;
    now += 24 * HOUR;
    const first = store(path);
    await first.open();
    first.countMessages("203.0.113.1", "google.com", "20260302", 5);
    const cooling = { ip: "203.0.113.1", provider: "google.com", from: "normal", at: now } as const;
    first.shareState({ ...cooling, state: "throttled", until: now + HOUR, why: "x" });
    await first.close();
    now = right;
    const second = store(path);
    await second.open();
    second.countMessages("203.0.113.1", "google.com", "20260301", 1);
    assert.equal(second.messages("203.0.113.1", "google.com", "20260301"), 1);
    const heard: SharedIp[] = [];
    second.listen((_ip, _provider, shared) => heard.push(shared));
    assert.deepEqual(
      heard.map(({ state, until }) => [state, until]),
      [["throttled", right + HOUR]],
    );
    await second.close();
  });
  it("is kept whole however many senders there are", async () => {
    const path = join(directory, "many.json");
    for (const senders of [0, 1, 1_000, 2_500]) {
      const first = store(path);
      for (let i = 0; i < senders; i += 1) first.count(`mail_from:"${i}é"@x`, { ...EMPTY_TALLY, ok: i }, 1);
      first.countMessages("203.0.113.1", "google.com", "20260301", 1);
      await first.save();
      const second = store(path);
      await second.load();
      assert.equal((await second.top(10_000)).length, senders);
      for (const i of [0, 999, 1_000, 2_499].filter((n) => n < senders)) {
        assert.equal(second.standing(`mail_from:"${i}é"@x`).counts.windows[1]!.ok, i);
      }
    }
  });
  it("takes corrections that the command line left", async () => {
    const path = join(directory, "corrected.json");
    const running = store(path);
    await running.open();
    running.count("mail_from:a@example.com", { ...EMPTY_TALLY, spam: 100 }, 100);
    const file = new StateFile(path);
    await file.leaveCorrection({ identity: "mail_from:a@example.com", change: { counts: { spam: 0 } } });
    await file.leaveCorrection({ identity: "mail_from:b@example.com", change: { pin: "poor" } });
    await running.applyCorrections();
    assert.equal(running.standing("mail_from:a@example.com").tier, "neutral");
    assert.equal(running.standing("mail_from:b@example.com").tier, "poor");
    await file.leaveCorrection({ identity: "mail_from:b@example.com", change: null });
    await running.applyCorrections();
    assert.equal(running.standing("mail_from:b@example.com").known, false);
    assert.deepEqual(await file.pendingCorrections(), []);
    await running.close();
  });
  it("takes each correction that was left, also in the moment in which it takes the file", async () => {
    const path = join(directory, "raced.json");
    const taken = new Set<string>();
    let isOver = false;
    const taking = (async () => {
      const proxy = new StateFile(path);
      while (!isOver) for (const { identity } of await proxy.takeCorrections()) taken.add(identity);
    })();
    const left = Array.from({ length: 1_000 }, (_, i) => `mail_from:${i}@example.com`);
    const file = new StateFile(path);
    for (const identity of left) await file.leaveCorrection({ identity, change: null });
    isOver = true;
    await taking;
    for (const { identity } of await file.takeCorrections()) taken.add(identity);
    assert.deepEqual(
      left.filter((identity) => !taken.has(identity)),
      [],
    );
  });
  it("leaves corrections to the next process once it is on its way out", async () => {
    const path = join(directory, "handed-over.json");
    const file = new StateFile(path);
    const [leaving, next] = [store(path), store(path)];
    await Promise.all([leaving.open(), next.open()]);
    leaving.leaving();
    await file.leaveCorrection({ identity: "mail_from:a@example.com", change: { pin: "poor" } });
    await leaving.applyCorrections();
    assert.equal((await file.pendingCorrections()).length, 1);
    await next.applyCorrections();
    assert.equal(next.standing("mail_from:a@example.com").tier, "poor");
    await Promise.all([leaving.close(), next.close()]);
  });
  const needsRoot = process.getuid?.() === 0 ? false : "takes root";
  it("can read what root left for it, and root writes through no link", { skip: needsRoot }, async () => {
    const folder = join(directory, "of-warp");
    await mkdir(folder);
    await chown(folder, 65_534, 65_534);
    const path = join(folder, "state.json");
    const correction = { identity: "mail_from:a@example.com", change: null };
    await new StateFile(path).leaveCorrection(correction);
    const { uid, gid } = await stat(`${path}.corrections`);
    assert.deepEqual([uid, gid], [65_534, 65_534]);
    await rm(`${path}.corrections`);
    await symlink(join(directory, "elsewhere"), `${path}.corrections`);
    await assert.rejects(new StateFile(path).leaveCorrection(correction));
    await assert.rejects(stat(join(directory, "elsewhere")));
  });
  it("refuses a file that is none of its own, and leaves it as it is", async () => {
    const path = join(directory, "other.json");
    for (const content of ["{", '{"version":2}', "[]"]) {
      await writeFile(path, content);
      await assert.rejects(store(path).open(), StateFileError);
      assert.equal(await readFile(path, "utf8"), content);
    }
  });
  it("forgets the sender heard of longest ago when there are too many", () => {
    const small = store(undefined, 2);
    for (const name of ["a", "b", "c"]) small.count(`mail_from:${name}`, { ...EMPTY_TALLY, ok: 1 }, 1);
    assert.equal(small.standing("mail_from:a").known, false);
    assert.equal(small.standing("mail_from:c").known, true);
  });
  it("lists the worst first", async () => {
    const all = store();
    all.count("mail_from:good", { ...EMPTY_TALLY, ok: 100 }, 100);
    all.count("mail_from:bad", { ...EMPTY_TALLY, spam: 10 }, 10);
    all.count("mail_from:worst", { ...EMPTY_TALLY, spam: 100 }, 100);
    const top = (await all.top(2)).map(({ identity }) => identity);
    assert.deepEqual(top, ["mail_from:worst", "mail_from:bad"]);
  });
});
