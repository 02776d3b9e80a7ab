/** Observers over real gRPC: exact ids whatever happens to the server, the stream, the disk or this process. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { after, afterEach, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { Capability, type Event } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import type { HookSettings, HooksSettings } from "../../../src/hooks/index.ts";
import { envelope, PlainMessage } from "../../unit/filter/fixtures.ts";
import { comm, conn, transaction } from "../../unit/hooks/events.ts";
import {
  type Assembled,
  assemble,
  compressingServer,
  HookServer,
  hookSettings,
  temporaryFolder,
  until,
} from "./server.ts";

const folder = temporaryFolder();
after(() => folder.remove());
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});
let names = 0;
const freeAddress = () => `unix:${folder.path}/${names++}.sock`;
const freeFolder = () => `${folder.path}/journal-${names++}`;
const OBSERVER = [Capability.AFTER_COMM, Capability.AFTER_TRANSACTION, Capability.AFTER_CONN];

async function server(capabilities: readonly Capability[] = OBSERVER): Promise<HookServer> {
  const made = new HookServer(freeAddress());
  made.description = { name: "observer", capabilities: [...capabilities] };
  await made.start();
  cleanUp.push(() => made.kill());
  return made;
}
async function started(
  hooks: readonly HookSettings[],
  changes: Partial<HooksSettings> = {},
  tuning = {},
): Promise<Assembled> {
  const assembled = assemble(hooks, changes, tuning);
  await assembled.hooks.start();
  cleanUp.push(() => assembled.hooks.stop(0));
  return assembled;
}
function emit(
  { hooks }: Assembled,
  count: number,
  make = (i: number) => comm({ data: Buffer.from(`line ${i}`) }),
): void {
  for (let i = 0; i < count; i++) hooks.sinks[0]?.emit(make(i));
}
/** Data of the lines that came, in order; notices left out. */
const lines = (events: readonly Event[]) =>
  events.flatMap(({ kind }) => (kind.case === "afterComm" ? [Buffer.from(kind.value.data).toString()] : []));
const expected = (count: number) => Array.from({ length: count }, (_, i) => `line ${i}`);
function unique(events: readonly Event[]): Event[] {
  return [...new Map(events.map((event) => [event.id, event])).values()];
}
const contiguous = (events: readonly Event[]) => {
  for (const [i, event] of events.entries()) assert.equal(event.sequence, BigInt(i + 1));
};

test("events arrive once, in order, with sequences from 1 and their source", async () => {
  const observer = await server();
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 20_000);
  await until(() => lines(observer.events).length === 20_000, "all events");
  assert.deepEqual(lines(observer.events), expected(20_000));
  contiguous(observer.events);
  assert.equal(new Set(observer.ids).size, observer.ids.length);
});

test("what was not acknowledged is sent again with the same ids, and what was is not", async () => {
  const observer = await server();
  observer.observe = (_, call) => {
    if (observer.lastSequence <= 300n) call.ack(observer.lastSequence);
  };
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 200);
  await until(() => observer.lastSequence >= 200n, "the first");
  emit(assembled, 800, (i) => comm({ data: Buffer.from(`line ${200 + i}`) }));
  await until(() => observer.lastSequence >= 1000n, "all");
  const acked = 300n >= observer.lastSequence ? observer.lastSequence : 201n;
  observer.kill();
  const before = observer.ids;
  observer.events.length = 0;
  observer.observe = (_, call) => call.ack(observer.lastSequence);
  await observer.start();
  await until(() => lines(observer.events).includes("line 999"), "all again");
  const again = observer.events;
  assert.ok((again[0]?.sequence ?? 0n) <= acked + 1n);
  assert.ok((again[0]?.sequence ?? 0n) > 200n, "what was acknowledged came again");
  const all = unique([...again]);
  for (const event of all.filter(({ sequence }) => sequence <= 1000n))
    assert.ok(before.includes(event.id) || event.kind.case === "notice");
});

