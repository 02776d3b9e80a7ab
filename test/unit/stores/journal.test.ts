import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import type { Block } from "../../../src/hooks/block.ts";
import { lockDirectory } from "../../../src/stores/directory-lock.ts";
import { type Journal, type JournalSource, openJournal } from "../../../src/stores/journal.ts";

function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "journal-test-"));
  t.after(() => {
    spawnSync("umount", ["-l", directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}
let epochs = 0;
function open(
  directory: string,
  settings: { maxOctets?: number; observers?: readonly string[]; log?: string[] } = {},
) {
  return openJournal({
    directory,
    source: { proxy: "p", worker: 1, epoch: `01ARZ3NDEKTSV4RRFFQ69${String(epochs++).padStart(5, "0")}` },
    maxOctets: settings.maxOctets ?? 100_000_000,
    fsyncMs: 0,
    observers: settings.observers ?? ["one"],
    telemetry: { ...noTelemetry, log: (_level, code) => settings.log?.push(code) },
  });
}
/** Not encoded events: the journal does not look into them. */
const block = (firstSequence: number, count: number, octets = 100): Block => ({
  octets: Buffer.alloc(octets, firstSequence % 251),
  firstSequence,
  count,
});
async function read(journal: JournalSource, from: number): Promise<number[][]> {
  const reader = journal.reader();
  const found: number[][] = [];
  for (let next = from; ; ) {
    const run = await reader.from(next);
    if (run === undefined) break;
    found.push([run.firstSequence, run.count]);
    next = run.firstSequence + run.count;
  }
  await reader.close();
  return found;
}
/** As after a SIGKILL: the lock is free, and nothing else was done. */
function abandon(journal: Journal): void {
  (journal as unknown as { unlock: () => void }).unlock();
}
const epochFolder = (directory: string) => join(directory, readdirSync(directory).sort()[0] as string);

function firstSegment(directory: string): string {
  const folder = epochFolder(directory);
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".seg")) as string);
}

test("what was written is read from any sequence on, runs joined", async (t) => {
  const { own } = open(temporary(t));
  await own.write([block(1, 3), block(4, 2)]);
  await own.write([block(6, 1)]);
  assert.deepEqual(await read(own, 1), [[1, 6]]);
  assert.deepEqual(await read(own, 5), [[4, 3]]);
  assert.deepEqual(await read(own, 7), []);
  await own.close();
});

test("a reader at the end goes on with what is written later", async (t) => {
  const { own } = open(temporary(t));
  const reader = own.reader();
  assert.equal(await reader.from(1), undefined);
  await own.write([block(1, 3)]);
  assert.equal((await reader.from(1))?.count, 3);
  assert.equal(await reader.from(4), undefined);
  await own.write([block(4, 1)]);
  assert.equal((await reader.from(4))?.firstSequence, 4);
  assert.equal((await reader.from(2))?.firstSequence, 1);
  assert.equal((await reader.from(2))?.firstSequence, 1);
  assert.equal((await reader.from(4))?.firstSequence, 1);
  await reader.close();
  await own.close();
});

test("files and folders are the owner's alone", async (t) => {
  const directory = temporary(t);
  const { own } = open(join(directory, "journal"));
  await own.write([block(1, 1)]);
  const folder = join(directory, "journal");
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  const epoch = epochFolder(folder);
  assert.equal(statSync(epoch).mode & 0o777, 0o700);
  for (const name of readdirSync(epoch)) assert.equal(statSync(join(epoch, name)).mode & 0o777, 0o600, name);
  await own.close();
});

test("segments go when every observer has acknowledged them", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory, { observers: ["one", "two"], maxOctets: 800_000 });
  for (let i = 0; i < 6; i++) await own.write([block(1 + i * 10, 10, 90_000)]);
  assert.equal(own.first, 1);
  own.acknowledged("one", 60);
  assert.equal(own.first, 1);
  own.acknowledged("two", 35);
  assert.equal(own.first, 31);
  assert.deepEqual(
    (await read(own, 36)).map(([first]) => first),
    [31, 41, 51],
  );
  own.acknowledged("two", 60);
  await own.close();
  assert.deepEqual(readdirSync(directory), []);
});

test("an observer that is none is not waited for", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory, { observers: ["one", "two"] });
  await own.write([block(1, 1)]);
  own.acknowledged("one", 1);
  own.forget("two");
  await own.close();
  assert.deepEqual(readdirSync(directory), []);
});

test("beyond its size the oldest events go, and the file with them", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory, { maxOctets: 500_000 });
  for (let i = 0; i < 20; i++) await own.write([block(1 + i, 1, 60_000)]);
  assert.ok(own.first > 10, `${own.first}`);
  const runs = await read(own, 1);
  assert.equal(runs[0]?.[0], own.first);
  const folder = epochFolder(directory);
  const octets = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  assert.ok(octets < 600_000, `${octets}`);
  await own.close();
});

