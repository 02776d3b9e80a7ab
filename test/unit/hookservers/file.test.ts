import assert from "node:assert/strict";
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  unlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type FileSettings, FileSink } from "../../../src/hookservers/file.ts";
import { SettingError } from "../../../src/hookservers/sink.ts";
import * as made from "../../integration/sinks/events.ts";

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "warp-file-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}
function context(log: string[] = [], now: () => number = Date.now) {
  return { env: {}, log: (line: string) => void log.push(line), now };
}
async function open(
  t: TestContext,
  settings: FileSettings,
  log?: string[],
  now?: () => number,
): Promise<FileSink> {
  const sink = await FileSink.open(settings, context(log, now));
  t.after(() => sink.close());
  return sink;
}
async function sequences(path: string): Promise<number[]> {
  const text = await readFile(path, "utf8");
  assert.ok(text === "" || text.endsWith("\n"));
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line).sequence as number);
}
const source = made.makeSource();
const events = Array.from({ length: 20 }, (_, index) =>
  made.makeEvent(index + 1, made.comm(`line ${index + 1}`)),
);

test("says what is missing in the original's words", async () => {
  await assert.rejects(FileSink.open({}, context()), {
    name: "SettingError",
    message: "missing path for file, please set `FILE_PATH`",
  });
});

test("names the file that cannot be opened", async (t) => {
  const path = join(await folder(t), "missing", "f.json");
  await assert.rejects(FileSink.open({ path }, context()), (error) => {
    return error instanceof SettingError && error.message.includes(path) && error.message.includes("ENOENT");
  });
});

test("appends whole lines with mode 0644 to what is there", async (t) => {
  const path = join(await folder(t), "f.json");
  const umask = process.umask(0o022);
  t.after(() => process.umask(umask));
  const sink = await open(t, { path });
  await sink.store({ source, events: events.slice(0, 3) });
  assert.deepEqual(await sequences(path), [1, 2, 3]);
  assert.equal((await stat(path)).mode & 0o777, 0o644);
});

