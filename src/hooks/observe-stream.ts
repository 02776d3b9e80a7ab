/**
 * One Observe stream: batches out, acknowledgements in. It keeps to the limits of what may be unacknowledged, sends
 * heartbeats when there is nothing else to send, and gives a server up that is silent for too long. Where events are
 * missing it sends a Gap, which carries the last of the missing sequences as its own.
 */
import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { ObserveResponseSchema } from "../gen/warp/hook/v1/hook_pb.ts";
import { cut, type Kinds } from "./block.ts";
import { SERVICE } from "./connection.ts";
import { encodeGap, sourceField } from "./event-encoding.ts";
import type { Feed } from "./feed.ts";
import type { UlidSource } from "./ulid.ts";
import { WireWriter } from "./wire.ts";

export interface StreamLimits {
  readonly batchEvents: number;
  readonly batchOctets: number;
  /** While events come all the time, a batch that is not full waits until the one before is so old. */
  readonly batchMs: number;
  readonly unackedEvents: number;
  readonly unackedOctets: number;
  readonly heartbeatMs: number;
  readonly silenceMs: number;
}
export const STREAM_LIMITS: StreamLimits = {
  batchEvents: 512,
  // 1 MiB with everything around the events.
  batchOctets: 1024 * 1024 - 1024,
  batchMs: 25,
  unackedEvents: 8192,
  unackedOctets: 8 * 1024 * 1024,
  heartbeatMs: 15_000,
  silenceMs: 45_000,
};

/** A gap that was announced and not acknowledged yet: sent again as it was. */
export interface KnownGap {
  readonly first: number;
  readonly last: number;
  readonly octets: Buffer;
}

export interface StreamContext {
  readonly limits: StreamLimits;
  readonly ids: UlidSource;
  /** By first sequence; of this Source. */
  readonly gaps: Map<number, KnownGap>;
  readonly kinds: () => Kinds;
  /** Everything up to here is stored, or was not for this observer. */
  readonly acknowledged: (sequence: number) => void;
  readonly dropped: (count: number) => void;
  readonly oddAck: (sequence: number) => void;
}

export type StreamEnd =
  | { readonly kind: "drained" }
  | {
      readonly kind: "closed";
      readonly status: Pick<grpc.StatusObject, "code" | "details">;
      /** It acknowledged something that was not acknowledged before. */
      readonly progressed: boolean;
    }
  | { readonly kind: "silent" };

interface InFlight {
  /** Of the last event in it. */
  readonly last: number;
  readonly octets: number;
  readonly events: number;
}

export class ObserveStream {
  private readonly call: grpc.ClientDuplexStream<Buffer, Buffer>;
  private readonly feed: Feed;
  private readonly context: StreamContext;
  private readonly prefix: Buffer;
  private readonly inFlight: InFlight[] = [];
  private unackedEvents = 0;
  private unackedOctets = 0;
  private sent: number;
  private acked: number;
  private status: Pick<grpc.StatusObject, "code" | "details"> | undefined;
  private progressed = false;
  private silent = false;
  private finishing = false;
  private blocked = false;
  private lastSentAt = performance.now();
  private lastBatchAt = Number.NEGATIVE_INFINITY;
  private pause: NodeJS.Timeout | undefined;
  private lastHeardAt = performance.now();
  private changedSince = false;
  /** `run` waits, and who ends the stream: more than one may. */
  private waiting: PromiseWithResolvers<void> | undefined;
  private readonly timer: NodeJS.Timeout;

  /** Sends what follows `acked`. */
  constructor(client: grpc.Client, feed: Feed, acked: number, context: StreamContext) {
    this.feed = feed;
    this.context = context;
    this.acked = acked;
    this.sent = acked;
    this.prefix = sourcePrefix(feed);
    this.call = client.makeBidiStreamRequest(
      `${SERVICE}/Observe`,
      (octets: Buffer) => octets,
      (octets: Buffer) => octets,
      new grpc.Metadata(),
    );
    this.call.on("data", (octets: Buffer) => this.received(octets));
    this.call.on("drain", () => {
      this.blocked = false;
      this.changed();
    });
    // The status tells the same, and always comes.
    this.call.on("error", () => {});
    this.call.on("status", (status: grpc.StatusObject) => this.ended(status));
    this.timer = setInterval(() => this.tick(), Math.min(1000, context.limits.heartbeatMs / 4));
  }

  /** Until the stream ends, or (of a finite feed) everything is acknowledged. Never rejects but for a journal's errors. */
  async run(): Promise<StreamEnd> {
    try {
      while (this.status === undefined && !this.finishing) {
        this.changedSince = false;
        if (!(await this.step())) await this.change();
      }
      if (this.status === undefined) return { kind: "drained" };
      if (this.silent) return { kind: "silent" };
      return { kind: "closed", status: this.status, progressed: this.progressed };
    } finally {
      clearInterval(this.timer);
      clearTimeout(this.pause);
    }
  }

  /** There is more in the feed. */
  changed(): void {
    this.changedSince = true;
    this.waiting?.resolve();
    this.waiting = undefined;
  }

  get isAcknowledged(): boolean {
    return this.acked >= this.feed.last;
  }

  /** Half-closes, and waits for the server's end for so long. */
  async finish(ms: number): Promise<void> {
    this.finishing = true;
    this.changed();
    this.call.end();
    const until = performance.now() + ms;
    while (this.status === undefined && performance.now() < until) {
      this.changedSince = false;
      const timer = setTimeout(() => this.changed(), until - performance.now());
      await this.change();
      clearTimeout(timer);
    }
    this.cancel();
  }

  cancel(): void {
    clearInterval(this.timer);
    if (this.status === undefined) this.call.cancel();
  }