test("what a killed process left is taken over, with its source and cursors, and removed when acknowledged", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory, { observers: ["one", "two"] });
  await own.write([block(1, 5)]);
  own.acknowledged("one", 3);
  await new Promise((resolve) => setTimeout(resolve, 250));
  abandon(own);
  const { own: next, left } = open(directory, { observers: ["one", "two", "three"] });
  assert.equal(left.length, 1);
  const [journal] = left;
  assert.ok(journal);
  assert.deepEqual(journal.source, own.source);
  assert.deepEqual(
    ["one", "two", "three"].map((name) => journal.ackedSequence(name)),
    [3, 0, undefined],
  );
  assert.deepEqual(await read(journal, 1), [[1, 5]]);
  journal.acknowledged("one", 5);
  assert.equal(readdirSync(directory).length, 2);
  journal.acknowledged("two", 5);
  assert.equal(readdirSync(directory).length, 1);
  await next.close();
});

test("what a hook has not acknowledged is kept while it is no observer, and said", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory, { observers: ["one", "two"] });
  await own.write([block(1, 5)]);
  own.acknowledged("one", 3);
  own.acknowledged("two", 5);
  await own.close();
  const log: string[] = [];
  const without = open(directory, { observers: ["two"], log });
  assert.deepEqual(log, ["journal_kept"]);
  assert.deepEqual([...(without.left[0]?.keptForAbsent() ?? [])], [["one", 2]]);
  without.left[0]?.close();
  await without.own.close();
  const again = open(directory, { observers: ["one", "two"], log });
  assert.equal(again.left[0]?.ackedSequence("one"), 3);
  assert.deepEqual(await read(again.left[0] as JournalSource, 4), [[1, 5]]);
  again.left[0]?.acknowledged("one", 5);
  await again.own.close();
  assert.deepEqual(readdirSync(directory), []);
  assert.deepEqual(log, ["journal_kept"]);
});

test("a full journal drops what no observer of now waits for before anything else, and knows that it is missing", async (t) => {
  const directory = temporary(t);
  const maxOctets = 800_000;
  const { own } = open(directory, { maxOctets });
  for (let i = 0; i < 6; i++) await own.write([block(1 + i * 10, 10, 90_000)]);
  await own.close();
  const log: string[] = [];
  const without = open(directory, { observers: ["two"], maxOctets, log });
  const [left] = without.left;
  assert.ok(left);
  without.own.alsoOnDisk = () => left.octets;
  without.own.makeRoom = () => left.giveUpOldest();
  for (let i = 0; i < 4; i++) await without.own.write([block(1 + i * 10, 10, 90_000)]);
  assert.equal(without.own.first, 1);
  assert.equal(left.first, 21);
  for (let i = 4; i < 8; i++) await without.own.write([block(1 + i * 10, 10, 90_000)]);
  assert.equal(without.own.first, 1);
  assert.equal(left.octets, 0);
  assert.deepEqual(log, ["journal_kept", ...Array.from({ length: 6 }, () => "events_dropped")]);
  left.close();
  without.own.acknowledged("two", 80);
  await without.own.close();
  const again = open(directory, { maxOctets });
  assert.equal(again.left[0]?.last, 60);
  assert.equal(again.left[0]?.ackedSequence("one"), 0);
  assert.deepEqual(await read(again.left[0] as JournalSource, 1), []);
  again.left[0]?.acknowledged("one", 60);
  await again.own.close();
  assert.deepEqual(readdirSync(directory), []);
});

test("an unfinished record at the end is cut off, whatever it looks like", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory);
  await own.write([block(1, 2)]);
  await own.write([block(3, 2)]);
  abandon(own);
  const path = firstSegment(directory);
  const whole = readFileSync(path);
  for (const [octets, expected] of [
    [whole.subarray(0, whole.length - 1), [[1, 2]]],
    [whole.subarray(0, whole.length / 2 + 10), [[1, 2]]],
    [Buffer.concat([whole, Buffer.alloc(700)]), [[1, 4]]],
    [Buffer.concat([whole, whole.subarray(0, 20)]), [[1, 4]]],
  ] as const) {
    writeFileSync(path, octets);
    const log: string[] = [];
    const { own: next, left } = open(directory, { log });
    assert.deepEqual(await read(left[0] as JournalSource, 1), expected);
    assert.deepEqual(log, ["journal_cut"]);
    left[0]?.close();
    await next.close();
  }
});