test("an observer that is away from the start, or restarts again and again, gets everything", async () => {
  const observer = new HookServer(freeAddress());
  observer.description = { name: "o", capabilities: OBSERVER };
  cleanUp.push(() => observer.kill());
  const assembled = await started([hookSettings("o", observer.address, { roles: ["observe"] })]);
  for (let round = 0; round < 5; round++) {
    emit(assembled, 1000, (i) => comm({ data: Buffer.from(`line ${round * 1000 + i}`) }));
    await observer.start();
    await until(() => lines(observer.events).length >= round * 1000 + 300, `round ${round}`, 20_000);
    observer.kill();
  }
  await observer.start();
  await until(() => new Set(lines(observer.events)).size === 5000, "all", 20_000);
  assert.deepEqual(lines(unique(observer.events)), expected(5000));
});

test("an observer that ends its stream cleanly gets another one", async () => {
  const observer = await server();
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 10);
  await until(() => observer.lastSequence >= 10n, "the first");
  observer.streams[0]?.end();
  await until(() => observer.streams.length === 2, "a second stream");
  emit(assembled, 10, (i) => comm({ data: Buffer.from(`line ${10 + i}`) }));
  await until(() => lines(observer.events).length === 20, "all");
  assert.equal(observer.described, 1);
});

test("an observer that fails is reconnected to with growing pauses, and says why in the log", async () => {
  const observer = await server();
  observer.observe = (_, { raw }) =>
    raw.emit("error", { code: grpc.status.INTERNAL, details: "database\r\nis away" });
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 1);
  await until(() => observer.streams.length >= 4, "several streams");
  const failed = assembled.logs.filter(({ code }) => code === "observe_failed");
  assert.match(failed[0]?.message ?? "", /^o: Observe: INTERNAL: database is away$/);
  observer.observe = (_, call) => call.ack(observer.lastSequence);
  await until(() => observer.lastSequence >= 1n && observer.streams.length >= 5, "it works again");
});

test("an observer whose acknowledgement is compressed in a way that warp does not read is reconnected to", async () => {
  const address = freeAddress();
  cleanUp.push(await compressingServer(address.slice(5), "Observe"));
  const assembled = await started([hookSettings("o", address, { roles: ["observe"] })]);
  emit(assembled, 1);
  await until(
    () => assembled.logs.some(({ message }) => /o: .*neither gzip nor deflate/.test(message)),
    "it is told of",
  );
});

test("an observer that acknowledges nothing new before it fails is reconnected to with growing pauses too", async () => {
  for (const acknowledged of [0n, 1n]) {
    const observer = await server();
    observer.observe = (_, call) => call.ack(observer.lastSequence);
    const assembled = await started([hookSettings("o", observer.address)]);
    emit(assembled, 1);
    await until(() => observer.lastSequence >= 1n, "the first");
    observer.streams.length = 0;
    observer.observe = (_, { raw, ack }) => {
      ack(acknowledged);
      setTimeout(() => raw.emit("error", { code: grpc.status.INTERNAL, details: "disk full" }), 5);
    };
    emit(assembled, 1);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assert.ok(observer.streams.length <= 8, `${observer.streams.length} streams in 2 s`);
  }
});

test("a stream that ends with the connection that said GOAWAY is no failure", async () => {
  const observer = await server();
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 1);
  await until(() => observer.lastSequence >= 1n, "the first");
  observer.drain();
  await observer.start();
  await until(() => observer.described === 2, "a second connection");
  observer.streams[0]?.emit("error", { code: grpc.status.UNAVAILABLE, details: "max connection age" });
  emit(assembled, 10, (i) => comm({ data: Buffer.from(`line ${1 + i}`) }));
  await until(() => new Set(lines(observer.events)).size === 11, "all");
  assert.deepEqual(
    assembled.logs.filter(({ code }) => code === "observe_failed"),
    [],
  );
});

test("no more than the limit is in flight unacknowledged", async () => {
  const observer = await server();
  observer.observe = () => {};
  const assembled = await started(
    [hookSettings("o", observer.address)],
    {},
    { limits: { unackedEvents: 1000, batchEvents: 100 } },
  );
  emit(assembled, 5000);
  await until(() => observer.events.length >= 1000, "as many as may be");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(observer.events.length, 1000);
  observer.observe = (_, call) => call.ack(observer.lastSequence);
  observer.streams[0]?.write(Buffer.from([8, 0xe8, 7]));
  await until(() => lines(observer.events).length === 5000, "the rest");
});

