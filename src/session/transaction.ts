/**
 * A transaction (RFC 5321 §3.3): MAIL, RCPT …, DATA or BDAT, and its final reply. Keeps what its record needs; the replies
 * to pipelined commands come in long after the command was read, so whoever waits for one holds the transaction itself.
 */
import type {
  AddressFacts,
  AfterTransaction,
  FilterOutcome,
  OmittedAnswers,
  Outcome,
  RecipientFacts,
  ReplyFacts,
  RouteFacts,
  SessionFacts,
} from "../events/events.ts";

/**
 * What the accepted recipients of one transaction take at most in the envelope of a filter: with all else that is in it, it
 * stays below the 4 MiB that a gRPC server takes by default.
 */
export const MAX_ENVELOPE_RECIPIENT_OCTETS = 3 * 1024 * 1024;
/** Of protobuf, around an address. */
const ADDRESS_OVERHEAD = 16;

/**
 * What the recipients in a transaction's record and the replies to them take at most, until it ends: a destination may answer
 * each of a thousand with 64 KiB. Beyond it, further recipients are omitted, and replies cut. (An event holds less.)
 */
const MAX_RECORD_OCTETS = 1024 * 1024;
const CUT_REPLY_OCTETS = 512;

/** A recipient in the transaction's record, or one beyond those that it names. */
export interface RecipientRecord {
  readonly address: AddressFacts;
  readonly isOmitted: boolean;
  reply: ReplyFacts | undefined;
}

export class Transaction {
  readonly id: string;
  readonly mailFrom: AddressFacts;
  /** `SIZE=` of MAIL; 0: none. */
  readonly declaredOctets: number;
  readonly smtputf8: boolean;
  readonly eightBit: boolean;
  readonly startedAt: number;
  readonly recipients: RecipientRecord[] = [];
  recipientsOmitted = 0;
  /** Of the recipients in the record, and of the replies to all. */
  private recordOctets = 0;
  /** Of the omitted ones, by origin, class and code: a client may name any number of recipients. */
  private omitted: Map<string, { readonly reply: ReplyFacts; count: number }> | undefined;
  accepted = 0;
  mailReply: ReplyFacts | undefined;
  dataReply: ReplyFacts | undefined;
  finalReply: ReplyFacts | undefined;
  filters: readonly FilterOutcome[] = [];
  /** The decision that it came to nothing with; undefined: it is that of the leg at hand. */
  route: RouteFacts | undefined;
  messageOctets = 0;
  messageId: Buffer = Buffer.alloc(0);
  bdat = false;
  mailMs: number | undefined;
  rcptMs: number | undefined;
  dataMs: number | undefined;
  endOfDataMs: number | undefined;
  filterMs: number | undefined;
  /** Monotonic time of upstream's own 354, or of the reply to the last RCPT before BDAT. */
  dataAt: number | undefined;
  /** How long warp held the message before it said DATA itself. */
  heldMs = 0;
  /** Said where the replies alone don't tell. */
  outcome: Outcome | undefined;
  private reported = false;
  /** The accepted ones that an envelope has room for. */
  private readonly envelopeRecipients: AddressFacts[] = [];
  /** What those and the ones without an answer yet take in it. */
  private envelopeOctets = 0;

  constructor(
    id: string,
    mailFrom: AddressFacts,
    body: { readonly declaredOctets: number; readonly smtputf8: boolean; readonly eightBit: boolean },
    startedAt: number,
  ) {
    this.id = id;
    this.mailFrom = mailFrom;
    this.declaredOctets = body.declaredOctets;
    this.smtputf8 = body.smtputf8;
    this.eightBit = body.eightBit;
    this.startedAt = startedAt;
  }

  /** The destination has taken its MAIL. */
  get isOpenUpstream(): boolean {
    return this.mailReply !== undefined && this.mailReply.code < 300;
  }

  addRecipient(address: AddressFacts, limit: number): RecipientRecord {
    const isOmitted = this.recipients.length >= limit || this.recordOctets > MAX_RECORD_OCTETS;
    const record: RecipientRecord = { address, isOmitted, reply: undefined };
    if (isOmitted) this.recipientsOmitted++;
    else {
      this.recipients.push(record);
      this.recordOctets += envelopeOctets(address);
    }
    return record;
  }

  /** RCPT was answered, by whomever. */
  replied(record: RecipientRecord, reply: ReplyFacts): void {
    record.reply = this.kept(reply);
    if (!record.isOmitted) return;
    const key = `${reply.origin} ${reply.replyClass} ${reply.code}`;
    this.omitted ??= new Map();
    const group = this.omitted.get(key);
    if (group === undefined) this.omitted.set(key, { reply: record.reply, count: 1 });
    else group.count++;
  }

  private kept(reply: ReplyFacts): ReplyFacts {
    this.recordOctets += reply.text.length;
    if (this.recordOctets <= MAX_RECORD_OCTETS || reply.text.length <= CUT_REPLY_OCTETS) return reply;
    // A copy: the rest of the reply, and what came with it, is not kept.
    return { ...reply, text: Buffer.from(reply.text.subarray(0, CUT_REPLY_OCTETS)) };
  }

