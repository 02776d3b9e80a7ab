/**
 * Makes a session's events. What nobody wants is not made at all; secrets are redacted before they come here, and no event
 * holds more than 64 KiB of anything.
 */
import type { AfterTransaction, Direction, EventSink, Origin, WarpEvent } from "../events/events.ts";
import type { Clock } from "./clock.ts";

const MAX_DATA = 65536;

export interface CommContext {
  readonly transactionId?: string;
  readonly leg?: number;
  readonly origin?: Origin;
  readonly tls?: boolean;
  readonly redacted?: boolean;
  readonly truncated?: boolean;
  readonly code?: string;
}

export class Recorder {
  /** Somebody wants AfterComm: make them. */
  readonly comm: boolean;
  private readonly connectionId: string;
  private readonly sinks: readonly EventSink[];
  private readonly clock: Clock;
  /** The record of the connection was made: nothing comes behind it. */
  private ended = false;

  constructor(connectionId: string, sinks: readonly EventSink[], clock: Clock) {
    this.connectionId = connectionId;
    this.sinks = sinks;
    this.clock = clock;
    this.comm = sinks.some((sink) => sink.wants("after_comm"));
  }

  /** A line, a reply or a header section; a CRLF at its end is left out. */
  line(direction: Direction, data: Buffer, context: CommContext): void {
    if (!this.comm) return;
    const end =
      data.length >= 2 && data[data.length - 1] === 10 && data[data.length - 2] === 13
        ? data.length - 2
        : data.length;
    const truncated = end > MAX_DATA;
    this.emit({
      kind: "after_comm",
      at: this.clock.wall(),
      connectionId: this.connectionId,
      direction,
      data: end === data.length && !truncated ? data : data.subarray(0, Math.min(end, MAX_DATA)),
      truncated: truncated || context.truncated === true,
      transactionId: context.transactionId ?? "",
      leg: context.leg ?? 0,
      redacted: context.redacted === true,
      origin: context.origin ?? "upstream",
      tls: context.tls === true,
      code: context.code ?? "",
    });
  }

  /** A note of warp's own. `code` is its stable name. */
  note(code: string, text: string, context: CommContext = {}): void {
    if (this.comm) this.line("--", Buffer.from(text), { ...context, origin: "warp", code });
  }

  emit(event: WarpEvent): void {
    if (this.ended) return;
    this.ended = event.kind === "after_conn";
    for (const sink of this.sinks) {
      if (sink.wants(event.kind)) sink.emit(event);
    }
  }

  transaction(event: Omit<AfterTransaction, "kind" | "at" | "connectionId">): void {
    this.emit({
      kind: "after_transaction",
      at: this.clock.wall(),
      connectionId: this.connectionId,
      ...event,
    });
  }
}
