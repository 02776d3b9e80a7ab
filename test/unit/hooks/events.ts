/** Events that the hook tests share, every field of them used. */
import type {
  AfterComm,
  AfterConn,
  AfterTransaction,
  Notice,
  ReplyFacts,
} from "../../../src/events/events.ts";
import { address, SESSION } from "../filter/fixtures.ts";

const TLS = {
  encrypted: true,
  version: "TLSv1.3",
  cipher: "TLS_AES_256_GCM_SHA384",
  peerName: "mx.example",
  verified: false,
  reason: "self-signed",
  policy: "may",
};

export function comm(changes: Partial<AfterComm> = {}): AfterComm {
  return {
    kind: "after_comm",
    at: 1_790_000_000_123.25,
    connectionId: SESSION.connectionId,
    direction: "->",
    data: Buffer.from("MAIL FROM:<alice@example.org>"),
    truncated: true,
    transactionId: "01ARZ3NDEKTSV4RRFFQ69G5FAW",
    leg: 2,
    redacted: true,
    origin: "hook",
    tls: true,
    code: "tls_connected",
    ...changes,
  };
}

export const REPLY: ReplyFacts = {
  code: 451,
  enhancedCode: "4.7.1",
  text: Buffer.from("451 4.7.1 später\xff", "latin1"),
  origin: "hook",
  replyClass: "greylisted",
  latencyMs: 1234.5678,
  hook: "spam",
};

export function transaction(changes: Partial<AfterTransaction> = {}): AfterTransaction {
  return {
    kind: "after_transaction",
    at: 1_790_000_000_000,
    connectionId: SESSION.connectionId,
    transactionId: "01ARZ3NDEKTSV4RRFFQ69G5FAW",
    session: { ...SESSION, downstreamTls: TLS, upstreamTls: TLS, authUser: "jörg", provider: "example" },
    mailFrom: address("alice@example.org"),
    recipients: [
      {
        address: address("bob@example.net"),
        rcptReply: { ...REPLY, latencyMs: undefined },
        finalReply: REPLY,
      },
      { address: address("carol@example.net"), rcptReply: REPLY, finalReply: undefined },
    ],
    recipientsOmitted: 3,
    omittedAnswers: [],
    mailReply: REPLY,
    dataReply: undefined,
    finalReply: REPLY,
    messageOctets: 5_000_000_000,
    filters: [
      {
        hook: "spam",
        verdict: "reject",
        score: -4.25,
        tags: ["a", "b"],
        note: "why",
        failure: "closed: gone",
        onFailure: "tempfail",
        durationMs: 0,
        shadow: true,
        reply: REPLY,
      },
    ],
    timing: {
      connectMs: 1,
      greetingMs: 0.5,
      ehloMs: undefined,
      tlsMs: 61_000,
      mailMs: 2,
      rcptMs: 3,
      dataMs: 4,
      endOfDataMs: 5,
      filterMs: 6,
      elapseMs: -2,
    },
    outcome: "filtered",
    bdat: true,
    messageId: Buffer.from("<x@example.org>"),
    ...changes,
  };
}

export function conn(changes: Partial<AfterConn> = {}): AfterConn {
  return {
    kind: "after_conn",
    at: 1_790_000_000_000,
    connectionId: SESSION.connectionId,
    session: SESSION,
    mailFrom: address(""),
    mailTo: [address("bob@example.net"), address("carol@example.net")],
    elapseMs: -1,
    transactions: 300,
    legs: 2,
    octetsIn: 10_000_000_000,
    octetsOut: 127,
    durationMs: 60_000.5,
    closedBy: "client",
    closeReason: "QUIT",
    ...changes,
  };
}

export function notice(changes: Partial<Notice> = {}): Notice {
  return {
    kind: "notice",
    at: 0,
    connectionId: "",
    code: "hook_down",
    text: "hook spam is not there: grün",
    fields: { hook: "spam", cause: "absent" },
    ...changes,
  };
}
