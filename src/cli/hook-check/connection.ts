/**
 * A plain client of one hook server, for `warp hook-check` and `warp hook-send`: each call has a deadline, and what comes
 * back is told as it was, without the proxy's judgement.
 */
import { performance } from "node:perf_hooks";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { ulid } from "ulid";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import {
  type BeforeRelayResponse,
  type DescribeResponse,
  type EnvelopeSchema,
  HookService,
  type ObserveRequestSchema,
  type ObserveResponse,
  type SelectRouteRequestSchema,
  type SelectRouteResponse,
} from "../../gen/warp/hook/v1/hook_pb.ts";
import { type CallStatus, reasonOf } from "../../hooks/failure.ts";
import { grpcTarget, type HookAddress } from "../../sdk/address.ts";
import { type ClientTls, clientCredentials } from "../../sdk/credentials.ts";
import { type ClientOf, createClient } from "../../sdk/grpc.ts";
import { version } from "../version.ts";

/** What one unary call came to. */
export type Outcome<T> = { readonly response: T } | { readonly error: grpc.ServiceError };

export interface Asked {
  readonly outcome: Outcome<BeforeRelayResponse>;
  readonly ms: number;
  /** Octets of the message that were handed to gRPC before the answer came. */
  readonly octetsSent: number;
}

/** Octets of a chunk, as the proxy sends them. */
export const CHUNK_OCTETS = 64 * 1024;

export type ObserveCall = grpc.ClientDuplexStream<
  MessageInitShape<typeof ObserveRequestSchema>,
  ObserveResponse
>;

export class HookConnection {
  readonly #hook: ClientOf<(typeof HookService)["method"]>;
  readonly #health: ClientOf<(typeof Health)["method"]>;
  readonly #timeoutMs: number;
  readonly #epoch = ulid();

  constructor(address: HookAddress, tls: ClientTls | undefined, timeoutMs: number) {
    const { credentials, options } = clientCredentials(address, tls);
    // A connection of its own, not one that grpc-js shares between clients, nor by way of a proxy that the environment
    // names; a replacement may be a large message.
    const channel = {
      ...options,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
      "grpc.max_receive_message_length": -1,
    };
    this.#hook = createClient(HookService, grpcTarget(address), credentials, channel);
    this.#health = createClient(Health, grpcTarget(address), credentials, channel);
    this.#timeoutMs = timeoutMs;
  }

  close(): void {
    this.#hook.close();
    this.#health.close();
  }

  /** Waits for the server to be there. Rejects with the reason, in words, where it is not in time. */
  async ready(): Promise<void> {
    const connected = await new Promise<boolean>((resolve) => {
      this.#hook.waitForReady(Date.now() + this.#timeoutMs, (error) => resolve(error === undefined));
    });
    if (connected) return;
    const call = await this.describe(); // which fails at once, and says why
    if ("error" in call) throw new Error(reasonOf(call.error));
  }

  describe(): Promise<Outcome<DescribeResponse>> {
    const source = { proxy: "hook-check", worker: 0, epoch: this.#epoch };
    const request = { warpVersion: version().version, hookName: "hook-check", source };
    return this.#unary((done) => this.#hook.describe(request, new grpc.Metadata(), this.#deadline(), done));
  }

  selectRoute(
    request: MessageInitShape<typeof SelectRouteRequestSchema>,
    timeoutMs: number,
  ): Promise<Outcome<SelectRouteResponse>> {
    return this.#unary((done) =>
      this.#hook.selectRoute(request, new grpc.Metadata(), { deadline: Date.now() + timeoutMs }, done),
    );
  }

  /** "SERVING", another status by name, or the error. */
  async health(service: string): Promise<Outcome<string>> {
    const outcome = await this.#unary<{ status: Status }>((done) =>
      this.#health.check({ service }, new grpc.Metadata(), this.#deadline(), done),
    );
    if ("error" in outcome) return outcome;
    const names = Object.entries(Status).find(([, value]) => value === outcome.response.status);
    return { response: names?.[0] ?? String(outcome.response.status) };
  }

  observe(): ObserveCall {
    return this.#hook.observe(new grpc.Metadata(), {});
  }

  /** One message, in chunks of at most 64 KiB, as fast as flow control lets them go; stops when the answer is there. */
  ask(
    envelope: MessageInitShape<typeof EnvelopeSchema>,
    message: Uint8Array,
    timeoutMs = this.#timeoutMs,
  ): Promise<Asked> {
    const started = performance.now();
    return new Promise((resolve) => {
      let octetsSent = 0;
      let answered = false;
      const options = { deadline: Date.now() + timeoutMs };
      const call = this.#hook.beforeRelay(new grpc.Metadata(), options, (error, response) => {
        answered = true;
        const outcome = error ? { error } : { response: response! };
        resolve({ outcome, ms: performance.now() - started, octetsSent });
      });
      call.on("error", () => undefined); // told by the callback too
      const next = (): void => {
        while (!answered) {
          if (octetsSent >= message.length) return void call.end();
          const chunk = message.subarray(octetsSent, octetsSent + CHUNK_OCTETS);
          octetsSent += chunk.length;
          if (!call.write({ part: { case: "chunk", value: chunk } })) return void call.once("drain", next);
        }
      };
      call.write({ part: { case: "envelope", value: envelope } }, () => next());
    });
  }

  /** Sends an envelope and a part of a message, then cancels. Resolves once the call is over. */
  cancelledAsk(envelope: MessageInitShape<typeof EnvelopeSchema>, part: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      const call = this.#hook.beforeRelay(new grpc.Metadata(), this.#deadline(), () => resolve());
      call.on("error", () => undefined);
      call.write({ part: { case: "envelope", value: envelope } });
      call.write({ part: { case: "chunk", value: part } }, () => call.cancel());
    });
  }

  #deadline(): grpc.CallOptions {
    return { deadline: Date.now() + this.#timeoutMs };
  }

  #unary<T>(
    call: (done: (error: grpc.ServiceError | null, value?: T) => void) => unknown,
  ): Promise<Outcome<T>> {
    return new Promise((resolve) => {
      call((error, value) => resolve(error ? { error } : { response: value! }));
    });
  }
}

/** What `statusText` says where a call of one answer got two. */
export const ANSWERED_TWICE = "the call was answered twice";

/** "UNAVAILABLE: connect ECONNREFUSED 127.0.0.1:7001", for a person. */
export function statusText(error: CallStatus): string {
  // grpc-js says UNIMPLEMENTED of it.
  if (error.details === "Too many responses received") return ANSWERED_TWICE;
  const reason = reasonOf(error);
  if (error.code === undefined) return reason;
  const name = grpc.status[error.code] ?? String(error.code);
  return reason === "" ? name : `${name}: ${reason}`;
}
