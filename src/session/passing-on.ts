/**
 * A command on its way up as it came, and the record of it. Whether the next command may be looked at before the reply is
 * the command's own matter (RFC 2920 §3.1).
 */
import { type Command, mayBePipelined, redactAuth } from "../smtp/command.ts";
import { CRLF } from "../smtp/octets.ts";
import type { OwnReply } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import type { ExpectationKind, Leg } from "./leg.ts";
import type { Slot } from "./reply-queue.ts";
import type { Session } from "./session.ts";
import type { Transaction } from "./transaction.ts";

export class PassingOn {
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
    const shown = command.verb === "AUTH" ? redactAuth(command) : command.line;
    this.record("->", shown, tx, shown !== command.line);
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

  refuse(command: Command, reply: OwnReply, tx?: Transaction): void {
    const shown = command.verb === "AUTH" ? redactAuth(command) : command.line;
    this.record(">|", shown, tx, shown !== command.line);
    this.session.answer(this.session.open(), reply, tx);
  }

  /** A line of warp's own doing, or one that is no command; CRLF is put behind it. */
  line(leg: Leg, line: Buffer): void {
    this.write(leg, Buffer.concat([line, CRLF]));
  }
}
