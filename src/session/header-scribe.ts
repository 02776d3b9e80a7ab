/** Reads a message's header section while it passes: for its event and its Message-ID. */
import type { Direction } from "../events/events.ts";
import { DotUnstuffer } from "../smtp/content.ts";
import { fieldValue, HeaderCollector } from "../smtp/header-section.ts";
import type { Recorder } from "./recorder.ts";
import type { Transaction } from "./transaction.ts";

export class HeaderScribe {
  private readonly collector = new HeaderCollector();
  private readonly unstuffer: DotUnstuffer | undefined;
  private written = false;
  private readonly record: () => void;

  /** `stuffed`: the octets come dot-stuffed, as they leave. */
  constructor(
    recorder: Recorder,
    tx: Transaction,
    about: { direction: Direction; leg: number; tls: boolean; stuffed: boolean },
  ) {
    this.unstuffer = about.stuffed ? new DotUnstuffer() : undefined;
    this.record = () => {
      const section = this.collector.section();
      tx.messageId = Buffer.from(fieldValue(section, "message-id") ?? "", "latin1").subarray(0, 998);
      recorder.line(about.direction, section, {
        transactionId: tx.id,
        leg: about.leg,
        tls: about.tls,
        origin: "upstream",
        truncated: this.collector.truncated,
        code: "message_header",
      });
    };
  }

  read(octets: Buffer): void {
    if (this.written) return;
    if (this.unstuffer === undefined) this.collector.read(octets);
    else for (const content of this.unstuffer.read(octets)) this.collector.read(content);
    if (this.collector.complete) this.end();
  }

  /** The message ended, or will not go on. */
  end(): void {
    if (this.written) return;
    this.written = true;
    this.record();
  }
}
