/**
 * The server's side of `BeforeRelay`: the envelope and the message go to the handler, its verdict goes back, once. The
 * verdict may come before the message was read. A handler that throws, or returns nothing, ends the call with an error:
 * the proxy then does what its operator configured (`on_failure`), and that is never a silent relay.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  type BeforeRelayRequest,
  BeforeRelayRequestSchema,
  type BeforeRelayResponse,
  BeforeRelayResponseSchema,
  type Envelope,
  HookService,
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
  /** Called for each message: begins the work now or when its turn comes. */
  readonly turn: (work: () => Promise<void>) => Promise<void>;
}

const PATH = `/${HookService.typeName}/${HookService.method.beforeRelay.name}`;
/** Chunks that are read before anybody asks for them. */
const READ_AHEAD = 2;

/**
 * Takes the calls of BeforeRelay where grpc-js lets a server's interceptors take part in them: the streams that it makes of
 * a call otherwise, and reading them chunk by chunk, cost a fifth of it. The method has to be registered all the same; its
 * requests undecoded.
 */
export function filterInterceptor(options: FilterOptions): grpc.ServerInterceptor {
  return (method, call) =>
    method.path === PATH ? new FilterCall(call, options) : new grpc.ServerInterceptingCall(call);
}

async function serve(call: FilterCall, options: FilterOptions): Promise<void> {
  try {
    const envelope = await call.envelope();
    const message = new HookMessage(call, options.maxMessageOctets);
    call.answer(responseOf(await options.handler(envelope, message, call.context)));
  } catch (cause) {
    if (call.cancelled) return;
    const error = asError(cause);
    options.onError(error);
    call.fail(error);
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

type Call = ConstructorParameters<typeof grpc.ServerInterceptingCall>[0];

/** One message's call; the chunks are read as they are asked for. */
class FilterCall extends grpc.ServerInterceptingCall implements AsyncIterableIterator<Buffer, undefined> {
  cancelled = false;
  readonly context: FilterContext;
  private readonly call: Call;
  private readonly options: FilterOptions;
  private readonly parts: Buffer[] = [];
  private reading = false;
  private halfClosed = false;
  private answered = false;
  private gone: AbortController | undefined;
  private waiting: PromiseWithResolvers<void> | undefined;

  constructor(call: Call, options: FilterOptions) {
    super(call);
    this.call = call;
    this.options = options;
    const signal = (): AbortSignal => this.signal();
    this.context = {
      get signal() {
        return signal();
      },
    };
  }

  override start(): void {
    this.call.start({
      onReceiveMetadata: () => void this.options.turn(() => serve(this, this.options)),
      onReceiveMessage: (octets: Buffer) => this.received(octets),
      onReceiveHalfClose: () => {
        this.halfClosed = true;
        this.waiting?.resolve();
      },
      onCancel: () => this.cancel(),
    });
  }

  async envelope(): Promise<Envelope> {
    const octets = await this.part();
    const part = octets === undefined ? undefined : decoded(octets);
    if (part?.case === "envelope") return part.value;
    throw new StatusError(
      grpc.status.INVALID_ARGUMENT,
      "the first part of a BeforeRelay call is the envelope",
    );
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    const octets = await this.part();
    if (octets === undefined) return { done: true, value: undefined };
    const value = chunkIn(octets);
    if (value !== undefined) return { done: false, value };
    throw new StatusError(
      grpc.status.INVALID_ARGUMENT,
      "after the envelope a BeforeRelay call has only chunks",
    );
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  answer(response: BeforeRelayResponse): void {
    this.answered = true;
    this.call.sendMessage(response, () => this.call.sendStatus({ code: grpc.status.OK, details: "OK" }));
  }

  fail(error: Error): void {
    this.answered = true;
    const { code, details } =
      error instanceof StatusError ? error : new StatusError(grpc.status.INTERNAL, error.message);
    this.call.sendStatus({ code, details });
  }

  /** The next request; undefined behind the last one. */
  private async part(): Promise<Buffer | undefined> {
    while (this.parts.length === 0 && !this.halfClosed) {
      if (this.cancelled) throw new Error("the proxy gave up");
      this.waiting = Promise.withResolvers();
      this.read();
      await this.waiting.promise;
    }
    const octets = this.parts.shift();
    if (octets !== undefined) this.read();
    return octets;
  }

  private read(): void {
    if (this.reading || this.halfClosed || this.parts.length >= READ_AHEAD) return;
    this.reading = true;
    this.call.startRead();
  }

  private received(octets: Buffer): void {
    this.reading = false;
    this.parts.push(octets);
    this.waiting?.resolve();
    this.read();
  }

  /** grpc-js says it after a normal end too. */
  private cancel(): void {
    if (this.answered) return;
    this.cancelled = true;
    this.gone?.abort();
    this.waiting?.resolve();
  }

  /** Made for those who ask. */
  private signal(): AbortSignal {
    this.gone ??= new AbortController();
    if (this.cancelled) this.gone.abort();
    return this.gone.signal;
  }
}

function decoded(octets: Buffer): BeforeRelayRequest["part"] {
  return fromBinary(BeforeRelayRequestSchema, octets).part;
}

/** What a request carries of the message, a view into it; undefined: it carries something else. */
function chunkIn(octets: Buffer): Buffer | undefined {
  const part = decoded(octets);
  if (part.case !== "chunk") return undefined;
  return Buffer.from(part.value.buffer, part.value.byteOffset, part.value.byteLength);
}
