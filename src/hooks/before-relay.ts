/**
 * One message to one filter (RPC BeforeRelay): the envelope, then chunks of at most 64 KiB as fast as flow control takes
 * them, then half-close. The verdict may come at any time; what was not sent by then is not sent. Never retried.
 */
import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { CallResult, CallTerms } from "../filter/chain.ts";
import type { FilterEnvelope, HeldMessage } from "../filter/contract.ts";
import { sectionEnd } from "../filter/derived.ts";
import { BeforeRelayResponseSchema } from "../gen/warp/hook/v1/hook_pb.ts";
import { SERVICE } from "./connection.ts";
import { encodeEnvelope, type SourceFacts } from "./event-encoding.ts";
import { callFailure } from "./failure.ts";
import { WireWriter } from "./wire.ts";

/** How much of a message this hook gets. */
export interface Portion {
  /** Undefined: all of it. */
  readonly maxOctets: number | undefined;
  readonly headerOnly: boolean;
}

const PATH = `${SERVICE}/BeforeRelay`;
const CHUNK = 64 * 1024;
/** For all envelopes: each is copied out at once. */
const writer = new WireWriter(4096);
/** No metadata of ours; each call takes a copy. */
const NO_METADATA = new grpc.Metadata();
/** Chunks that may wait behind the one that the transport is taking. */
const AHEAD = 4;
/** gRPC's own deadline comes first; this is for a transport that does not keep it. */
const GRACE_MS = 500;

/** Never rejects, except where the held message cannot be read. */
export async function beforeRelay(
  client: grpc.Client,
  message: HeldMessage,
  envelope: FilterEnvelope,
  portion: Portion,
  terms: CallTerms,
  source: SourceFacts,
): Promise<CallResult> {
  const octets = portion.headerOnly ? await headerLength(message) : message.octets;
  const truncated = portion.maxOctets !== undefined && octets > portion.maxOctets;
  const call = new Call(client, terms);
  try {
    writer.clear();
    encodeEnvelope(
      writer,
      {
        ...envelope,
        messageOctets: message.octets,
        truncated,
        headerOnly: portion.headerOnly,
        earlier: terms.earlier,
        timeLeftMs: terms.deadlineMs,
        discardAllowed: terms.discardAllowed,
      },
      source,
    );
    call.pass(Buffer.from(writer.view()));
    await upload(call, message, truncated ? (portion.maxOctets as number) : octets);
    call.half();
    return await call.result(!truncated && !portion.headerOnly);
  } finally {
    call.close();
  }
}

async function upload(call: Call, message: HeldMessage, octets: number): Promise<void> {
  let left = octets;
  if (left === 0) return;
  for await (const chunk of message.chunks()) {
    const part = chunk.length > left ? chunk.subarray(0, left) : chunk;
    for (let at = 0; at < part.length; at += CHUNK) {
      if (call.answered) return;
      const taken = call.send(part.subarray(at, at + CHUNK));
      if (taken !== true) await taken;
    }
    left -= part.length;
    if (left === 0) return;
  }
}

/** Octets of the header section with the empty line behind it; all of the message where there is none. */
async function headerLength(message: HeldMessage): Promise<number> {
  let before = 0;
  let tail: Buffer = Buffer.alloc(0);
  for await (const chunk of message.chunks()) {
    const seen = Buffer.concat([tail, chunk]);
    const start = before - tail.length;
    const end = start === 0 ? sectionEnd(seen) : innerEnd(seen);
    if (end !== undefined) return start + end + 2;
    before += chunk.length;
    tail = seen.subarray(Math.max(0, seen.length - 3));
  }
  return message.octets;
}

function innerEnd(octets: Buffer): number | undefined {
  const found = octets.indexOf("\r\n\r\n", 0, "latin1");
  return found < 0 ? undefined : found + 2;
}

/**
 * The gRPC call, as a thing that can be awaited. It is made on the channel itself: the streams that a client puts around a
 * call cost a quarter of it.
 */
class Call {
  answered = false;
  private readonly call: ReturnType<grpc.ChannelInterface["createCall"]>;
  private readonly terms: CallTerms;
  private answer: Buffer | undefined;
  private answeredTwice = false;
  private status: Pick<grpc.StatusObject, "code" | "details"> | undefined;
  /** The transport takes one request at a time. */
  private taking = false;
  private waiting: Buffer[] = [];
  private readonly request = new ChunkRequest();
  private halfClosed = false;
  private wake: (() => void) | undefined;
  private readonly timer: NodeJS.Timeout;
  private readonly abort = (): void => this.cancel();

