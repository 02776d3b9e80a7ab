/**
 * A command on its way up as it came, and the record of it. Whether the next command may be looked at before the reply is
 * the command's own matter (RFC 2920 §3.1).
 */
import { type Command, mayBePipelined, REDACTED_LINE, redactAuth } from "../smtp/command.ts";
import { CRLF } from "../smtp/octets.ts";
import type { OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { ExpectationKind, Leg } from "./leg.ts";
import type { Slot } from "./reply-queue.ts";
import type { Session } from "./session.ts";
import type { Transaction } from "./transaction.ts";

export class PassingOn {
  /**
   * Behind an AUTH, until it succeeds or a verb comes that warp knows: a client that reads no replies sends its secrets
   * (RFC 4954) whether or not it was asked for them.
   */
  secretsMayFollow = false;
  private readonly session: Session;

  constructor(session: Session) {
    this.session = session;
  }

  /** Passes a command on as it came; `answered` looks at the reply, which then goes down. */
  forward(
    command: Command,
    tx: Transaction | undefined,
    answered?: (reply: Reply, latencyMs: number, slot: Slot) => void,
    kind: ExpectationKind = "plain",
    timeoutMs = this.session.env.settings.timeouts.commandMs,
  ): void {
    const { session } = this;
    const leg = session.leg as Leg;
    const slot = session.open();
    const wait = !mayBePipelined(command.verb);
    this.recordCommand("->", command, tx);
    if (wait) session.block();
    leg.expect(
      (reply, latencyMs) => {
        answered?.(reply, latencyMs, slot);
        session.pass(slot, reply, tx);
        if (wait) session.unblock();
      },
      timeoutMs,
      kind,
    );
    this.write(leg, command.wire);
  }

  private write(leg: Leg, octets: Buffer): void {
    if (!leg.write(octets)) this.session.legFull();
  }

  record(direction: "->" | ">|", data: Buffer, tx?: Transaction, redacted = false): void {
    const { recorder, leg } = this.session;
    if (!recorder.comm) return;
    recorder.line(direction, data, {
      transactionId: tx?.id ?? "",
      leg: leg?.number ?? 0,
      tls: this.session.client.encrypted,
      redacted,
    });
  }

  private recordCommand(direction: "->" | ">|", command: Command, tx: Transaction | undefined): void {
    let shown = command.line;
    if (command.verb === "AUTH") shown = redactAuth(command);
    else if (command.verb === "OTHER" && this.secretsMayFollow) shown = REDACTED_LINE;
    this.record(direction, shown, tx, shown !== command.line);
  }

  refuse(command: Command, reply: OwnReply, tx?: Transaction): void {
    this.recordCommand(">|", command, tx);
    this.session.answer(this.session.open(), reply, tx);
  }

  /** A line of warp's own doing, or one that is no command; CRLF is put behind it. */
  line(leg: Leg, line: Buffer): void {
    this.write(leg, Buffer.concat([line, CRLF]));
  }
}
