/**
 * What an event costs: protobuf-es against the encoder by hand, for one line of a dialogue and for a transaction, and the
 * whole way through the log (id, sequence, encoding, queue). Run: node bench/event-encoding.ts [events]
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { AfterComm, WarpEvent } from "../src/events/events.ts";
import { noTelemetry } from "../src/events/telemetry.ts";
import { EventSchema, Origin } from "../src/gen/warp/hook/v1/hook_pb.ts";
import { encodeEvent } from "../src/hooks/event-encoding.ts";
import { EventLog } from "../src/hooks/event-log.ts";
import { UlidSource } from "../src/hooks/ulid.ts";
import { WireWriter } from "../src/hooks/wire.ts";
import { comm, transaction } from "../test/unit/hooks/events.ts";

const events = Number(process.argv[2] ?? 200_000);
const source = { proxy: "mx-out-1", worker: 0, epoch: "01ARZ3NDEKTSV4RRFFQ69G5FAX" };
const line = comm({ direction: "->", truncated: false, redacted: false, origin: "upstream", code: "" });
const ID = Buffer.from("01ARZ3NDEKTSV4RRFFQ69G5FAY");
const writer = new WireWriter();

function byHand(event: WarpEvent): void {
  writer.clear();
  encodeEvent(writer, event, ID, 123_456, source);
}

function withLibrary(event: AfterComm): void {
  const seconds = Math.floor(event.at / 1000);
  const message: MessageInitShape<typeof EventSchema> = {
    id: "01ARZ3NDEKTSV4RRFFQ69G5FAY",
    sequence: 123_456n,
    occurredAt: { seconds: BigInt(seconds), nanos: Math.round((event.at - seconds * 1000) * 1e6) },
    connectionId: event.connectionId,
    kind: {
      case: "afterComm",
      value: {
        direction: 5,
        data: event.data,
        truncated: event.truncated,
        transactionId: event.transactionId,
        leg: event.leg,
        redacted: event.redacted,
        origin: Origin.UPSTREAM,
        tls: event.tls,
        code: event.code,
      },
    },
  };
  toBinary(EventSchema, create(EventSchema, message));
}

byHand(transaction());
const decoded = fromBinary(EventSchema, Buffer.from(writer.view()));
const log = new EventLog({
  source,
  ids: new UlidSource(),
  maxOctets: 16 * 1024 * 1024,
  store: undefined,
  telemetry: noTelemetry,
});

measure("AfterComm, protobuf-es", events, () => withLibrary(line));
measure("AfterComm, by hand", events, () => byHand(line));
measure("AfterTransaction, protobuf-es (already created)", events / 10, () => toBinary(EventSchema, decoded));
measure("AfterTransaction, by hand", events / 10, () => byHand(transaction()));
measure("AfterComm, id + sequence + encoding + queue", events, () => log.emit(line));
log.close();

function measure(name: string, count: number, run: () => void): void {
  for (let i = 0; i < count / 10; i++) run();
  const begin = process.cpuUsage();
  for (let i = 0; i < count; i++) run();
  const { user, system } = process.cpuUsage(begin);
  console.log(`${name.padEnd(52)} ${((user + system) / count).toFixed(2)} µs`);
}
