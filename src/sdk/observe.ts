/**
 * The server's side of `Observe`: batches go to the handler one after the other, and what it has stored is acknowledged.
 * A handler that fails leaves its batch unacknowledged and ends the stream with an error: the proxy reconnects and sends
 * the batch again. While a handler works nothing more is read of its stream (flow control holds the proxy back), and the
 * last acknowledgement is repeated so that the proxy does not take the stream for dead.
 */
import { once } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type {
  AfterComm,
  AfterConn,
  AfterTransaction,
  Event,
  Gap,
  Notice,
  ObserveRequest,
  ObserveResponseSchema,
  Source,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { StatusError } from "./failure.ts";

export interface ObserveContext {
  /** Which proxy, worker and epoch the events are from; their sequences count within it. */
  readonly source: Source | undefined;
  /** Aborted when the proxy left or the server stops for good: the batch will come again. */
  readonly signal: AbortSignal;
}

/** Stores a batch, in order. Once it returned (or its promise resolved) the batch is acknowledged; if it throws, it comes again. */
export type ObserveHandler = (events: readonly Event[], context: ObserveContext) => void | Promise<void>;
/** Stores one event; the batch is acknowledged once the handlers of all its events have finished, one after the other. */
export type EventHandler<Value> = (
  value: Value,
  event: Event,
  context: ObserveContext,
) => void | Promise<void>;

export interface EventHandlers {
  /** One command line, one whole reply, a message's header section, or a note of warp's own. */
  readonly afterComm?: EventHandler<AfterComm>;
  /** At each transaction's end. */
  readonly afterTransaction?: EventHandler<AfterTransaction>;
  /** At each connection's end. */
  readonly afterConn?: EventHandler<AfterConn>;
  /** Events that the proxy had to drop. Sent to every observer. */
  readonly afterGap?: EventHandler<Gap>;
  /** Something the operator should know. Sent to every observer. */
  readonly afterNotice?: EventHandler<Notice>;
}

type ObserveCall = grpc.ServerDuplexStream<ObserveRequest, MessageInitShape<typeof ObserveResponseSchema>>;

export interface ObserveOptions {
  readonly handler: ObserveHandler;
  /** How long one batch may take; then the stream ends with an error. ms. */
  readonly batchTimeoutMs: number;
  /** How often the last acknowledgement is repeated while a batch is worked on. ms. */
  readonly keepAliveMs: number;
  /** Told of a batch that was not stored. */
  readonly onError: (error: Error) => void;
}

/** One stream, from its first batch to its end. `stopping` ends it cleanly behind the batch at hand. */
export async function serveObserve(
  call: ObserveCall,
  options: ObserveOptions,
  stopping: AbortSignal,
): Promise<void> {
  const requests = call.iterator({ destroyOnReturn: false }) as AsyncIterator<ObserveRequest>;
  const stopped = new Promise<"stopped">((resolve) => onAbort(stopping, () => resolve("stopped")));
  const gone = new AbortController();
  call.once("cancelled", () => gone.abort());
  let source: Source | undefined;
  let acked = 0n;
  const acknowledge = async (): Promise<void> => {
    if (!call.write({ ackedSequence: acked }) && !call.cancelled)
      await once(call, "drain", { signal: gone.signal });
  };
  try {
    for (;;) {
      const next = await Promise.race([requests.next(), stopped]);
      if (next === "stopped" || next.done === true) break;
      source = next.value.source ?? source;
      const { events } = next.value;
      const last = events.at(-1);
      if (last !== undefined) {
        const keepAlive = setInterval(() => call.write({ ackedSequence: acked }), options.keepAliveMs);
        try {
          await inTime(options, (signal) => options.handler(events, { source, signal }), gone.signal);
        } finally {
          clearInterval(keepAlive);
        }
        acked = last.sequence;
      }
      await acknowledge();
    }
    call.end();
  } catch (cause) {
    if (call.cancelled) return; // the proxy left: nobody to tell, and it will send the batch again
    const error = cause instanceof Error ? cause : new Error(String(cause));
    options.onError(error);
    call.emit("error", new StatusError(grpc.status.UNAVAILABLE, `not stored: ${error.message}`));
  }
}

/** One handler for whole batches, made of handlers for single events. */
export function perEvent(handlers: EventHandlers): ObserveHandler {
  return async (events, context) => {
    for (const event of events) {
      const done = dispatch(handlers, event, context);
      if (done !== undefined) await done;
    }
  };
}

function dispatch(handlers: EventHandlers, event: Event, context: ObserveContext): void | Promise<void> {
  const { kind } = event;
  switch (kind.case) {
    case "afterComm":
      return handlers.afterComm?.(kind.value, event, context);
    case "afterTransaction":
      return handlers.afterTransaction?.(kind.value, event, context);
    case "afterConn":
      return handlers.afterConn?.(kind.value, event, context);
    case "gap":
      return handlers.afterGap?.(kind.value, event, context);
    case "notice":
      return handlers.afterNotice?.(kind.value, event, context);
    case undefined:
      return undefined; // of a newer protocol: acknowledged, not understood
  }
}

async function inTime(
  options: ObserveOptions,
  work: (signal: AbortSignal) => void | Promise<void>,
  gone: AbortSignal,
): Promise<void> {
  const late = new AbortController();
  const signal = AbortSignal.any([gone, late.signal]);
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(
        new Error(`the handler took more than ${options.batchTimeoutMs} ms for one batch (batchTimeoutMs)`),
      );
      late.abort();
    }, options.batchTimeoutMs);
  });
  try {
    await Promise.race([work(signal), deadline]);
  } finally {
    clearTimeout(timer);
  }
}

function onAbort(signal: AbortSignal, then: () => void): void {
  if (signal.aborted) then();
  else signal.addEventListener("abort", then, { once: true });
}