test("where events come all the time a batch goes when it is full, or when the one before is old enough", async () => {
  const observer = await server();
  const limits = { batchEvents: 10, batchMs: 400 };
  const assembled = await started([hookSettings("o", observer.address)], {}, { limits });
  await until(() => observer.streams.length === 1, "the stream");
  emit(assembled, 1);
  await until(() => lines(observer.events).length === 1, "one alone");
  const begin = performance.now();
  emit(assembled, 15);
  await until(() => lines(observer.events).length >= 11, "ten more at once");
  assert.ok(performance.now() - begin < 300);
  assert.equal(lines(observer.events).length, 11);
  await until(() => lines(observer.events).length === 16, "the rest a moment later");
  assert.ok(performance.now() - begin >= 395);
});

test("octets in flight are limited too, and a batch is at most 1 MiB", async () => {
  const observer = await server();
  let largest = 0;
  observer.observe = (events) => {
    largest = Math.max(
      largest,
      events.reduce((sum, { kind }) => sum + (kind.case === "afterComm" ? kind.value.data.length : 0), 0),
    );
  };
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 400, () => comm({ data: Buffer.alloc(60_000) }));
  await until(() => observer.events.length >= 100, "some");
  await new Promise((resolve) => setTimeout(resolve, 200));
  const octets = observer.events.length * 60_000;
  assert.ok(octets > 6_000_000 && octets <= 8 * 1024 * 1024, `${octets}`);
  assert.ok(largest <= 1024 * 1024, `${largest}`);
});

test("a slow observer delays neither the other one nor a filter", async () => {
  const [slow, fast, filter] = [await server(), await server(), await server([Capability.BEFORE_RELAY])];
  slow.observe = (_, { raw }) => raw.pause();
  const assembled = await started([
    hookSettings("slow", slow.address),
    hookSettings("fast", fast.address),
    hookSettings("filter", filter.address),
  ]);
  emit(assembled, 20_000);
  const before = performance.now();
  const result = await assembled.hooks.chain.run(
    new PlainMessage("A: 1\r\n\r\n"),
    envelope(),
    1000,
    new AbortController().signal,
  );
  assert.equal(result.kind, "relay");
  await until(() => lines(fast.events).length === 20_000, "the fast one has all");
  assert.ok(performance.now() - before < 5000);
});

test("heartbeats are sent when nothing else is, and a silent observer is given up", async () => {
  const observer = await server();
  const assembled = await started(
    [hookSettings("o", observer.address)],
    {},
    { limits: { heartbeatMs: 40, silenceMs: 300 } },
  );
  emit(assembled, 1);
  await until(() => observer.heartbeats >= 3, "heartbeats");
  assert.equal(observer.streams.length, 1);
  observer.observe = () => {};
  await until(() => observer.streams.length === 2, "a new stream", 3000);
  assert.ok(assembled.logs.some(({ code }) => code === "observer_silent"));
  assert.equal(observer.described, 2);
});

test("an observer gets the kinds that it names, and the configuration may narrow them", async () => {
  const [all, few, narrowed] = [await server(), await server([Capability.AFTER_CONN]), await server()];
  const assembled = await started([
    hookSettings("all", all.address),
    hookSettings("few", few.address),
    hookSettings("narrowed", narrowed.address, { events: ["after_transaction"] }),
  ]);
  const [sink] = assembled.hooks.sinks;
  for (const event of [comm(), transaction(), conn(), comm()]) sink?.emit(event);
  await until(() => all.events.filter(({ kind }) => kind.case !== "notice").length === 4, "all");
  await until(() => few.events.some(({ kind }) => kind.case === "afterConn"), "few");
  await until(() => narrowed.events.length > 0, "narrowed");
  assert.deepEqual([...new Set(few.events.map(({ kind }) => kind.case))].toSorted(), ["afterConn", "notice"]);
  assert.deepEqual(
    narrowed.events.map(({ kind }) => kind.case),
    ["afterTransaction"],
  );
});