  constructor(client: grpc.Client, terms: CallTerms) {
    this.terms = terms;
    this.call = client.getChannel().createCall(PATH, Date.now() + terms.deadlineMs, null, null, null);
    this.call.start(NO_METADATA, {
      onReceiveMetadata: () => {},
      onReceiveMessage: (octets: Buffer) => this.received(octets),
      onReceiveStatus: (status) => this.ended(status),
    });
    this.call.startRead();
    this.timer = setTimeout(() => {
      this.ended({ code: grpc.status.DEADLINE_EXCEEDED, details: "" });
      this.cancel();
    }, terms.deadlineMs + GRACE_MS);
    terms.signal.addEventListener("abort", this.abort, { once: true });
    if (terms.signal.aborted) this.cancel();
  }

  /** Sends a request; nothing else may be on its way. */
  pass(request: Buffer): void {
    this.taking = true;
    this.call.sendMessageWithContext({ callback: this.taken }, request);
  }

  /** True: go on. A promise: wait until the next chunk may be sent, or until nobody wants it any more. */
  send(chunk: Buffer): true | Promise<void> {
    if (this.answered) return true;
    if (!this.taking) this.pass(this.request.with(chunk));
    else if (this.waiting.push(chunk) >= AHEAD) return this.room();
    return true;
  }

  /** Nothing more is sent. Also behind an early answer: a server may read on to here before it ends the call. */
  half(): void {
    this.halfClosed = true;
    // At once, since it goes out with the request that is being taken.
    if (this.waiting.length === 0) this.call.halfClose();
  }

  async result(sawWhole: boolean): Promise<CallResult> {
    while (this.status === undefined) await this.change();
    if (this.answeredTwice) return { ok: false, cause: "invalid", detail: "BeforeRelay was answered twice" };
    if (this.status.code !== grpc.status.OK || this.answer === undefined) {
      return { ok: false, ...callFailure(this.status, "BeforeRelay") };
    }
    try {
      return { ok: true, response: fromBinary(BeforeRelayResponseSchema, this.answer), sawWhole };
    } catch (cause) {
      return {
        ok: false,
        cause: "invalid",
        detail: `the answer is no protobuf: ${(cause as Error).message}`,
      };
    }
  }

  close(): void {
    clearTimeout(this.timer);
    this.terms.signal.removeEventListener("abort", this.abort);
    if (this.status === undefined) this.cancel();
  }

  private readonly taken = (): void => {
    this.taking = false;
    const next = this.waiting.shift();
    if (next === undefined) return;
    this.pass(this.request.with(next));
    if (this.halfClosed && this.waiting.length === 0) this.call.halfClose();
    this.progress();
  };

  private received(octets: Buffer): void {
    if (this.answer !== undefined) {
      // Neither counts, and there may be no end of them.
      this.answeredTwice = true;
      return this.cancel();
    }
    this.answer = octets;
    this.answered = true;
    this.drop();
    this.call.startRead();
    this.progress();
  }

  /** What waits is wanted no more. */
  private drop(): void {
    if (this.waiting.length === 0) return;
    this.waiting = [];
    if (this.halfClosed) this.call.halfClose();
  }

  private ended(status: Pick<grpc.StatusObject, "code" | "details">): void {
    this.status ??= status;
    this.answered = true;
    this.waiting = [];
    this.progress();
  }

  private cancel(): void {
    this.call.cancelWithStatus(grpc.status.CANCELLED, "Cancelled on client");
  }

  private async room(): Promise<void> {
    while (this.waiting.length >= AHEAD && !this.answered) await this.change();
  }

  private change(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private progress(): void {
    this.wake?.();
    this.wake = undefined;
  }
}

/**
 * `BeforeRelayRequest{chunk}`, in one buffer for all chunks of a message: what the transport has taken it has copied, into
 * a frame. Buffers of this size are what makes V8 collect garbage.
 */
class ChunkRequest {
  private buffer: Buffer | undefined;

  with(chunk: Buffer): Buffer {
    const size = chunk.length;
    const lengthOctets = size < 128 ? 1 : size < 16_384 ? 2 : 3;
    const octets = 1 + lengthOctets + size;
    if (this.buffer === undefined || this.buffer.length < octets) this.buffer = Buffer.allocUnsafe(octets);
    const request = this.buffer.subarray(0, octets);
    request[0] = (2 << 3) | 2;
    let rest = size;
    for (let i = 1; i < lengthOctets; i++) {
      request[i] = (rest & 127) | 128;
      rest >>= 7;
    }
    request[lengthOctets] = rest;
    chunk.copy(request, 1 + lengthOctets);
    return request;
  }
}
