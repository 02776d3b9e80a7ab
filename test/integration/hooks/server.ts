/** Hook servers for the tests: real grpc-js servers that can do everything a bad one does. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { Telemetry } from "../../../src/events/telemetry.ts";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import {
  BeforeRelayRequestSchema,
  BeforeRelayResponseSchema,
  Capability,
  DescribeRequestSchema,
  DescribeResponseSchema,
  type Envelope,
  type Event,
  ObserveRequestSchema,
  ObserveResponseSchema,
  type SelectRouteRequest,
  SelectRouteRequestSchema,
  SelectRouteResponseSchema,
} from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import type { HooksTuning } from "../../../src/hooks/index.ts";
import { createHooks, type HookSettings, type Hooks, type HooksSettings } from "../../../src/hooks/index.ts";

export type Verdict = MessageInitShape<typeof BeforeRelayResponseSchema>;
type Raw = grpc.ServerDuplexStream<Buffer, Buffer>;

export interface FilterCall {
  readonly envelope: Envelope;
  /** Resolves with the message at half-close. */
  readonly message: Promise<Buffer>;
  answer(verdict: Verdict): void;
  readonly raw: Raw;
}
export interface ObserveCall {
  readonly raw: Raw;
  ack(sequence: bigint): void;
}

/** What it does is set by its fields, at any time. */
export class HookServer {
  description: MessageInitShape<typeof DescribeResponseSchema> = {
    name: "test",
    version: "1",
    capabilities: [
      Capability.BEFORE_RELAY,
      Capability.AFTER_COMM,
      Capability.AFTER_TRANSACTION,
      Capability.AFTER_CONN,
    ],
  };
  describeError: Partial<grpc.ServiceError> | undefined;
  filter: (call: FilterCall) => void = async (call) => {
    await call.message;
    call.answer({ verdict: { case: "relay", value: {} } });
  };
  /** Acknowledges every batch as stored, unless a test says otherwise. */
  observe: (events: readonly Event[], call: ObserveCall) => void = (_, call) => call.ack(this.lastSequence);
  route: ((request: SelectRouteRequest) => MessageInitShape<typeof SelectRouteResponseSchema>) | undefined;
  unimplemented = new Set<string>();
  readonly events: Event[] = [];
  readonly streams: Raw[] = [];
  lastSequence = 0n;
  described = 0;
  heartbeats = 0;
  private server: grpc.Server | undefined;
  readonly address: string;

  constructor(address: string) {
    this.address = address;
  }

  async start(credentials = grpc.ServerCredentials.createInsecure()): Promise<number> {
    const server = new grpc.Server({ "grpc.max_receive_message_length": 4 * 1024 * 1024 });
    server.addService(this.definition(), this.handlers());
    this.server = server;
    return new Promise((resolve, reject) =>
      server.bindAsync(this.address, credentials, (error, port) => (error ? reject(error) : resolve(port))),
    );
  }

  /** Like a crash: connections are cut. */
  kill(): void {
    this.server?.forceShutdown();
    this.server = undefined;
  }

  /** GOAWAY: calls under way may end, new ones are not taken. */
  drain(): void {
    this.server?.tryShutdown(() => {});
  }

  /** Ids of all events, as they came. */
  get ids(): string[] {
    return this.events.map(({ id }) => id);
  }

  private definition(): grpc.ServiceDefinition {
    const same = { requestSerialize: (o: Buffer) => o, requestDeserialize: (o: Buffer) => o } as const;
    const codec = { ...same, responseSerialize: (o: Buffer) => o, responseDeserialize: (o: Buffer) => o };
    const method = (name: string, streams: boolean) => ({
      path: `/warp.hook.v1.HookService/${name}`,
      requestStream: streams,
      responseStream: streams,
      ...codec,
    });
    const all: Record<string, unknown> = {
      Describe: method("Describe", false),
      SelectRoute: method("SelectRoute", false),
      Observe: method("Observe", true),
      BeforeRelay: method("BeforeRelay", true),
    };
    for (const name of this.unimplemented) delete all[name];
    return all as grpc.ServiceDefinition;
  }