test("without readable cursors everything is sent again", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory);
  await own.write([block(1, 2)]);
  abandon(own);
  rmSync(join(epochFolder(directory), "cursors.json"));
  const { own: next, left } = open(directory);
  assert.equal(left[0]?.ackedSequence("one"), 0);
  left[0]?.close();
  await next.close();
});

test("a damaged record is passed over and reported: what is before and behind it is read", async (t) => {
  const directory = temporary(t);
  const log: string[] = [];
  const { own } = open(directory, { log });
  for (let i = 0; i < 4; i++) await own.write([block(1 + i * 2, 2, 40_000)]);
  const path = firstSegment(directory);
  const whole = readFileSync(path);
  const record = whole.length / 4;
  // In the payload; in the magic; in the length, which then leads nowhere or behind the end.
  for (const at of [100, 0, 4, 6]) {
    const octets = Buffer.from(whole);
    octets[record + at] = (octets[record + at] as number) ^ 1;
    writeFileSync(path, octets);
    log.splice(0);
    assert.deepEqual(await read(own, 1), [
      [1, 2],
      [5, 4],
    ]);
    assert.deepEqual(log, ["journal_damaged"]);
  }
  const octets = Buffer.from(whole);
  octets[3 * record + 100] = (octets[3 * record + 100] as number) ^ 1;
  writeFileSync(path, octets);
  const reader = own.reader();
  assert.equal((await reader.from(1))?.count, 6);
  assert.equal(await reader.from(7), undefined);
  await own.write([block(9, 2)]);
  assert.equal((await reader.from(7))?.firstSequence, 9);
  await reader.close();
  await own.close();
});

test("a damaged record of a journal that was left costs its own events only, which are known to be missing", async (t) => {
  const directory = temporary(t);
  const { own } = open(directory);
  for (let i = 0; i < 4; i++) await own.write([block(1 + i * 2, 2)]);
  abandon(own);
  const path = firstSegment(directory);
  const whole = readFileSync(path);
  for (const [hit, expected] of [
    [0, [[3, 6]]],
    [
      1,
      [
        [1, 2],
        [5, 4],
      ],
    ],
    [3, [[1, 6]]],
  ] as const) {
    const octets = Buffer.from(whole);
    const at = (hit * whole.length) / 4 + 50;
    octets[at] = (octets[at] as number) ^ 1;
    writeFileSync(path, octets);
    for (const _ of ["first", "second"]) {
      const log: string[] = [];
      const { own: next, left } = open(directory, { log });
      assert.equal(left[0]?.last, 8);
      assert.deepEqual(await read(left[0] as JournalSource, 1), expected);
      assert.ok(log.length > 0 && log.every((code) => code === "journal_damaged"), log.join());
      left[0]?.close();
      await next.close();
    }
    assert.equal(statSync(path).size, whole.length);
  }
});

test("two journals never share a directory: what is held is left alone", async (t) => {
  const directory = temporary(t);
  const first = open(directory);
  await first.own.write([block(1, 1)]);
  const second = open(directory);
  assert.equal(second.left.length, 0);
  await first.own.close();
  await second.own.close();
});

test("a lock ends with the process that held it", (t) => {
  const directory = temporary(t);
  const module = new URL("../../../src/stores/directory-lock.ts", import.meta.url).href;
  const take = `const { lockDirectory } = await import(${JSON.stringify(module)}); console.log(lockDirectory(${JSON.stringify(directory)}) !== undefined);`;
  const other = () =>
    spawnSync(process.execPath, ["--input-type=module", "-e", take], { encoding: "utf8" }).stdout.trim();
  assert.equal(other(), "true");
  const unlock = lockDirectory(directory);
  assert.ok(unlock);
  assert.equal(lockDirectory(directory), undefined);
  assert.equal(other(), "false");
  unlock();
  assert.equal(other(), "true");
});

test("a full disk is reported once, loses nothing that was written, and is written again when there is room", async (t) => {
  const directory = temporary(t);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], { stdio: "ignore" });
  } catch {
    assert.notEqual(process.env.CI, "true", "mounting a tmpfs needs root");
    t.skip("mounting a tmpfs needs root");
    return;
  }
  const log: string[] = [];
  const { own } = open(directory, { log });
  await own.write([block(1, 1, 400_000)]);
  const ballast = join(directory, "ballast");
  appendFileSync(ballast, Buffer.alloc(300_000));
  await own.write([block(2, 1, 600_000)]);
  await own.write([block(3, 1, 600_000)]);
  rmSync(ballast);
  await own.write([block(4, 1, 100_000)]);
  assert.deepEqual(log, ["journal_write_failed", "journal_recovered"]);
  assert.deepEqual(await read(own, 1), [
    [1, 1],
    [4, 1],
  ]);
  await own.close();
});
