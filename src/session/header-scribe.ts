/**
 * Reads a message's header section while it passes: for its event and its Message-ID. Where the operator wants bodies in
 * the events (`log.bodies`), the event has the message's first 64 KiB instead.
 */
import type { Direction } from "../events/events.ts";
import { DotUnstuffer } from "../smtp/content.ts";
import { HeaderCollector, messageIdOf } from "../smtp/header-section.ts";
import { join } from "../smtp/octets.ts";
import type { Recorder } from "./recorder.ts";
import type { Transaction } from "./transaction.ts";

export interface HeaderScribeOptions {
  readonly direction: Direction;
  readonly leg: number;
  readonly tls: boolean;
  /** The octets come dot-stuffed, as they leave. */
  readonly stuffed: boolean;
  /** The whole message belongs into the event, not only its header section. */
  readonly bodies: boolean;
}

const MAX_BODY = 65536;

export class HeaderScribe {
  private readonly collector = new HeaderCollector();
  /** The message's beginning, where bodies are wanted. */
  private readonly whole: Buffer[] = [];
  private wholeOctets = 0;
  private truncated = false;
  private readonly recorder: Recorder;
  private readonly tx: Transaction;
  private readonly options: HeaderScribeOptions;
  private written = false;

  constructor(recorder: Recorder, tx: Transaction, options: HeaderScribeOptions) {
    this.recorder = recorder;
    this.tx = tx;
    this.options = options;
  }

  read(octets: Buffer): void {
    if (this.written) return;
    this.collector.read(octets);
    if (this.options.bodies) this.keep(octets);
    else if (this.collector.complete) this.end();
  }

  private keep(octets: Buffer): void {
    const kept = octets.subarray(0, MAX_BODY - this.wholeOctets);
    if (kept.length < octets.length) this.truncated = true;
    if (kept.length > 0) this.whole.push(kept);
    this.wholeOctets += kept.length;
  }

  /** The message ended, or will not go on. */
  end(): void {
    if (this.written) return;
    this.written = true;
    const { tx, options, collector } = this;
    // Dots of transparency do not hide the section's end, so only the section has to be unstuffed.
    const section = options.stuffed
      ? join(new DotUnstuffer().read(collector.section()))
      : collector.section();
    tx.messageId = Buffer.from(messageIdOf(section) ?? "", "latin1").subarray(0, 998);
    this.recorder.line(options.direction, options.bodies ? this.body() : section, {
      transactionId: tx.id,
      leg: options.leg,
      tls: options.tls,
      truncated: options.bodies ? this.truncated : collector.truncated,
      code: options.bodies ? "message" : "message_header",
    });
  }

  private body(): Buffer {
    const wire = join(this.whole);
    return this.options.stuffed ? join(new DotUnstuffer().read(wire)) : wire;
  }
}