  /** True: something was sent, or skipped; there may be more. */
  private async step(): Promise<boolean> {
    const { limits } = this.context;
    if (this.blocked || this.unackedEvents >= limits.unackedEvents) return false;
    // Room for the largest batch, since one event may be as large as that.
    if (this.inFlight.length > 0 && this.unackedOctets + limits.batchOctets > limits.unackedOctets)
      return false;
    const from = this.sent + 1;
    if (this.isTooEarly(from)) return false;
    const next = this.feed.next(from);
    const block = next instanceof Promise ? await next : next;
    if (this.status !== undefined || this.finishing) return false;
    if (block === undefined) return this.exhausted(from);
    if (block.firstSequence > from) {
      this.sendGap(
        from,
        block.firstSequence - 1,
        "events were dropped: the queue or the journal was full, or the journal damaged",
      );
      return true;
    }
    const batch = cut(block, from, this.context.kinds(), {
      events: Math.min(limits.batchEvents, limits.unackedEvents - this.unackedEvents),
      octets: limits.batchOctets,
    });
    if (batch.events > 0)
      this.send(batch.pieces, { last: batch.lastTaken, octets: batch.octets, events: batch.events });
    this.skipTo(batch.last);
    return true;
  }

  /**
   * What a batch costs both sides is more than what its events cost, so few go out where many events come: a full one at
   * once, else one each `batchMs`. Where events are rare each goes at once.
   */
  private isTooEarly(from: number): boolean {
    const { batchEvents, batchMs } = this.context.limits;
    const waiting = this.feed.last - from + 1;
    if (waiting <= 0 || waiting >= batchEvents) return false;
    const ms = this.lastBatchAt + batchMs - performance.now();
    if (ms <= 0) return false;
    this.pause ??= setTimeout(() => {
      this.pause = undefined;
      this.changed();
    }, Math.ceil(ms));
    return true;
  }

  private exhausted(from: number): boolean {
    if (!this.feed.finite) return false;
    if (from <= this.feed.last) {
      this.sendGap(from, this.feed.last, "events were dropped: the journal was full or damaged");
      return true;
    }
    if (this.inFlight.length > 0) return false;
    this.finishing = true;
    return true;
  }

  private sendGap(first: number, last: number, reason: string): void {
    let gap = this.context.gaps.get(first);
    if (gap === undefined) {
      const writer = new WireWriter(256);
      const at = writer.begin(2);
      const count = last - first + 1;
      const now = Date.now();
      encodeGap(writer, { firstSequence: first, count, reason }, this.context.ids.nextOctets(now), last, now);
      writer.end(at);
      gap = { first, last, octets: Buffer.from(writer.view()) };
      this.context.gaps.set(first, gap);
      this.context.dropped(count);
    }
    this.send([gap.octets], { last: gap.last, octets: gap.octets.length, events: 1 });
    this.skipTo(gap.last);
  }

  private send(pieces: readonly Buffer[], batch: InFlight): void {
    this.inFlight.push(batch);
    this.unackedEvents += batch.events;
    this.unackedOctets += batch.octets;
    this.lastBatchAt = performance.now();
    this.write(Buffer.concat([this.prefix, ...pieces]));
  }

  private write(request: Buffer): void {
    this.lastSentAt = performance.now();
    this.blocked = !this.call.write(request);
  }

  /** Events of other kinds need no acknowledgement. */
  private skipTo(sequence: number): void {
    this.sent = sequence;
    if (this.inFlight.length === 0) this.moveAcked(sequence);
  }

  private received(octets: Buffer): void {
    this.lastHeardAt = performance.now();
    let sequence: number;
    try {
      sequence = Number(fromBinary(ObserveResponseSchema, octets).ackedSequence);
    } catch {
      this.ended({ code: grpc.status.INTERNAL, details: "an acknowledgement is no protobuf" });
      this.call.cancel();
      return;
    }
    if (sequence > this.sent) {
      this.context.oddAck(sequence);
      return;
    }
    if (sequence > this.acked) this.progressed = true;
    while (this.inFlight.length > 0 && (this.inFlight[0] as InFlight).last <= sequence) {
      const batch = this.inFlight.shift() as InFlight;
      this.unackedEvents -= batch.events;
      this.unackedOctets -= batch.octets;
    }
    // Between what was sent and what was sent after it there may be others' events.
    this.moveAcked(this.inFlight.length === 0 ? this.sent : sequence);
    this.changed();
  }

  private moveAcked(sequence: number): void {
    if (sequence <= this.acked) return;
    this.acked = sequence;
    for (const [first, gap] of this.context.gaps) if (gap.last <= sequence) this.context.gaps.delete(first);
    this.context.acknowledged(sequence);
  }

  private tick(): void {
    const now = performance.now();
    const { heartbeatMs, silenceMs } = this.context.limits;
    if (now - this.lastHeardAt >= silenceMs) {
      this.silent = true;
      this.ended({ code: grpc.status.UNAVAILABLE, details: "silent" });
      this.call.cancel();
    } else if (now - this.lastSentAt >= heartbeatMs && !this.blocked && !this.finishing)
      this.write(this.prefix);
  }

  private ended(status: Pick<grpc.StatusObject, "code" | "details">): void {
    this.status ??= status;
    this.changed();
  }

  private change(): Promise<void> {
    if (this.changedSince) return Promise.resolve();
    this.waiting ??= Promise.withResolvers();
    return this.waiting.promise;
  }
}

function sourcePrefix(feed: Feed): Buffer {
  const writer = new WireWriter(512);
  sourceField(writer, 1, feed.source);
  return Buffer.from(writer.view());
}