  private handlers(): grpc.UntypedServiceImplementation {
    return {
      Describe: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        this.described++;
        fromBinary(DescribeRequestSchema, call.request);
        if (this.describeError !== undefined) done(this.describeError as grpc.ServiceError);
        else
          done(
            null,
            encode(toBinary(DescribeResponseSchema, create(DescribeResponseSchema, this.description))),
          );
      },
      SelectRoute: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
        const answer = this.route?.(fromBinary(SelectRouteRequestSchema, call.request));
        if (answer === undefined) return;
        done(null, encode(toBinary(SelectRouteResponseSchema, create(SelectRouteResponseSchema, answer))));
      },
      Observe: (raw: Raw) => this.observing(raw),
      BeforeRelay: (raw: Raw) => this.filtering(raw),
    };
  }

  private observing(raw: Raw): void {
    this.streams.push(raw);
    const ack = (sequence: bigint): void => {
      raw.write(
        encode(toBinary(ObserveResponseSchema, create(ObserveResponseSchema, { ackedSequence: sequence }))),
      );
    };
    raw.on("data", (octets: Buffer) => {
      const { events } = fromBinary(ObserveRequestSchema, octets);
      if (events.length === 0) this.heartbeats++;
      this.events.push(...events);
      this.lastSequence = events.at(-1)?.sequence ?? this.lastSequence;
      this.observe(events, { raw, ack });
    });
    raw.on("end", () => raw.end());
    raw.on("error", () => {});
  }

  private filtering(raw: Raw): void {
    const chunks: Buffer[] = [];
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    raw.on("data", (octets: Buffer) => {
      const { part } = fromBinary(BeforeRelayRequestSchema, octets);
      if (part.case === "chunk") {
        if (part.value.length > 65_536) throw new Error("a chunk of more than 64 KiB");
        chunks.push(Buffer.from(part.value));
      } else if (part.case === "envelope") {
        this.filter({
          envelope: part.value,
          message: promise,
          raw,
          answer: (verdict) => {
            raw.write(
              encode(toBinary(BeforeRelayResponseSchema, create(BeforeRelayResponseSchema, verdict))),
            );
            raw.end();
          },
        });
      }
    });
    raw.on("end", () => resolve(Buffer.concat(chunks)));
    raw.on("error", () => {});
  }
}

function encode(octets: Uint8Array): Buffer {
  return Buffer.from(octets);
}

export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "hooks-test-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function hookSettings(
  name: string,
  address: string,
  changes: Partial<HookSettings> = {},
): HookSettings {
  const [host = "", port = ""] = address.split(/:(?=\d+$)/);
  return {
    name,
    address: address.startsWith("unix:")
      ? { kind: "unix", path: address.slice(5) }
      : { kind: "tcp", host, port: Number(port) },
    roles: undefined,
    deadlineMs: 5000,
    onFailure: "tempfail",
    enforce: true,
    when: {},
    events: undefined,
    maxMessageOctets: undefined,
    headerOnly: undefined,
    tls: undefined,
    insecure: false,
    ...changes,
  };
}

export interface Told {
  readonly logs: { level: string; code: string; message: string }[];
  readonly failures: string[];
  readonly dropped: Map<string, number>;
}
export interface Assembled extends Told {
  readonly hooks: Hooks;
}

/** The part under test, with what it told telemetry. */
export function assemble(
  hooks: readonly HookSettings[],
  changes: Partial<HooksSettings> = {},
  tuning: HooksTuning = {},
): Assembled {
  const told: Told = { logs: [], failures: [], dropped: new Map() };
  const telemetry: Telemetry = {
    ...noTelemetry,
    log: (level, code, message) => told.logs.push({ level, code, message }),
    hookFailure: (hook, cause, applied) => told.failures.push(`${hook} ${cause} ${applied}`),
    eventsDropped: (hook, count) => told.dropped.set(hook, (told.dropped.get(hook) ?? 0) + count),
  };
  const settings: HooksSettings = {
    proxy: "test",
    workers: 1,
    hooks,
    filter: {
      holdMemoryOctets: 1024 * 1024,
      holdTotalOctets: 256 * 1024 * 1024,
      spool: undefined,
      chainBudgetMs: 120_000,
      discard: false,
    },
    journal: undefined,
    limits: { messageOctets: 20_000_000 },
    ...changes,
  };
  return { ...told, hooks: createHooks(settings, { telemetry, version: "test", worker: 0 }, tuning) };
}

/** Polls a condition that no event announces. */
export async function until(condition: () => boolean, what: string, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A filter and observer that answers one of its RPCs compressed in a way that no client has said it reads. */
export async function compressingServer(path: string, compressed: "Describe" | "Observe" | "BeforeRelay") {
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session.once("close", () => sessions.delete(session))));
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    const rpc = String(headers[":path"]).split("/").at(-1);
    const answer =
      rpc === "Describe" ? describedAs(Capability.BEFORE_RELAY, Capability.AFTER_CONN) : Buffer.alloc(0);
    stream.on("error", () => {});
    stream.respond(
      { "content-type": "application/grpc", "grpc-encoding": "snappy" },
      { waitForTrailers: true },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.resume().end(Buffer.from([rpc === compressed ? 1 : 0, 0, 0, 0, answer.length, ...answer]));
  });
  server.listen(path);
  await once(server, "listening");
  return () => {
    server.close();
    for (const session of sessions) session.destroy();
  };
}

function describedAs(...capabilities: Capability[]): Uint8Array {
  return toBinary(DescribeResponseSchema, create(DescribeResponseSchema, { name: "test", capabilities }));
}