test("what nobody wants need not be made", async () => {
  const few = await server([Capability.AFTER_CONN]);
  const { hooks } = await started([hookSettings("few", few.address)]);
  assert.deepEqual(
    (["after_comm", "after_transaction", "after_conn", "notice"] as const).map((kind) =>
      hooks.sinks[0]?.wants(kind),
    ),
    [false, false, true, true],
  );
  const filter = await server([Capability.BEFORE_RELAY]);
  const other = await started([hookSettings("filter", filter.address)]);
  assert.equal(other.hooks.sinks[0]?.wants("after_conn"), false);
  assert.equal(filter.streams.length, 0);
});

test("beyond the queue the oldest are dropped, and a gap says which", async () => {
  const observer = new HookServer(freeAddress());
  observer.description = { name: "o", capabilities: OBSERVER };
  cleanUp.push(() => observer.kill());
  const assembled = await started(
    [hookSettings("o", observer.address, { roles: ["observe"] })],
    {},
    { queueOctets: 600_000 },
  );
  emit(assembled, 20_000);
  await observer.start();
  await until(() => lines(observer.events).includes("line 19999"), "the last");
  const gap = observer.events.find(({ kind }) => kind.case === "gap");
  assert.ok(gap?.kind.case === "gap");
  const { firstSequence, count } = gap.kind.value;
  assert.equal(firstSequence, 1n);
  assert.equal(gap.sequence, count);
  const following = observer.events[observer.events.indexOf(gap) + 1];
  assert.equal(following?.sequence, count + 1n);
  assert.equal(assembled.dropped.get("o"), Number(count));
});

test("acknowledgements of what was never sent change nothing", async () => {
  const observer = await server();
  observer.observe = (_, call) => call.ack(1_000_000n);
  const assembled = await started([hookSettings("o", observer.address)]);
  emit(assembled, 10);
  await until(() => assembled.logs.some(({ code }) => code === "odd_acknowledgement"), "it is noticed");
  observer.kill();
  observer.events.length = 0;
  observer.observe = (_, call) => call.ack(observer.lastSequence);
  await observer.start();
  await until(() => lines(observer.events).length === 10, "sent again");
});

test("a stop waits for acknowledgements and half-closes", async () => {
  const observer = await server();
  observer.observe = (_, call) => setTimeout(() => call.ack(observer.lastSequence), 50);
  const assembled = await started([hookSettings("o", observer.address)]);
  const ended = new Promise<void>(
    (resolve) =>
      void until(() => observer.streams.length > 0, "a stream").then(() =>
        observer.streams[0]?.once("end", resolve),
      ),
  );
  emit(assembled, 1000);
  await assembled.hooks.stop(5000);
  assert.deepEqual(lines(observer.events), expected(1000));
  await ended;
  assert.ok(!assembled.logs.some(({ code }) => code === "events_undelivered"));
});

test("a stop does not wait for a hook that is away, and says what is lost without a journal", async () => {
  const assembled = assemble([hookSettings("o", freeAddress(), { roles: ["observe"] })]);
  await assembled.hooks.start();
  emit(assembled, 10);
  const before = performance.now();
  await assembled.hooks.stop(5000);
  assert.ok(performance.now() - before < 1000);
  assert.match(
    assembled.logs.find(({ code }) => code === "events_undelivered")?.message ?? "",
    /^1\d events were not acknowledged by o and are lost/,
  );
});

test("a message that goes on without a filter's verdict is told of", async () => {
  const observer = await server([Capability.AFTER_CONN]);
  const assembled = await started([
    hookSettings("o", observer.address),
    hookSettings("f", freeAddress(), { roles: ["filter"], onFailure: "accept" }),
  ]);
  const message = new PlainMessage("A: 1\r\n\r\n");
  await assembled.hooks.chain.run(message, envelope(), 1000, new AbortController().signal);
  const skipped = () =>
    observer.events.find(({ kind }) => kind.case === "notice" && kind.value.code === "filter_skipped");
  await until(() => skipped() !== undefined, "the notice");
  assert.equal(skipped()?.connectionId, envelope().session.connectionId);
});

