/**
 * The server's side of `BeforeRelay`: the envelope and the message go to the handler, its verdict goes back, once. The
 * verdict may come before the message was read. A handler that throws, or returns nothing, ends the call with an error:
 * the proxy then does what its operator configured (`on_failure`), and that is never a silent relay.
 */
import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type BeforeRelayRequest,
  type BeforeRelayResponse,
  BeforeRelayResponseSchema,
  type Envelope,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { asError, StatusError } from "./failure.ts";
import { HookMessage } from "./message.ts";
import type { Verdict } from "./verdict.ts";

export interface FilterContext {
  /** Aborted when the proxy gave up: the client left, or the deadline is over. No answer is needed then. */
  readonly signal: AbortSignal;
}

/** Judges one message. What it throws is the hook's failure. */
export type FilterHandler = (
  envelope: Envelope,
  message: HookMessage,
  context: FilterContext,
) => Verdict | Promise<Verdict>;

export interface FilterOptions {
  readonly handler: FilterHandler;
  /** What `message.bytes()` takes into memory. */
  readonly maxMessageOctets: number;
  readonly onError: (error: Error) => void;
}

type FilterCall = grpc.ServerReadableStream<BeforeRelayRequest, Verdict>;

export async function serveBeforeRelay(
  call: FilterCall,
  done: grpc.sendUnaryData<Verdict>,
  options: FilterOptions,
): Promise<void> {
  const gone = new AbortController();
  const cancel = (): void => gone.abort();
  call.once("cancelled", cancel);
  try {
    const parts = call.iterator({ destroyOnReturn: false }) as AsyncIterator<BeforeRelayRequest>;
    const first = await parts.next();
    const part = first.done === true ? undefined : first.value.part;
    if (part?.case !== "envelope") {
      throw new StatusError(
        grpc.status.INVALID_ARGUMENT,
        "the first part of a BeforeRelay call is the envelope",
      );
    }
    const message = new HookMessage(chunksOf(parts), options.maxMessageOctets);
    const verdict = await options.handler(part.value, message, { signal: gone.signal });
    const response = responseOf(verdict);
    call.off("cancelled", cancel); // grpc-js says «cancelled» after a normal end too
    done(null, response);
  } catch (cause) {
    const error = asError(cause);
    if (call.cancelled) return;
    options.onError(error);
    call.off("cancelled", cancel);
    done(error instanceof StatusError ? error : new StatusError(grpc.status.INTERNAL, error.message));
  }
}

const VERDICTS = new Set<unknown>(
  BeforeRelayResponseSchema.oneofs[0]!.fields.map(({ localName }) => localName),
);

/** What the builders make passes, and what has its shape; a filter in plain JavaScript may return anything. */
function responseOf(verdict: Verdict): BeforeRelayResponse {
  if (!VERDICTS.has(verdict?.verdict?.case)) throw new Error("the filter returned no verdict");
  try {
    return create(BeforeRelayResponseSchema, verdict);
  } catch (cause) {
    throw new Error(`the filter returned a verdict that cannot be sent: ${asError(cause).message}`);
  }
}

async function* chunksOf(parts: AsyncIterator<BeforeRelayRequest>): AsyncGenerator<Buffer, void, undefined> {
  for (;;) {
    const next = await parts.next();
    if (next.done === true) return;
    const { part } = next.value;
    if (part.case !== "chunk") {
      throw new StatusError(
        grpc.status.INVALID_ARGUMENT,
        "after the envelope a BeforeRelay call has only chunks",
      );
    }
    yield Buffer.from(part.value.buffer, part.value.byteOffset, part.value.byteLength);
  }
}
