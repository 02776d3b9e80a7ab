/**
 * Every reply that warp makes itself (docs/transparency.md lists them). Codes are RFC 5321 §4.2.3 and RFC 3463; a 421 is
 * followed by closing the connection (RFC 5321 §3.8). `reason` is the label of `warp_own_replies_total`.
 */
import { formatReply } from "./reply.ts";

export interface OwnReply {
  readonly code: number;
  readonly enhancedCode: string;
  readonly reason: string;
  readonly text: string;
  readonly wire: Buffer;
  /** The connection is closed behind it. */
  readonly closes: boolean;
}

function own(
  code: number,
  enhancedCode: string,
  reason: string,
  text: string,
  closes = code === 421,
): OwnReply {
  return { code, enhancedCode, reason, text, wire: formatReply(code, enhancedCode, text), closes };
}

export const OWN = {
  clientNotAllowed: own(421, "4.7.1", "client_not_allowed", "Client network is not allowed here"),
  tooManySessions: own(421, "4.3.2", "too_many_sessions", "Too many connections, try again later"),
  stopping: own(421, "4.3.2", "stopping", "Service is shutting down, try again later"),
  destinationRefused: own(421, "4.3.5", "destination", "No destination for this connection"),
  dialFailed: own(421, "4.4.1", "dial", "Cannot connect to the destination"),
  legLost: own(421, "4.4.2", "leg_lost", "Connection to the destination lost"),
  clientIdle: own(421, "4.4.2", "idle", "Timeout, closing the connection"),
  outcomeUnknown: own(451, "4.4.2", "no_final_reply", "No final reply from the destination"),
  outOfTime: own(451, "4.4.2", "out_of_time", "Message not sent in time"),
  pinnedLegGone: own(421, "4.3.0", "pinned_leg_gone", "The session cannot be continued"),
  notEncrypted: own(421, "4.7.4", "tls_not_encrypted", "Encryption required, but not available"),
  notVerified: own(421, "4.7.5", "tls_not_verified", "Certificate of the destination not verified"),
  recipientNotEncrypted: own(451, "4.7.4", "tls_not_encrypted", "Encryption required for this recipient"),
  recipientNotVerified: own(
    451,
    "4.7.5",
    "tls_not_verified",
    "Verified certificate required for this recipient",
  ),
  mailHeld: own(250, "2.1.0", "mail_held", "Sender noted"),
  nestedMail: own(503, "5.5.1", "nested_mail", "A transaction is open already"),
  noRecipient: own(503, "5.5.1", "no_recipient", "No recipient was taken"),
  ehloFirst: own(503, "5.5.1", "ehlo_first", "Send EHLO first"),
  tooManyRecipients: own(452, "4.5.3", "too_many_recipients", "Too many recipients"),
  noUsableLeg: own(451, "4.4.4", "no_route", "No usable route to the destination"),
  greetingRefused: own(451, "4.4.0", "greeting_refused", "The destination refused the connection"),
  filterTempfail: own(451, "4.7.1", "filter_tempfail", "Message cannot be checked now, try again later"),
  filterReject: own(554, "5.7.1", "filter_reject", "Message cannot be checked"),
  noStorage: own(451, "4.3.1", "no_storage", "Insufficient storage, try again later"),
  tooLarge: own(552, "5.3.4", "too_large", "Message is too large"),
  bareNewline: own(550, "5.6.11", "bare_newline", "Bare carriage return or line feed in the message"),
  lineTooLong: own(500, "5.5.2", "line_too_long", "Line too long", true),
  bareNewlineInCommand: own(500, "5.5.2", "bare_newline", "Bare carriage return or line feed in the command"),
  nulInCommand: own(500, "5.5.2", "nul", "NUL in the command"),
  envelopeLineTooLong: own(500, "5.5.2", "line_too_long", "Line too long for MAIL or RCPT"),
  notOffered: own(502, "5.5.1", "not_offered", "Command not offered"),
  notOfferedParameter: own(555, "5.5.4", "not_offered", "Parameter not offered"),
  pipelinedStarttls: own(421, "4.7.0", "pipelined_starttls", "Plaintext behind STARTTLS"),
  bdatOutOfOrder: own(503, "5.5.1", "bdat_order", "BDAT out of order"),
  badBdat: own(501, "5.5.4", "bad_bdat", "BDAT takes a number of octets", true),
  startMessage: own(354, "", "filter_hold", "End data with <CR><LF>.<CR><LF>"),
  chunkHeld: own(250, "2.0.0", "filter_hold", "Octets received"),
  discarded: own(250, "2.0.0", "discarded", "Message accepted"),
  readyForTls: own(220, "2.0.0", "starttls", "Ready to start TLS"),
  goodbye: own(221, "2.0.0", "quit", "Closing the connection"),
} as const;
