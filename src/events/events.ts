/**
 * The records of what happened: plain values that the session makes, and that the log, `--verbose`, the metrics and the
 * hook streams are made from. They mirror `proto/warp/hook/v1/hook.proto`, with durations as numbers (ms) and enums as
 * words. An event is never changed once it was emitted; octets that a peer supplied stay octets.
 */

/** `->` and `<-`: passed on as they came. The rest ends or begins at warp (`--` is a note of warp's own). */
export type Direction = ">|" | "|>" | "|<" | "<|" | "->" | "<-" | "--";
/** Who made a reply. */
export type Origin = "upstream" | "warp" | "hook";
export type Outcome =
  | "accepted"
  | "deferred"
  | "refused"
  | "filtered"
  | "discarded"
  /** RSET, QUIT or a lost client before the end of data. */
  | "abandoned"
  /** The end of data went out and no reply came. */
  | "unknown";

export interface Endpoint {
  /** Textual address; a v4-mapped one is given as IPv4. */
  readonly ip: string;
  readonly port: number;
}

export interface TlsFacts {
  readonly encrypted: boolean;
  /** "TLSv1.3"; empty in plaintext. */
  readonly version: string;
  readonly cipher: string;
  readonly peerName: string;
  readonly verified: boolean;
  /** Why it is not verified, or not encrypted. */
  readonly reason: string;
  readonly policy: string;
}

export interface RouteFacts {
  /** Empty: the system chose. */
  readonly sourceIp: string;
  readonly pool: string;
  readonly rule: string;
  readonly tier: string;
  readonly pinned: boolean;
}

/** What is known of a session at the moment of an event. */
export interface SessionFacts {
  readonly connectionId: string;
  readonly client: Endpoint;
  readonly destination: Endpoint | undefined;
  readonly helo: Buffer;
  readonly esmtp: boolean;
  readonly downstreamTls: TlsFacts | undefined;
  readonly upstreamTls: TlsFacts | undefined;
  /** Of AUTH PLAIN and LOGIN, once accepted; else empty. */
  readonly authUser: string;
  readonly route: RouteFacts;
  /** The whole greeting of the (first) leg, without the last CRLF. */
  readonly greeting: Buffer;
  /** MX group of the destination (src/deliverability); empty where unknown. */
  readonly provider: string;
}

export interface AddressFacts {
  /** UTF-8, `\xff` where an octet is none; empty for the null sender `<>`. What else is left out: src/smtp/path.ts. */
  readonly address: string;
  /** Everything after the colon, parameters included, as it came. */
  readonly raw: Buffer;
  /** The path could not be read: the address is a guess, and conditions on it hold. Absent: it could. */
  readonly unreadable?: boolean;
}

export interface ReplyFacts {
  readonly code: number;
  /** "4.7.1", or empty. */
  readonly enhancedCode: string;
  /** The whole reply as it stands on the wire, codes included, without the last CRLF. */
  readonly text: Buffer;
  readonly origin: Origin;
  /** See src/deliverability; empty for replies that are not an answer about a message. */
  readonly replyClass: string;
  /** From the command (or the end of data) to the whole reply; undefined for warp's own. */
  readonly latencyMs: number | undefined;
  /** Whose verdict it was (origin "hook"), else empty. */
  readonly hook: string;
}

export interface RecipientFacts {
  readonly address: AddressFacts;
  readonly rcptReply: ReplyFacts | undefined;
  /** The answer that settled this recipient: of RCPT where that refused it, else of the end of data. */
  readonly finalReply: ReplyFacts | undefined;
}

/** Durations of the stages in ms; undefined: not reached. */
export interface Timing {
  readonly connectMs: number | undefined;
  readonly greetingMs: number | undefined;
  readonly ehloMs: number | undefined;
  readonly tlsMs: number | undefined;
  readonly mailMs: number | undefined;
  /** The slowest RCPT. */
  readonly rcptMs: number | undefined;
  readonly dataMs: number | undefined;
  readonly endOfDataMs: number | undefined;
  readonly filterMs: number | undefined;
  /** First transaction: from connect; later ones: from MAIL. -2: no 354. */
  readonly elapseMs: number;
}

