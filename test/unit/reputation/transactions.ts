// Events as the session makes them, as short as a test can say them.
import type { TransactionFacts } from "../../../src/egress/contract.ts";
import type {
  AfterConn,
  AfterTransaction,
  FilterOutcome,
  Origin,
  ReplyFacts,
  SessionFacts,
  Timing,
} from "../../../src/events/events.ts";

export interface Answer {
  readonly code: number;
  readonly text: string;
  readonly origin?: Origin;
}

export function reply({ code, text, origin = "upstream" }: Answer): ReplyFacts {
  return {
    code,
    enhancedCode: /^[245]\.\d+\.\d+/.exec(text)?.[0] ?? "",
    text: Buffer.from(`${code} ${text}`),
    origin,
    replyClass: "",
    latencyMs: origin === "warp" ? undefined : 5,
    hook: "",
  };
}

/** What a router is asked for a sender without more: no recipient known, no login, no leg yet. */
export function routeFacts(from: string): TransactionFacts {
  return {
    client: { ip: "198.51.100.1", port: 1 },
    destination: { ip: "192.0.2.1", port: 25 },
    transactionId: "T",
    session: () => sessionFacts({}),
    mailFrom: { address: from, raw: Buffer.alloc(0) },
    recipient: undefined,
    authUser: "",
    ownLegs: [],
  };
}

export function sessionFacts(changes: Partial<SessionFacts>): SessionFacts {
  return {
    connectionId: "C",
    client: { ip: "198.51.100.1", port: 1 },
    destination: { ip: "192.0.2.1", port: 25 },
    helo: Buffer.from("client.example"),
    esmtp: true,
    downstreamTls: undefined,
    upstreamTls: undefined,
    authUser: "",
    route: { sourceIp: "", pool: "", rule: "", tier: "", pinned: false },
    greeting: Buffer.from("220 mx.example ESMTP"),
    provider: "",
    ...changes,
  };
}

const NO_TIMING: Timing = {
  connectMs: undefined,
  greetingMs: undefined,
  ehloMs: undefined,
  tlsMs: undefined,
  mailMs: undefined,
  rcptMs: undefined,
  dataMs: undefined,
  endOfDataMs: undefined,
  filterMs: undefined,
  elapseMs: 1,
};

export interface TransactionParts {
  readonly from: string;
  /** Final answers, one per recipient. */
  readonly answers: readonly Answer[];
  readonly mail?: Answer;
  readonly sourceIp?: string;
  readonly provider?: string;
  readonly filters?: readonly FilterOutcome[];
  readonly timing?: Partial<Timing>;
}

export function transaction(parts: TransactionParts): AfterTransaction {
  const { from, answers, mail, sourceIp = "", provider = "", filters = [], timing = {} } = parts;
  const last = answers.at(-1);
  return {
    kind: "after_transaction",
    at: 0,
    connectionId: "C",
    transactionId: "T",
    session: sessionFacts({
      provider,
      route: { sourceIp, pool: "", rule: "", tier: "", pinned: false },
    }),
    mailFrom: { address: from, raw: Buffer.from(`<${from}>`) },
    recipients: answers.map((answer, i) => ({
      address: { address: `r${i}@example.org`, raw: Buffer.alloc(0) },
      rcptReply: reply({ code: 250, text: "2.1.5 OK" }),
      finalReply: reply(answer),
    })),
    recipientsOmitted: 0,
    omittedAnswers: [],
    mailReply: mail === undefined ? undefined : reply(mail),
    dataReply: undefined,
    finalReply: last === undefined ? undefined : reply(last),
    messageOctets: 100,
    filters,
    timing: { ...NO_TIMING, ...timing },
    outcome: "accepted",
    bdat: false,
    messageId: Buffer.alloc(0),
  };
}

/** A connection that ended at its greeting. */
export function connection(greeting: string, sourceIp: string): AfterConn {
  return {
    kind: "after_conn",
    at: 0,
    connectionId: "C",
    session: sessionFacts({
      greeting: Buffer.from(greeting),
      route: { sourceIp, pool: "", rule: "", tier: "", pinned: false },
    }),
    mailFrom: undefined,
    mailTo: [],
    elapseMs: -2,
    transactions: 0,
    legs: 1,
    octetsIn: 0,
    octetsOut: 0,
    durationMs: 1,
    closedBy: "upstream",
    closeReason: "",
  };
}
