/** Events for tests: whole ones, of which a test says what matters. */
import type {
  AddressFacts,
  AfterComm,
  AfterConn,
  AfterTransaction,
  RecipientFacts,
  ReplyFacts,
  SessionFacts,
} from "../../../src/events/events.ts";

export const CONNECTION = "01HZXW8Q4N6T5V3K2M1R0P9J7G";
const TRANSACTION = "01HZXW8Q4N6T5V3K2M1R0P9J7H";

export function session(parts: Partial<SessionFacts> = {}): SessionFacts {
  return {
    connectionId: CONNECTION,
    client: { ip: "192.0.2.7", port: 40_000 },
    destination: { ip: "198.51.100.25", port: 25 },
    helo: Buffer.from("client.example"),
    esmtp: true,
    downstreamTls: undefined,
    upstreamTls: undefined,
    authUser: "",
    route: { sourceIp: "", pool: "", rule: "", tier: "", pinned: false },
    greeting: Buffer.from("220 mx.example"),
    provider: "",
    ...parts,
  };
}
export function address(text: string): AddressFacts {
  return { address: text, raw: Buffer.from(`<${text}>`) };
}
export function reply(text: string, parts: Partial<ReplyFacts> = {}): ReplyFacts {
  return {
    code: Number(text.slice(0, 3)),
    enhancedCode: "",
    text: Buffer.from(text),
    origin: "upstream",
    replyClass: "",
    latencyMs: 12.4,
    hook: "",
    ...parts,
  };
}
export function recipient(to: string, final: ReplyFacts | undefined, rcpt = reply("250 ok")): RecipientFacts {
  return { address: address(to), rcptReply: rcpt, finalReply: final };
}
export function comm(parts: Partial<AfterComm> = {}): AfterComm {
  return {
    kind: "after_comm",
    at: 0,
    connectionId: CONNECTION,
    direction: "->",
    data: Buffer.from("NOOP"),
    truncated: false,
    transactionId: "",
    leg: 1,
    redacted: false,
    origin: "upstream",
    tls: false,
    code: "",
    ...parts,
  };
}
export function transaction(parts: Partial<AfterTransaction> = {}): AfterTransaction {
  return {
    kind: "after_transaction",
    at: 0,
    connectionId: CONNECTION,
    transactionId: TRANSACTION,
    session: session(),
    mailFrom: address("alice@example.net"),
    recipients: [recipient("bob@example.org", reply("250 2.0.0 queued"))],
    recipientsOmitted: 0,
    omittedAnswers: [],
    mailReply: reply("250 ok"),
    dataReply: reply("354 go on"),
    finalReply: reply("250 2.0.0 queued"),
    messageOctets: 1000,
    filters: [],
    timing: {
      connectMs: 5,
      greetingMs: 10,
      ehloMs: 20,
      tlsMs: undefined,
      mailMs: 1,
      rcptMs: 2,
      dataMs: 3,
      endOfDataMs: 400,
      filterMs: undefined,
      elapseMs: 41,
    },
    outcome: "accepted",
    bdat: false,
    messageId: Buffer.from("<1@example.net>"),
    ...parts,
  };
}
export function conn(parts: Partial<AfterConn> = {}): AfterConn {
  return {
    kind: "after_conn",
    at: 0,
    connectionId: CONNECTION,
    session: session(),
    mailFrom: address("alice@example.net"),
    mailTo: [address("bob@example.org"), address("carol@example.org")],
    elapseMs: 20,
    transactions: 1,
    legs: 1,
    octetsIn: 1200,
    octetsOut: 300,
    durationMs: 500,
    closedBy: "client",
    closeReason: "QUIT",
    ...parts,
  };
}
/** Collects whole lines. */
export class Lines {
  readonly lines: string[] = [];
  write(line: string): void {
    this.lines.push(line);
  }
}
