/**
 * The server's side of `Observe`: batches go to the handler one after the other, and what it has stored is acknowledged.
 * A handler that fails leaves its batch unacknowledged and ends the stream with an error: the proxy reconnects and sends
 * the batch again. While a handler works nothing more is read of its stream (flow control holds the proxy back), and the
 * last acknowledgement is repeated so that the proxy does not take the stream for dead.
 */
import { once } from "node:events";
import { fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type AfterComm,
  type AfterConn,
  type AfterTransaction,
  type Event,
  type Gap,
  type Notice,
  type ObserveRequest,
  ObserveRequestSchema,
  type ObserveResponseSchema,
  type Source,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { asError, StatusError } from "./failure.ts";

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

/**
 * Requests come as octets, each decoded when it is its turn: grpc-js reads ahead, and a thousand decoded events are a
 * hundred thousand objects for the collector to carry along.
 */
type ObserveCall = grpc.ServerDuplexStream<unknown, MessageInitShape<typeof ObserveResponseSchema>>;

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
  const stream = new ObservedStream(call, options);
  const stop = (): void => stream.stop();
  stopping.addEventListener("abort", stop, { once: true });
  try {
    if (stopping.aborted) stream.stop();
    else await stream.run();
  } catch (cause) {
    if (stream.isOver) return; // nobody to tell: the proxy left (it will send the batch again), or we stopped
    const error = asError(cause);
    options.onError(error);
    const told =
      error instanceof StatusError
        ? error
        : new StatusError(grpc.status.UNAVAILABLE, `not stored: ${error.message}`);
    call.emit("error", told);
  } finally {
    // It outlives the stream.
    stopping.removeEventListener("abort", stop);
  }
}

class ObservedStream {
  readonly #call: ObserveCall;
  readonly #options: ObserveOptions;
  readonly #gone = new AbortController();
  #source: Source | undefined;
  #acked = 0n;
  /** The batch at hand; undefined: waiting for one. */
  #batch: AbortController | undefined;
  #stopping = false;

  constructor(call: ObserveCall, options: ObserveOptions) {
    this.#call = call;
    this.#options = options;
    call.once("cancelled", () => {
      this.#gone.abort();
      this.#batch?.abort();
    });
  }

  get isOver(): boolean {
    return this.#call.cancelled || (this.#stopping && this.#batch === undefined);
  }

  async run(): Promise<void> {
    for await (const request of this.#call.iterator({ destroyOnReturn: false })) {
      const { source, events } = decoded(request as Buffer);
      this.#source = source ?? this.#source;
      if (events.length > 0) await this.#store(events);
      if (!this.#acknowledge()) await once(this.#call, "drain", { signal: this.#gone.signal });
      if (this.#stopping) break;
    }
    this.#call.end();
  }

  /** Ends it now where nothing is under way, else behind the batch at hand. */
  stop(): void {
    this.#stopping = true;
    if (this.#batch === undefined) this.#call.end();
  }

  async #store(events: readonly Event[]): Promise<void> {
    const { handler, batchTimeoutMs, keepAliveMs } = this.#options;
    const batch = new AbortController();
    this.#batch = batch;
    const keepAlive = setInterval(() => this.#acknowledge(), keepAliveMs);
    try {
      await inTime(batchTimeoutMs, batch, handler(events, { source: this.#source, signal: batch.signal }));
    } finally {
      clearInterval(keepAlive);
    }
    this.#batch = undefined;
    this.#acked = events.at(-1)!.sequence;
  }

  /** False: the transport takes no more for now. */
  #acknowledge(): boolean {
    return this.#call.cancelled || this.#call.write({ ackedSequence: this.#acked });
  }
}

function decoded(octets: Buffer): ObserveRequest {
  try {
    return fromBinary(ObserveRequestSchema, octets);
  } catch (cause) {
    throw new StatusError(grpc.status.INTERNAL, `a request cannot be decoded: ${asError(cause).message}`);
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

/** Waits for the work, or gives it up by aborting `batch` and rejecting. */
async function inTime(limitMs: number, batch: AbortController, work: void | Promise<void>): Promise<void> {
  if (work === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`the handler took more than ${limitMs} ms for one batch (batchTimeoutMs)`));
      batch.abort();
    }, limitMs);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