const withJournal = (dir: string, maxSizeOctets = 100_000_000): Partial<HooksSettings> => ({
  journal: { dir, maxSizeOctets, fsyncMs: 1000 },
});

test("with a journal, an observer that was away longer than memory holds gets everything from disk", async () => {
  const dir = freeFolder();
  const observer = new HookServer(freeAddress());
  observer.description = { name: "o", capabilities: OBSERVER };
  cleanUp.push(() => observer.kill());
  const assembled = await started(
    [hookSettings("o", observer.address, { roles: ["observe"] })],
    withJournal(dir),
    { queueOctets: 600_000 },
  );
  for (let round = 0; round < 20; round++) {
    emit(assembled, 1000, (i) => comm({ data: Buffer.from(`line ${round * 1000 + i}`) }));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await observer.start();
  await until(() => lines(observer.events).length === 20_000, "all", 20_000);
  assert.deepEqual(lines(observer.events), expected(20_000));
  contiguous(observer.events);
  emit(assembled, 1);
  // The journal's own, for writing: what was read may be deleted now, and would keep its room on the disk.
  await until(() => openSegments(dir).length === 1, "the end of the reading", 5000);
});

/** Segments in `dir`, or deleted there, that this process has open. */
function openSegments(dir: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(dir) && path.includes(".seg") ? [path] : [];
    } catch {
      return []; // the descriptor that lists them
    }
  });
}

