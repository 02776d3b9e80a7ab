/** A hook server on a Unix socket in a folder of its own, and a client to it; both gone at the end of the test. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type BeforeRelayRequestSchema,
  type BeforeRelayResponse,
  type EnvelopeSchema,
  type EventSchema,
  HookService,
  type ObserveRequestSchema,
  type ObserveResponse,
} from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { grpcTarget, parseAddress } from "../../../src/sdk/address.ts";
import { type ClientOf, createClient } from "../../../src/sdk/grpc.ts";
import { type HookOptions, type HookServer, serveHook } from "../../../src/sdk/index.ts";

export type HookClient = ClientOf<(typeof HookService)["method"]>;

export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "warp-sdk-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export async function start(
  t: TestContext,
  options: Omit<HookOptions, "name" | "listen"> & { name?: string; listen?: string },
): Promise<{ server: HookServer; client: HookClient; errors: string[] }> {
  const errors: string[] = [];
  const listen = options.listen ?? `unix:${join(await temporaryFolder(t), "hook.sock")}`;
  const stop = new AbortController();
  const server = await serveHook({
    name: "test",
    signal: stop.signal,
    onError: (error, rpc) => errors.push(`${rpc}: ${error.message}`),
    ...options,
    listen,
  });
  t.after(() => server.close(0));
  return { server, client: connect(t, server.address), errors };
}

export function connect(t: TestContext, address: string): HookClient {
  const client = createClient(
    HookService,
    grpcTarget(parseAddress(address)),
    grpc.credentials.createInsecure(),
  );
  t.after(() => client.close());
  return client;
}

export type Answer = { response: BeforeRelayResponse | undefined; error: grpc.ServiceError | undefined };

/** Sends one message with flow control and resolves to what came back. */
export function ask(
  client: HookClient,
  envelope: MessageInitShape<typeof EnvelopeSchema>,
  chunks: Iterable<Uint8Array>,
): Promise<Answer> {
  return new Promise((resolve) => {
    const call = client.beforeRelay((error, response) => resolve({ response, error: error ?? undefined }));
    call.on("error", () => undefined); // told by the callback
    void writeAll(call, envelope, chunks);
  });
}

async function writeAll(
  call: grpc.ClientWritableStream<MessageInitShape<typeof BeforeRelayRequestSchema>>,
  envelope: MessageInitShape<typeof EnvelopeSchema>,
  chunks: Iterable<Uint8Array>,
): Promise<void> {
  call.write({ part: { case: "envelope", value: envelope } });
  for (const chunk of chunks) {
    if (call.writableEnded || call.destroyed) return;
    if (!call.write({ part: { case: "chunk", value: chunk } })) {
      await new Promise<void>((resolve) => {
        call.once("drain", resolve);
        call.once("close", resolve);
        call.once("status", resolve);
      });
    }
  }
  call.end();
}

/** One Observe stream whose acknowledgements and end can be awaited. */
export class Stream {
  readonly acks: bigint[] = [];
  readonly ended: Promise<grpc.ServiceError | "clean">;
  readonly #call: grpc.ClientDuplexStream<MessageInitShape<typeof ObserveRequestSchema>, ObserveResponse>;
  #waiting: (() => void)[] = [];

  constructor(client: HookClient) {
    const call = client.observe();
    this.#call = call;
    call.on("data", ({ ackedSequence }) => {
      this.acks.push(ackedSequence);
      this.#wake();
    });
    this.ended = new Promise((resolve) => {
      call.on("error", (error) => resolve(error as grpc.ServiceError));
      call.on("end", () => resolve("clean"));
    });
    void this.ended.then(() => this.#wake());
  }

  send(events: MessageInitShape<typeof EventSchema>[]): void {
    this.#call.write({ source: { proxy: "p", worker: 1, epoch: "E" }, events });
  }
  end(): void {
    this.#call.end();
  }
  cancel(): void {
    this.#call.cancel();
  }
  /** Resolves once there are that many acknowledgements. */
  async acknowledged(count: number): Promise<bigint[]> {
    while (this.acks.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.acks;
  }
  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export function commEvents(first: number, count: number): MessageInitShape<typeof EventSchema>[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `ID${first + index}`,
    sequence: BigInt(first + index),
    kind: { case: "afterComm" as const, value: { data: Buffer.from("NOOP") } },
  }));
}
