/** Reads a message's header section while it passes: for its event and its Message-ID. */
import type { Direction } from "../events/events.ts";
import { DotUnstuffer } from "../smtp/content.ts";
import { fieldValue, HeaderCollector } from "../smtp/header-section.ts";
import { join } from "../smtp/octets.ts";
import type { Recorder } from "./recorder.ts";
import type { Transaction } from "./transaction.ts";

export interface HeaderScribeOptions {
  readonly direction: Direction;
  readonly leg: number;
  readonly tls: boolean;
  /** The octets come dot-stuffed, as they leave. */
  readonly stuffed: boolean;
}

export class HeaderScribe {
  private readonly collector = new HeaderCollector();
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
    if (this.collector.complete) this.end();
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
    tx.messageId = Buffer.from(fieldValue(section, "message-id") ?? "", "latin1").subarray(0, 998);
    this.recorder.line(options.direction, section, {
      transactionId: tx.id,
      leg: options.leg,
      tls: options.tls,
      truncated: collector.truncated,
      code: "message_header",
    });
  }
}