test("beyond the journal's size a gap says what is missing", async () => {
  const observer = new HookServer(freeAddress());
  observer.description = { name: "o", capabilities: OBSERVER };
  cleanUp.push(() => observer.kill());
  const assembled = await started(
    [hookSettings("o", observer.address, { roles: ["observe"] })],
    withJournal(freeFolder(), 1_000_000),
    { queueOctets: 600_000 },
  );
  for (let round = 0; round < 20; round++) {
    emit(assembled, 1000, (i) => comm({ data: Buffer.from(`line ${round * 1000 + i}`) }));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await observer.start();
  await until(() => lines(observer.events).includes("line 19999"), "the last", 20_000);
  const gaps = observer.events.flatMap(({ kind }) => (kind.case === "gap" ? [kind.value] : []));
  const missing = gaps.reduce((sum, { count }) => sum + Number(count), 0);
  // One of the sequences is the notice that the hook is away.
  assert.ok(missing > 5000 && Math.abs(missing + lines(observer.events).length - 20_000) <= 1, `${missing}`);
});

test("what a stopped proxy could not deliver is sent first by the next one, as what it was", async () => {
  const dir = freeFolder();
  const address = freeAddress();
  const first = assemble([hookSettings("o", address, { roles: ["observe"] })], withJournal(dir));
  await first.hooks.start();
  emit(first, 3000);
  await first.hooks.stop(100);
  const observer = new HookServer(address);
  observer.description = { name: "o", capabilities: OBSERVER };
  await observer.start();
  cleanUp.push(() => observer.kill());
  const second = await started([hookSettings("o", address, { roles: ["observe"] })], withJournal(dir));
  emit(second, 1000, (i) => comm({ data: Buffer.from(`line ${3000 + i}`) }));
  await until(() => lines(observer.events).length === 4000, "all");
  assert.deepEqual(lines(observer.events), expected(4000));
  await until(() => readdirSync(dir).length === 1, "the old journal is gone");
  await second.hooks.stop(1000);
  assert.deepEqual(readdirSync(dir), []);
});

test("an observer of few kinds has acknowledged everything, though its batch ends in events of other kinds", async () => {
  const observer = await server([Capability.AFTER_TRANSACTION]);
  const assembled = await started([hookSettings("o", observer.address)]);
  const [sink] = assembled.hooks.sinks;
  for (const event of [comm(), transaction(), comm(), conn()]) sink?.emit(event);
  await until(() => observer.events.some(({ kind }) => kind.case === "afterTransaction"), "its event");
  const before = performance.now();
  await assembled.hooks.stop(5000);
  assert.ok(performance.now() - before < 1000, "it waited for acknowledgements of what it never sent");
  assert.ok(!assembled.logs.some(({ code }) => code === "events_undelivered"));
});

test("a journal that was left is over, though it ends in events of kinds that its observer does not take", async () => {
  const dir = freeFolder();
  const address = freeAddress();
  const settings = hookSettings("o", address, { roles: ["observe"], events: ["after_transaction"] });
  const first = assemble([settings], withJournal(dir));
  await first.hooks.start();
  for (const event of [transaction(), comm(), conn()]) first.hooks.sinks[0]?.emit(event);
  await first.hooks.stop(100);
  const observer = new HookServer(address);
  observer.description = { name: "o", capabilities: OBSERVER };
  await observer.start();
  cleanUp.push(() => observer.kill());
  const second = await started([settings], withJournal(dir));
  second.hooks.sinks[0]?.emit(transaction());
  await until(() => observer.events.length === 2, "what came after it");
  await until(() => readdirSync(dir).length === 1, "the old journal is gone");
});

test("a journal that its process leaves while this one runs is sent on streams of its own; the live one goes on", async () => {
  const dir = freeFolder();
  const observer = await server();
  const settings = [
    hookSettings("o", observer.address, { roles: ["observe"] }),
    hookSettings("away", freeAddress(), { roles: ["observe"] }),
  ];
  const first = assemble(settings, withJournal(dir));
  await first.hooks.start();
  const second = await started(settings, withJournal(dir));
  emit(first, 10);
  await until(() => lines(observer.events).length === 10, "what the first one tells");
  await first.hooks.stop(100);
  second.hooks.adopt();
  emit(second, 10, (i) => comm({ data: Buffer.from(`line ${10 + i}`) }));
  await until(() => lines(observer.events).length === 20, "what the second one tells");
});

test("killed at any moment, the proxy loses no event that it told of more than a moment before", async () => {
  const dir = freeFolder();
  const address = freeAddress();
  const observer = new HookServer(address);
  observer.description = { name: "o", capabilities: OBSERVER };
  // Slow to store: most is unacknowledged when the proxy dies.
  observer.observe = (_, call) => setTimeout(() => call.ack(observer.lastSequence), 20);
  await observer.start();
  cleanUp.push(() => observer.kill());
  const told: string[] = [];
  const windows: number[] = [];
  for (let round = 0; round < 6; round++) {
    const child = spawn(
      process.execPath,
      [new URL("./emitter.ts", import.meta.url).pathname, address, dir, `${round}`],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    cleanUp.push(() => child.kill("SIGKILL"));
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    await once(child.stdout, "data");
    await new Promise((resolve) => setTimeout(resolve, 60 + round * 37));
    child.kill("SIGKILL");
    await once(child, "close");
    const rounds = output
      .split("\n")
      .slice(0, -1)
      .map((line) => line.split(" ") as [string, string]);
    told.push(...rounds.map(([name]) => name));
    windows.push(Number(rounds.at(-1)?.[1] ?? 0));
  }
  assert.ok(told.length > 2000, `${told.length}`);
  const last = await started([hookSettings("o", address, { roles: ["observe"] })], withJournal(dir));
  await until(() => readdirSync(dir).length === 1, "what was left is delivered", 20_000);
  const names = lines(unique(observer.events));
  const got = new Set(names);
  // Names are "round.number.ms": what is missing must be the end of its round, and young.
  for (let round = 0; round < 6; round++) {
    const mine = told.filter((name) => name.startsWith(`${round}.`));
    const missing = mine.filter((name) => !got.has(name));
    assert.deepEqual(missing, mine.slice(mine.length - missing.length), "a hole in the middle");
    const times = missing.map((name) => Number(name.split(".")[2]));
    const age = missing.length === 0 ? 0 : Number(mine.at(-1)?.split(".")[2]) - (times[0] as number);
    assert.ok(age <= 50, `round ${round}: ${missing.length} events of the last ${age} ms`);
  }
  assert.equal(names.length, new Set(names).size, "an event came under two ids");
  emit(last, 1);
});