/** What one filter said of one message. */
export interface FilterOutcome {
  readonly hook: string;
  /** relay, reject, add_header, replace, discard; empty where it failed. */
  readonly verdict: string;
  readonly score: number;
  readonly tags: readonly string[];
  /** For log and events, never for the peer. */
  readonly note: string;
  /** Why it failed, if it did: absent, refused, deadline, closed, invalid, breaker, followed by ": " and details. */
  readonly failure: string;
  /** What was applied then: tempfail, accept, reject. */
  readonly onFailure: string;
  readonly durationMs: number;
  /** enforce: false, so it was recorded and not applied. */
  readonly shadow: boolean;
  readonly reply: ReplyFacts | undefined;
}

/** One command line, one whole reply, a message's header section, or a note of warp's own. */
export interface AfterComm {
  readonly kind: "after_comm";
  readonly at: number;
  readonly connectionId: string;
  readonly direction: Direction;
  /** Without the last CRLF, at most 64 KiB, secrets redacted. */
  readonly data: Buffer;
  readonly truncated: boolean;
  readonly transactionId: string;
  /** 1 for the first connection to the destination; 0 where none is there yet. */
  readonly leg: number;
  readonly redacted: boolean;
  readonly origin: Origin;
  readonly tls: boolean;
  /** Stable name of a note (direction `--`), else empty. */
  readonly code: string;
}

/** Recipients who are in no event, and whose answers were of one class and code. */
export interface OmittedAnswers {
  readonly count: number;
  /** The first such answer to RCPT; undefined: there was none. */
  readonly rcptReply: ReplyFacts | undefined;
  /** As in `RecipientFacts`. */
  readonly finalReply: ReplyFacts | undefined;
}

/** At each final reply, RSET or loss of a transaction. */
export interface AfterTransaction {
  readonly kind: "after_transaction";
  readonly at: number;
  readonly connectionId: string;
  readonly transactionId: string;
  readonly session: SessionFacts;
  readonly mailFrom: AddressFacts;
  /** At most limits.recipients_recorded. */
  readonly recipients: readonly RecipientFacts[];
  readonly recipientsOmitted: number;
  /** What those were answered, for whoever counts. */
  readonly omittedAnswers: readonly OmittedAnswers[];
  readonly mailReply: ReplyFacts | undefined;
  readonly dataReply: ReplyFacts | undefined;
  readonly finalReply: ReplyFacts | undefined;
  readonly messageOctets: number;
  readonly filters: readonly FilterOutcome[];
  readonly timing: Timing;
  readonly outcome: Outcome;
  readonly bdat: boolean;
  /** Content of the Message-ID field with its angle brackets; empty where there was none. */
  readonly messageId: Buffer;
}

/** The original's record of a connection, and totals. */
export interface AfterConn {
  readonly kind: "after_conn";
  readonly at: number;
  readonly connectionId: string;
  readonly session: SessionFacts;
  /** Of the first transaction; undefined: none was seen. */
  readonly mailFrom: AddressFacts | undefined;
  readonly mailTo: readonly AddressFacts[];
  /** -1 never connected, -2 no 354. */
  readonly elapseMs: number;
  readonly transactions: number;
  readonly legs: number;
  readonly octetsIn: number;
  readonly octetsOut: number;
  readonly durationMs: number;
  /** client, upstream, warp. */
  readonly closedBy: string;
  readonly closeReason: string;
}

/** Something the operator should know: an IP cooled down, a hook down, a filter skipped. */
export interface Notice {
  readonly kind: "notice";
  readonly at: number;
  /** Empty where it is about no session. */
  readonly connectionId: string;
  readonly code: string;
  readonly text: string;
  readonly fields: Readonly<Record<string, string>>;
}

export type WarpEvent = AfterComm | AfterTransaction | AfterConn | Notice;
export type EventKind = WarpEvent["kind"];

/** Takes events as they happen; synchronous, bounded, and never throws into the session. */
export interface EventSink {
  /** False: this kind need not be made at all. Asked once per session. */
  wants(kind: EventKind): boolean;
  emit(event: WarpEvent): void;
}