  /** Takes room in a filter's envelope for a recipient; false: there is not so much left. */
  reserve(address: AddressFacts): boolean {
    const octets = envelopeOctets(address);
    if (this.envelopeOctets + octets > MAX_ENVELOPE_RECIPIENT_OCTETS) return false;
    this.envelopeOctets += octets;
    return true;
  }

  /** The destination's answer to a recipient; `reserved`: that has room in the envelope. */
  answered(address: AddressFacts, isAccepted: boolean, reserved: boolean): void {
    if (isAccepted) this.accepted++;
    if (!reserved) return;
    if (isAccepted) this.envelopeRecipients.push(address);
    else this.envelopeOctets -= envelopeOctets(address);
  }

  /** All recipients that the destination accepted; undefined: more than an envelope has room for. */
  acceptedRecipients(): readonly AddressFacts[] | undefined {
    return this.envelopeRecipients.length === this.accepted ? this.envelopeRecipients : undefined;
  }

  /** The leg is lost, and the client told `reply`: the last word, unless the destination had refused already. */
  legLost(reply: ReplyFacts): void {
    if (this.outcomeOfReplies() === "abandoned") this.finalReply = reply;
  }

  /** The record, once; undefined the second time. `connectedAt`: monotonic, where this is the session's first. */
  report(
    session: SessionFacts,
    stages: {
      connectMs?: number | undefined;
      greetingMs?: number | undefined;
      ehloMs?: number | undefined;
      tlsMs?: number | undefined;
    },
    connectedAt: number | undefined,
  ): Omit<AfterTransaction, "kind" | "at" | "connectionId"> | undefined {
    if (this.reported) return undefined;
    this.reported = true;
    return {
      transactionId: this.id,
      session: this.route === undefined ? session : { ...session, route: this.route },
      mailFrom: this.mailFrom,
      recipients: this.recipients.map((record) => this.settled(record)),
      recipientsOmitted: this.recipientsOmitted,
      omittedAnswers: this.omittedAnswers(),
      mailReply: this.mailReply,
      dataReply: this.dataReply,
      finalReply: this.finalReply,
      messageOctets: this.messageOctets,
      filters: this.filters,
      timing: {
        connectMs: stages.connectMs,
        greetingMs: stages.greetingMs,
        ehloMs: stages.ehloMs,
        tlsMs: stages.tlsMs,
        mailMs: this.mailMs,
        rcptMs: this.rcptMs,
        dataMs: this.dataMs,
        endOfDataMs: this.endOfDataMs,
        filterMs: this.filterMs,
        elapseMs: this.elapseMs(connectedAt ?? this.startedAt),
      },
      outcome: this.outcome ?? this.outcomeOfReplies(),
      bdat: this.bdat,
      messageId: this.messageId,
    };
  }

  /** ms from `since` until the destination was ready for the message; -2: it never was. */
  elapseMs(since: number): number {
    return this.dataAt === undefined ? -2 : Math.max(0, Math.round(this.dataAt - since - this.heldMs));
  }

  private settled({ address, reply }: RecipientRecord): RecipientFacts {
    return { address, rcptReply: reply, finalReply: this.finalOf(reply) };
  }

  /** The last word to a recipient: RCPT's refusal, or what the message was answered. */
  private finalOf(rcptReply: ReplyFacts | undefined): ReplyFacts | undefined {
    if (rcptReply !== undefined && rcptReply.code >= 400) return rcptReply;
    const dataRefused = this.dataReply !== undefined && this.dataReply.code >= 400;
    return this.finalReply ?? (dataRefused ? this.dataReply : undefined);
  }

  private omittedAnswers(): readonly OmittedAnswers[] {
    if (this.recipientsOmitted === 0) return NONE_OMITTED;
    const groups = [...(this.omitted?.values() ?? [])].map(({ reply, count }) => ({
      count,
      rcptReply: reply as ReplyFacts | undefined,
      finalReply: this.finalOf(reply),
    }));
    const silent = groups.reduce((left, { count }) => left - count, this.recipientsOmitted);
    if (silent > 0) groups.push({ count: silent, rcptReply: undefined, finalReply: this.finalOf(undefined) });
    return groups;
  }

  private outcomeOfReplies(): Outcome {
    if (this.finalReply !== undefined) return outcomeOf(this.finalReply.code);
    if (this.dataReply !== undefined && this.dataReply.code >= 400) return outcomeOf(this.dataReply.code);
    if (this.mailReply !== undefined && this.mailReply.code >= 400) return outcomeOf(this.mailReply.code);
    const answered = this.recipients.filter((r) => r.reply !== undefined);
    if (answered.length > 0 && answered.every((r) => (r.reply as ReplyFacts).code >= 400)) {
      return answered.some((r) => (r.reply as ReplyFacts).code < 500) ? "deferred" : "refused";
    }
    return "abandoned";
  }
}

const NONE_OMITTED: readonly OmittedAnswers[] = [];

function envelopeOctets({ address, raw }: AddressFacts): number {
  return Buffer.byteLength(address, "utf8") + raw.length + ADDRESS_OVERHEAD;
}

function outcomeOf(code: number): Outcome {
  return code < 300 ? "accepted" : code < 500 ? "deferred" : "refused";
}
