import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import type { EventKind, WarpEvent } from "../../../src/events/events.ts";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { ObserveRequestSchema } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { type Block, cut, isWhole } from "../../../src/hooks/block.ts";
import { EventLog, type LogReader } from "../../../src/hooks/event-log.ts";
import { UlidSource } from "../../../src/hooks/ulid.ts";
import { comm, notice, transaction } from "./events.ts";

const SOURCE = { proxy: "p", worker: 0, epoch: "01ARZ3NDEKTSV4RRFFQ69G5FAX" };

function reader(acked: number | undefined): LogReader & { ackedSequence: number | undefined; wakes: number } {
  return {
    ackedSequence: acked,
    wakes: 0,
    wants: () => true,
    wake() {
      this.wakes++;
    },
  };
}
function setUp(maxOctets = 10_000_000, store?: { write(blocks: readonly Block[]): Promise<void> }) {
  const log = new EventLog({
    source: SOURCE,
    ids: new UlidSource(),
    maxOctets,
    store,
    telemetry: noTelemetry,
    gatherMs: 1,
  });
  return log;
}
const sequences = (octets: Buffer) =>
  fromBinary(ObserveRequestSchema, octets).events.map(({ sequence }) => Number(sequence));
const LIMITS = { events: 512, octets: 1_000_000 };

test("events are readable in order once they were gathered", async () => {
  const log = setUp();
  const one = reader(0);
  log.addReader(one);
  for (let i = 0; i < 5; i++) log.emit(comm());
  assert.equal(log.readable, 0);
  await log.flush();
  assert.deepEqual([log.last, log.readable, one.wakes], [5, 5, 1]);
  const block = log.blockWith(3) as Block;
  assert.ok(isWhole(block.octets, block.count));
  assert.deepEqual(sequences(block.octets), [1, 2, 3, 4, 5]);
  assert.equal(log.blockWith(6), undefined);
  log.close();
});

test("a cut has the events from a sequence on, within its limits", async () => {
  const log = setUp();
  for (let i = 0; i < 20; i++) log.emit(comm());
  await log.flush();
  const block = log.blockWith(1) as Block;
  const some = cut(block, 4, undefined, { events: 3, octets: 1_000_000 });
  assert.deepEqual([sequences(Buffer.concat(some.pieces)), some.last, some.events], [[4, 5, 6], 6, 3]);
  const one = cut(block, 4, undefined, { events: 10, octets: 1 });
  assert.deepEqual([sequences(Buffer.concat(one.pieces)), one.last], [[4], 4]);
  log.close();
});

test("a cut leaves out other kinds, and says how far it looked", async () => {
  const log = setUp();
  const all: WarpEvent[] = [comm(), transaction(), comm(), comm(), transaction(), notice(), comm()];
  for (const event of all) log.emit(event);
  await log.flush();
  const block = log.blockWith(1) as Block;
  const kinds: ReadonlySet<EventKind> = new Set(["after_transaction", "notice"]);
  const some = cut(block, 1, kinds, LIMITS);
  assert.deepEqual([sequences(Buffer.concat(some.pieces)), some.last, some.events], [[2, 5, 6], 7, 3]);
  const none = cut(block, 7, kinds, LIMITS);
  assert.deepEqual([none.pieces, none.last, none.events], [[], 7, 0]);
  const limited = cut(block, 1, kinds, { events: 1, octets: 1_000_000 });
  assert.deepEqual([sequences(Buffer.concat(limited.pieces)), limited.last], [[2], 4]);
  log.close();
});

test("what every reader has acknowledged is forgotten", async () => {
  const log = setUp();
  const [fast, slow, other] = [reader(0), reader(0), reader(undefined)];
  for (const each of [fast, slow, other]) log.addReader(each);
  for (let i = 0; i < 5000; i++) log.emit(comm());
  await log.flush();
  fast.ackedSequence = 5000;
  log.trim();
  assert.equal(log.first, 1);
  slow.ackedSequence = 3000;
  log.trim();
  assert.ok(log.first > 1 && log.first <= 3001, `${log.first}`);
  log.close();
});

test("memory is used again, and never while somebody has to read it", async () => {
  const log = setUp();
  const [fast, slow] = [reader(0), reader(0)];
  for (const each of [fast, slow]) log.addReader(each);
  const buffers = new Set<ArrayBufferLike>();
  let rounds = 0;
  for (let from = 1; log.last < 60_000; rounds++) {
    for (let i = 0; i < 700; i++) log.emit(comm());
    await log.flush();
    fast.ackedSequence = log.last;
    // It is some slabs behind.
    slow.ackedSequence = Math.max(0, log.last - 5000);
    log.trim();
    for (from = log.first; from <= log.last; ) {
      const block = log.blockWith(from) as Block;
      buffers.add(block.octets.buffer);
      const end = block.firstSequence + block.count;
      const expected = Array.from({ length: block.count }, (_, i) => block.firstSequence + i);
      if (rounds % 8 === 0) assert.deepEqual(sequences(block.octets), expected);
      from = end;
    }
  }
  assert.ok(buffers.size <= 6, `${buffers.size} buffers`);
  log.close();
});

test("beyond its size the log drops the oldest", async () => {
  const log = setUp(600_000);
  log.addReader(reader(0));
  for (let i = 0; i < 20_000; i++) log.emit(comm());
  await log.flush();
  assert.ok(log.first > 10_000, `${log.first}`);
  assert.equal(log.readable, 20_000);
  assert.deepEqual(sequences((log.blockWith(20_000) as Block).octets).at(-1), 20_000);
  log.close();
});

test("events are readable only when the store has written them, one write at a time", async () => {
  const writes: { blocks: readonly Block[]; done: () => void }[] = [];
  const log = setUp(10_000_000, {
    write: (blocks) => new Promise((done) => writes.push({ blocks, done })),
  });
  log.addReader(reader(0));
  log.emit(comm());
  const flushed = log.flush();
  log.emit(comm());
  log.emit(comm());
  assert.deepEqual([writes.length, log.readable], [1, 0]);
  writes[0]?.done();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([writes.length, log.readable], [2, 1]);
  writes[1]?.done();
  await flushed;
  assert.equal(log.readable, 3);
  assert.deepEqual(
    writes.map(({ blocks }) => blocks.map(({ firstSequence, count }) => [firstSequence, count])),
    [[[1, 1]], [[2, 2]]],
  );
  log.close();
});