test("does not write twice what is sent again, in one run, after a clean end, and after a crash", async (t) => {
  const path = join(await folder(t), "f.json");
  const first = await open(t, { path });
  await first.store({ source, events: events.slice(0, 5) });
  await Promise.all([
    first.store({ source, events: events.slice(3, 8) }),
    first.store({ source, events: events.slice(3, 8) }),
  ]);
  await first.close();
  const second = await open(t, { path });
  await second.store({ source, events: events.slice(0, 10) });
  // Not closed: its state still says what the first one wrote.
  const third = await open(t, { path });
  await third.store({ source, events: events.slice(6, 12) });
  assert.deepEqual(await sequences(path), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

test("knows what it has without a state, with a broken one, and with that of a file that was put aside meanwhile", async (t) => {
  const path = join(await folder(t), "f.json");
  const store = async (last: number) => {
    const sink = await FileSink.open({ path }, context());
    await sink.store({ source, events: events.slice(0, last) });
    await sink.close();
  };
  await store(4);
  await unlink(`${path}.state`);
  await store(6);
  await writeFile(`${path}.state`, '{"version":1,"inode":');
  await store(8);
  assert.deepEqual(await sequences(path), [1, 2, 3, 4, 5, 6, 7, 8]);
  const crashed = await open(t, { path });
  await crashed.store({ source, events: events.slice(0, 10) });
  await rename(path, `${path}.1`);
  await store(12);
  assert.deepEqual(await sequences(path), [11, 12]);
});

test("remembers ids where a client has no epoch", async (t) => {
  const path = join(await folder(t), "f.json");
  const nobody = made.makeSource(0, "not-a-ulid");
  for (const _ of [1, 2]) {
    const sink = await FileSink.open({ path }, context());
    await sink.store({ source: nobody, events: events.slice(0, 3) });
    await sink.store({ source: undefined, events: events.slice(2, 4) });
    await sink.close();
  }
  assert.deepEqual(await sequences(path), [1, 2, 3, 4]);
});

test("has every event of two streams of one source, whichever is ahead, each once, also after a crash", async (t) => {
  const path = join(await folder(t), "f.json");
  const lines = [1, 2, 4, 5, 7].map((sequence) => made.makeEvent(sequence, made.comm(`line ${sequence}`)));
  const connections = [3, 6].map((sequence) => made.makeEvent(sequence, made.conn()));
  const gap = (first: number, count: number) =>
    made.makeEvent(first + count - 1, {
      case: "gap",
      value: { firstSequence: BigInt(first), count: BigInt(count), reason: "" },
    });
  const gaps = [gap(8, 3), gap(9, 2)];
  const first = await open(t, { path });
  await first.store({ source, events: [...lines, gaps[0]!] });
  await first.store({ source, events: connections.slice(0, 1) });
  // Not closed: what it wrote is read from the file.
  const second = await open(t, { path });
  await second.store({ source, events: [...connections, gaps[1]!] });
  await second.close();
  const third = await open(t, { path });
  await third.store({ source, events: [...lines, gaps[0]!] });
  await third.store({ source, events: [...connections, gaps[1]!] });
  assert.deepEqual(await sequences(path), [1, 2, 4, 5, 7, 10, 3, 6, 10]);
});

test("goes on from the state of a version that did not tell kinds apart", async (t) => {
  const path = join(await folder(t), "f.json");
  const sink = await FileSink.open({ path }, context());
  await sink.store({ source, events: events.slice(0, 5) });
  await sink.close();
  const state = JSON.parse(await readFile(`${path}.state`, "utf8"));
  state.sources = { [`${source.proxy} ${source.worker} ${source.epoch}`]: "5" };
  await writeFile(`${path}.state`, JSON.stringify(state));
  const next = await open(t, { path });
  await next.store({ source, events: events.slice(0, 7) });
  assert.deepEqual(await sequences(path), [1, 2, 3, 4, 5, 6, 7]);
});

test("removes a last line that was cut off, at any place, and writes it again", async (t) => {
  const path = join(await folder(t), "f.json");
  const whole = await FileSink.open({ path }, context());
  await whole.store({ source, events: events.slice(0, 2) });
  await whole.close();
  const text = await readFile(path, "utf8");
  const start = text.indexOf("\n") + 1;
  for (let end = start + 1; end < text.length; end += 17) {
    await unlink(`${path}.state`);
    await truncate(path, end);
    const log: string[] = [];
    const sink = await FileSink.open({ path }, context(log));
    await sink.store({ source, events: events.slice(0, 2) });
    await sink.close();
    assert.equal(await readFile(path, "utf8"), text);
    assert.equal(log.length, 1);
  }
});

test("ends a whole last line, keeps a foreign one, and removes the NULs of a crash", async (t) => {
  const path = join(await folder(t), "f.json");
  const cases: [end: string, left: string][] = [
    ['{"type":"comm"}', '{"type":"comm"}\n'],
    ['{"type":"comm","data":"un"quoted"}', ""],
    ["Mar 1 a line of another program", "Mar 1 a line of another program\n"],
    ["\0\0\0\0", ""],
  ];
  for (const [end, left] of cases) {
    await writeFile(path, `first\n${end}`);
    await (await FileSink.open({ path }, context())).close();
    assert.equal(await readFile(path, "utf8"), `first\n${left}`);
  }
});

test("goes on in the new file when it was renamed and SIGHUP came", async (t) => {
  const path = join(await folder(t), "f.json");
  const sink = await open(t, { path });
  await sink.store({ source, events: events.slice(0, 2) });
  await rename(path, `${path}.1`);
  await sink.store({ source, events: events.slice(2, 3) });
  await sink.reopen();
  await sink.store({ source, events: events.slice(0, 5) });
  assert.deepEqual(await sequences(`${path}.1`), [1, 2, 3]);
  assert.deepEqual(await sequences(path), [4, 5]);
});

test("goes on in the new file also where no state can be kept, and says that once", async (t) => {
  const directory = await folder(t);
  const path = join(directory, "f.json");
  await mkdir(`${path}.state`);
  const log: string[] = [];
  const sink = await open(t, { path, rotateSizeOctets: 5000 }, log);
  assert.equal(log.length, 1);
  assert.match(log[0] ?? "", /^file: the state beside .*f\.json cannot be kept: /);
  await sink.store({ source, events: events.slice(0, 2) });
  await rename(path, `${path}.1`);
  await sink.reopen();
  await sink.store({ source, events: events.slice(0, 4) });
  assert.deepEqual(await sequences(`${path}.1`), [1, 2]);
  assert.deepEqual(await sequences(path), [3, 4]);
  for (const event of events) await sink.store({ source, events: [event] });
  await sink.store({ source, events });
  await sink.close();
  assert.equal((await readdir(directory)).filter((name) => /^f\.json\.\d{8}T/.test(name)).length, 1);
  assert.equal(log.filter((line) => line.includes("state")).length, 1);
});

test("puts the file aside by size, and keeps as many as it should", async (t) => {
  const directory = await folder(t);
  const path = join(directory, "f.json");
  const sink = await open(t, { path, rotateSizeOctets: 500, rotateKeep: 3 });
  for (const event of events) await sink.store({ source, events: [event] });
  const aside = (await readdir(directory)).filter((name) => /^f\.json\.\d/.test(name)).sort();
  assert.equal(aside.length, 3);
  const kept = [];
  for (const name of [...aside, "f.json"]) kept.push(...(await sequences(join(directory, name))));
  assert.deepEqual(
    kept,
    events.slice(-kept.length).map(({ sequence }) => Number(sequence)),
  );
  await sink.store({ source, events });
  assert.equal((await readdir(directory)).length, 5);
});

test("puts the file aside by age", async (t) => {
  const directory = await folder(t);
  const path = join(directory, "f.json");
  let now = Date.now();
  const sink = await open(t, { path, rotateAgeMs: 3_600_000 }, [], () => now);
  await sink.store({ source, events: events.slice(0, 1) });
  now += 3_599_000;
  await sink.store({ source, events: events.slice(1, 2) });
  assert.deepEqual(await sequences(path), [1, 2]);
  now += 2000;
  await sink.store({ source, events: events.slice(2, 3) });
  assert.deepEqual(await sequences(path), [3]);
});

test("goes on behind what others truncated in place", async (t) => {
  const path = join(await folder(t), "f.json");
  const sink = await open(t, { path });
  await sink.store({ source, events: events.slice(0, 3) });
  await truncate(path, 0);
  await sink.store({ source, events: events.slice(0, 5) });
  assert.deepEqual(await sequences(path), [4, 5]);
  await appendFile(path, "");
});

test("writes to a device without repair or state", async () => {
  const sink = await FileSink.open({ path: "/dev/null" }, context());
  await sink.store({ source, events: events.slice(0, 2) });
  await sink.close();
  await assert.rejects(stat("/dev/null.state"), { code: "ENOENT" });
});
