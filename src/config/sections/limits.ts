/** Caps and deadlines. */
import { z } from "zod";
import { readSize, Unreadable } from "../scalars.ts";
import { count, positiveSize, scalar, timer } from "../values.ts";

export const limits = z
  .strictObject({
    sessions: count(1, 1_000_000).prefault(5000).describe("Sessions at a time, of all workers together."),
    sessions_per_client: count(1, 1_000_000).prefault(500).describe("Sessions at a time from one address."),
    message: positiveSize.prefault(10_240_000).describe("Longest message; `552 5.3.4` beyond it."),
    command_line: scalar("size", (value) => {
      const octets = readSize(value);
      if (octets < 512) throw new Unreadable("a size of at least 512 octets (RFC 5321)");
      return octets;
    })
      .prefault("16KiB")
      .describe("Longest command line; AUTH may have 12,288 octets (RFC 4954)."),
    reply: scalar("size", (value) => {
      const octets = readSize(value);
      if (octets < 512) throw new Unreadable("a size of at least 512 octets (RFC 5321)");
      return octets;
    })
      .prefault("64KiB")
      .describe("Longest reply of a destination, all its lines together."),
    recipients_recorded: count(1, 1000)
      .prefault(1000)
      .describe("Recipients of one transaction that are in its event."),
  })
  .transform((raw) => ({
    sessions: raw.sessions,
    sessionsPerClient: raw.sessions_per_client,
    messageOctets: raw.message,
    commandLineOctets: raw.command_line,
    replyOctets: raw.reply,
    recipientsRecorded: raw.recipients_recorded,
  }));

export const timeouts = z
  .strictObject({
    dial: timer
      .prefault("25s")
      .describe("Connecting to the destination; below an MTA's own connect timeout."),
    greeting: timer.prefault("5m").describe("The destination's greeting."),
    command: timer.prefault("5m").describe("The reply to a command (MAIL, RCPT, EHLO, …)."),
    tls: timer.prefault("30s").describe("The reply to STARTTLS and the handshake."),
    data_start: timer.prefault("2m").describe("The reply to DATA."),
    data_block: timer.prefault("3m").describe("One block of the message, in either direction."),
    end_of_data: timer
      .prefault("9m")
      .describe(
        "From the client's end of data to the final reply, filters included; below the client's 10 minutes.",
      ),
    idle: timer.prefault("5m").describe("The client's next command."),
    drain: timer.prefault("60s").describe("How long running transactions may take at a stop or restart."),
  })
  .transform((raw) => ({
    dialMs: raw.dial,
    greetingMs: raw.greeting,
    commandMs: raw.command,
    tlsMs: raw.tls,
    dataStartMs: raw.data_start,
    dataBlockMs: raw.data_block,
    endOfDataMs: raw.end_of_data,
    idleMs: raw.idle,
    drainMs: raw.drain,
  }));
