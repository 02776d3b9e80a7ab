/**
 * A client that sends what clients send and worse, cut anywhere, and counts: a reply for each command, in order. It knows
 * the content of each message whose end it sent, so that a 2xx can be held against what the destination has.
 */
import type { Random } from "./random.ts";

/** `begin`: a message by BDAT that was begun is forgotten where it succeeds. `last`: the last chunk of one. */
type Awaited = "greeting" | "command" | "begin" | "data" | "final" | "auth" | "chunk" | "last";

interface Expected {
  readonly kind: Awaited;
  readonly place: number;
  content?: string;
}

export interface ClientTemper {
  readonly hostile: boolean;
  readonly pipelines: boolean;
}

export class ModelClient {
  /** Contents of messages for which 2xx came. */
  readonly acceptedContents: string[] = [];
  readonly breaches: string[] = [];
  done = false;
  private awaited: Expected[] = [{ kind: "greeting", place: 0 }];
  private place = 0;
  /** Octets of each chunk, by its place among the commands. */
  private readonly chunks = new Map<number, string>();
  /** The message by BDAT at hand consists of chunks behind this place. */
  private chunksSince = 0;
  private input = "";
  private reply: string[] = [];
  private phase: "idle" | "message" | "auth" = "idle";
  private readonly random: Random;
  private readonly temper: ClientTemper;

  constructor(random: Random, temper: ClientTemper) {
    this.random = random;
    this.temper = temper;
  }

  /** The octets of its next move; undefined: it waits for replies. */
  move(): string | undefined {
    if (this.done) return undefined;
    if (this.phase === "message") return this.message();
    if (this.phase === "auth") {
      this.phase = "idle";
      this.expect("auth");
      return this.line("c2VjcmV0");
    }
    if (this.awaited.length > 0) return undefined;
    const count = this.temper.pipelines ? 1 + this.random.below(5) : 1;
    let text = "";
    for (let i = 0; i < count; i++) {
      const { octets, stop } = this.command();
      text += octets;
      if (stop) break;
    }
    return text;
  }

  private line(text: string): string {
    return `${text}\r\n`;
  }

  private command(): { octets: string; stop: boolean } {
    const { random } = this;
    const pick = random.below(100);
    if (pick < 12) return this.simple(`EHLO c${random.below(9)}`, true);
    if (pick < 15) return this.simple("HELO c", true);
    if (pick < 35) return this.simple(`MAIL FROM:<s${random.below(99)}@example.com>`, false);
    if (pick < 58) return this.simple(`RCPT TO:<r${random.below(99)}@example.net>`, false);
    if (pick < 72) {
      this.expect("data");
      return { octets: this.line("DATA"), stop: true };
    }
    if (pick < 82) return this.chunk();
    if (pick < 86) return this.simple("RSET", false);
    if (pick < 89) return this.simple("NOOP", false);
    if (pick < 91) return this.simple(`XUNKNOWN ${random.below(9)}`, true);
    if (pick < 93) {
      this.expect("auth");
      return { octets: this.line("AUTH LOGIN"), stop: true };
    }
    if (pick < 94) return this.simple("STARTTLS", true);
    if (pick < 96 && this.temper.hostile) {
      this.expect("command");
      return { octets: `NOOP a${random.pick(["\n", "\r"])}MAIL FROM:<evil@example.com>\r\n`, stop: false };
    }
    return this.simple("QUIT", true);
  }

  private simple(text: string, stop: boolean): { octets: string; stop: boolean } {
    this.expect(/^(EHLO|HELO|RSET|MAIL|STARTTLS)/.test(text) ? "begin" : "command");
    return { octets: this.line(text), stop };
  }

  private body(): string {
    const { random } = this;
    const parts = [
      "Subject: x\r\n",
      "line\r\n",
      "\r\n",
      ".dot\r\n",
      "a",
      "\0",
      "\xff",
      "x".repeat(random.below(3000)),
    ];
    if (this.temper.hostile)
      parts.push(
        "\n",
        "\r",
        "\n.\n",
        "\r.\r",
        "\n.\r\n",
        "\r\n.\n",
        "\r\r\n",
        "MAIL FROM:<evil@example.com>\r\n",
      );
    let text = "";
    for (let i = random.below(12); i > 0; i--) text += random.pick(parts);
    return text;
  }

  /** The message, as a client that stuffs dots at its lines' starts sends it. */
  private message(): string {
    this.phase = "idle";
    let body = this.body();
    if (body !== "" && !body.endsWith("\r\n")) body += "\r\n";
    const stuffed = body.replace(/^\./, "..").replace(/\r\n\./g, "\r\n..");
    const content = body.replace(/\r\n|\r|\n/g, "\r\n");
    this.expect("final").content = content;
    return `${stuffed}.\r\n`;
  }

  private chunk(): { octets: string; stop: boolean } {
    const body = this.body();
    const last = this.random.chance(0.6);
    this.chunks.set(this.expect(last ? "last" : "chunk").place, body);
    return { octets: `BDAT ${body.length}${last ? " LAST" : ""}\r\n${body}`, stop: false };
  }

  /** It is gone: what still comes for it is lost. */
  leave(): void {
    this.done = true;
  }

  receive(octets: string): void {
    this.input += octets;
    for (let end = this.input.indexOf("\r\n"); end >= 0; end = this.input.indexOf("\r\n")) {
      const line = this.input.slice(0, end);
      this.input = this.input.slice(end + 2);
      this.reply.push(line);
      if (line[3] === "-") continue;
      this.answered(Number(line.slice(0, 3)), this.reply.splice(0));
    }
  }

  private answered(code: number, lines: string[]): void {
    if (!(code >= 200 && code < 600)) this.breaches.push(`no reply: ${JSON.stringify(lines)}`);
    const awaited = this.awaited.shift();
    if (awaited === undefined) {
      if (code !== 421) this.breaches.push(`a reply to nothing: ${lines.join("|")}`);
      this.done = true;
      return;
    }
    if (code === 421) {
      this.done = true;
      return;
    }
    if (awaited.kind === "data" && code === 354) this.phase = "message";
    else if (awaited.kind === "data" && code < 300) this.breaches.push("2xx to DATA");
    if (awaited.kind === "auth" && code === 334) this.phase = "auth";
    if (code === 354 && awaited.kind !== "data") this.breaches.push(`354 to ${awaited.kind}`);
    if (awaited.content !== undefined && code < 300) this.acceptedContents.push(awaited.content);
    if (awaited.kind === "begin" && code < 300) this.chunksSince = awaited.place;
    if (awaited.kind === "last") this.lastAnswered(awaited.place, code);
    if (lines[0]?.startsWith("221")) this.done = true;
  }

  /** A message by BDAT: what it consists of is known only now, since a reset may have come in between. */
  private lastAnswered(place: number, code: number): void {
    const parts = [...this.chunks]
      .filter(([at]) => at > this.chunksSince && at <= place)
      .map(([, octets]) => octets);
    if (code < 300) this.acceptedContents.push(parts.join("").replace(/\r\n|\r|\n/g, "\r\n"));
    this.chunksSince = place;
  }

  private expect(kind: Awaited): Expected {
    const expected: Expected = { kind, place: ++this.place };
    this.awaited.push(expected);
    return expected;
  }

  get waiting(): number {
    return this.awaited.length;
  }
}
