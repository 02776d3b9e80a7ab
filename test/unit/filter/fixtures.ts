/** Messages and envelopes that the filter tests share. */

import type { SessionFacts } from "../../../src/events/events.ts";
import type { FilterEnvelope, HeldMessage, HoldStore, HoldWriter } from "../../../src/filter/contract.ts";

/** A held message in plain memory, in chunks of `size` octets; counts its releases. */
export class PlainMessage implements HeldMessage {
  readonly octets: number;
  releases = 0;
  private readonly content: Buffer;
  private readonly size: number;

  constructor(content: Buffer | string, size = 65_536) {
    this.content = Buffer.from(content as string, "latin1");
    this.octets = this.content.length;
    this.size = size;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    if (this.releases > 0) throw new Error("read after release");
    for (let at = 0; at < this.octets; at += this.size) yield this.content.subarray(at, at + this.size);
  }

  release(): void {
    this.releases++;
  }
}

/** Keeps everything; knows what was not given back. */
export class PlainStore implements HoldStore {
  readonly made: PlainMessage[] = [];
  full: Error | undefined;

  open(): HoldWriter {
    const pieces: Buffer[] = [];
    return {
      write: (chunk) => {
        if (this.full !== undefined) throw this.full;
        pieces.push(Buffer.from(chunk));
        return true;
      },
      finish: async () => {
        const message = new PlainMessage(Buffer.concat(pieces));
        this.made.push(message);
        return message;
      },
      abort: () => {},
    };
  }

  get leaked(): number {
    return this.made.filter((message) => message.releases === 0).length;
  }
}

export async function contentOf(message: HeldMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const chunk of message.chunks()) pieces.push(chunk);
  return Buffer.concat(pieces).toString("latin1");
}

export const SESSION: SessionFacts = {
  connectionId: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
  client: { ip: "192.0.2.7", port: 40000 },
  destination: { ip: "198.51.100.1", port: 25 },
  helo: Buffer.from("client.example"),
  esmtp: true,
  downstreamTls: undefined,
  upstreamTls: undefined,
  authUser: "",
  route: { sourceIp: "", pool: "", rule: "", tier: "", pinned: false },
  greeting: Buffer.from("220 mx.example ESMTP"),
  provider: "",
};

export function envelope(changes: Partial<FilterEnvelope> = {}): FilterEnvelope {
  return {
    transactionId: "01ARZ3NDEKTSV4RRFFQ69G5FAW",
    session: SESSION,
    mailFrom: address("alice@example.org"),
    recipients: [address("bob@example.net")],
    smtputf8: false,
    eightBit: false,
    maxOctets: undefined,
    ...changes,
  };
}

export function address(text: string) {
  return { address: text, raw: Buffer.from(`<${text}>`) };
}
