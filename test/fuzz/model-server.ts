/**
 * A destination that reads SMTP by the letter, independent of warp's own reader: CRLF lines, CRLF.CRLF, counted chunks. It
 * notes every message it accepted and every breach of what warp promises; its answers are random, within the protocol.
 */
import type { Random } from "./random.ts";

export interface ServerTemper {
  /** Chance that a command is refused. */
  readonly refusal: number;
  /** Chance that it leaves instead of answering. */
  readonly departure: number;
  readonly keywords: readonly string[];
  /** The operator asks for encryption: nothing of a mail may come before it. */
  readonly encryptOnly: boolean;
  /** Chance that RSET, EHLO and QUIT are refused within a transaction, which then goes on (RFC 5321 §4.1.4). */
  readonly stubbornness: number;
}

/** A message that it took, as it knows it. */
export interface Taken {
  readonly content: string;
  readonly mailFrom: string;
  readonly recipients: readonly string[];
  readonly reply: string;
}

const ENDING: ReadonlySet<string> = new Set(["RSET", "EHLO", "QUIT"]);
const CARRYING: ReadonlySet<string> = new Set(["MAIL", "RCPT", "DATA"]);
const BEFORE_TLS = /^(EHLO|HELO|STARTTLS|RSET|NOOP|QUIT|BDAT 0)\b/i;

export class ModelServer {
  /** Each message that was answered with 2xx (its content as it stood on the wire between commands, unstuffed). */
  readonly accepted: Taken[] = [];
  readonly breaches: string[] = [];
  readonly commands: string[] = [];
  gone: "no" | "fin" | "rst" = "no";
  private input = "";
  private readonly out: string[] = [];
  private mode: "command" | "data" | "chunk" | "auth" = "command";
  private mail = false;
  private mailFrom = "";
  private recipients: string[] = [];
  private chunks = "";
  private chunkLeft = 0;
  private chunkLast = false;
  private chunkBroken = false;
  private tls = false;
  private readonly random: Random;
  private readonly temper: ServerTemper;

  constructor(random: Random, temper: ServerTemper) {
    this.random = random;
    this.temper = temper;
  }

  greet(): void {
    this.out.push(this.random.chance(this.temper.refusal / 4) ? "554 go away\r\n" : "220 mx.example\r\n");
  }

  /** What it says now; one reply or more. */
  takeOutput(): string {
    return this.out.splice(0).join("");
  }

  receive(octets: string): void {
    this.input += octets;
    while (this.gone === "no" && this.step());
  }

  /** TLS begins: nothing may have been pipelined behind STARTTLS. */
  secured(): void {
    if (this.input !== "") this.breaches.push(`plaintext behind STARTTLS: ${JSON.stringify(this.input)}`);
    this.tls = true;
    this.mail = false;
    this.recipients = [];
  }

  private step(): boolean {
    switch (this.mode) {
      case "data":
        return this.readData();
      case "chunk":
        return this.readChunk();
      default:
        return this.readLine();
    }
  }

  private readLine(): boolean {
    const end = this.input.indexOf("\r\n");
    if (end < 0) return false;
    const line = this.input.slice(0, end);
    this.input = this.input.slice(end + 2);
    this.commands.push(line);
    if (this.temper.encryptOnly && !this.tls && !BEFORE_TLS.test(line))
      this.breaches.push(`in plaintext under encrypt: ${line}`);
    if (/[\r\n]/.test(line)) this.breaches.push(`bare CR or LF in a command: ${JSON.stringify(line)}`);
    if (this.mode === "auth") {
      this.mode = "command";
      this.say(this.random.pick(["235 in", "535 no"]));
      return true;
    }
    if (this.random.chance(this.temper.departure)) {
      this.gone = this.random.pick(["fin", "rst"] as const);
      return false;
    }
    this.command(line);
    return true;
  }

  private say(reply: string): void {
    const lines = this.random.chance(0.1) ? `${reply.slice(0, 3)}-more\r\n` : "";
    this.out.push(`${lines}${reply}\r\n`);
  }

  private command(line: string): void {
    const verb = line.split(" ")[0]?.toUpperCase() ?? "";
    const refused = this.random.chance(this.temper.refusal);
    if (this.mail && ENDING.has(verb) && this.temper.stubbornness > 0) {
      if (this.random.chance(this.temper.stubbornness)) return this.say("502 the transaction goes on");
    }
    // RFC 3030 §2: what was begun by BDAT is lost, and has to be reset.
    if (this.chunkBroken && CARRYING.has(verb)) return this.say("503 RSET first");
    switch (verb) {
      case "EHLO":
        this.mail = false;
        this.recipients = [];
        this.chunks = "";
        this.chunkBroken = false;
        if (refused) return this.say("502 what");
        return this.ehlo();
      case "HELO":
        this.mail = false;
        this.recipients = [];
        this.chunks = "";
        return this.say("250 mx");
      case "STARTTLS":
        return this.say(refused ? "454 not now" : "220 go");
      case "MAIL":
        if (this.mail || refused)
          return this.say(this.mail ? "503 nested" : this.random.pick(["451 later", "550 never"]));
        this.mail = true;
        this.mailFrom = addressIn(line);
        return this.say("250 sender ok");
      case "RCPT":
        if (!this.mail || refused) return this.say(this.mail ? "550 who" : "503 no sender");
        this.recipients.push(addressIn(line));
        return this.say("250 recipient ok");
      case "DATA":
        return this.data(refused);
      case "BDAT":
        return this.bdat(line);
      case "RSET":
        this.mail = false;
        this.recipients = [];
        this.chunks = "";
        this.chunkBroken = false;
        return this.say("250 reset");
      case "AUTH":
        if (this.random.chance(0.5)) return this.say(this.random.pick(["235 in", "535 no"]));
        this.mode = "auth";
        return this.say("334 VXNlcm5hbWU6");
      case "QUIT":
        this.say("221 bye");
        this.gone = "fin";
        return;
      default:
        return this.say(this.random.pick(["250 fine", "500 what", "252 maybe"]));
    }
  }

  private ehlo(): void {
    const keywords = this.temper.keywords.filter((keyword) => keyword !== "STARTTLS" || !this.tls);
    const lines = ["mx.example", ...keywords];
    this.out.push(lines.map((text, i) => `250${i === lines.length - 1 ? " " : "-"}${text}\r\n`).join(""));
  }

  private data(refused: boolean): void {
    if (this.recipients.length === 0 || refused)
      return this.say(this.recipients.length === 0 ? "554 no recipients" : "451 later");
    this.mode = "data";
    this.say("354 go");
  }

  private readData(): boolean {
    const framed = `\r\n${this.input}`;
    const end = framed.indexOf("\r\n.\r\n");
    if (end < 0) {
      if (/(?<!\r)\n|\r(?!\n|$)/.test(this.input)) this.breaches.push("bare CR or LF within DATA");
      return false;
    }
    const body = framed.slice(2, Math.max(2, end + 2));
    if (/(?<!\r)\n|\r(?!\n)/.test(body)) this.breaches.push("bare CR or LF within DATA");
    this.input = framed.slice(end + 5);
    this.mode = "command";
    this.finish(body.replace(/^\./, "").replace(/\r\n\./g, "\r\n"));
    return true;
  }

  private bdat(line: string): void {
    const match = /^BDAT (\d+)( LAST)?$/i.exec(line);
    if (match === null) {
      this.breaches.push(`not a BDAT of warp's: ${line}`);
      return;
    }
    this.mode = "chunk";
    this.chunkLeft = Number(match[1]);
    this.chunkLast = match[2] !== undefined;
    if (this.chunkLeft > 65536) this.breaches.push("a chunk of over 64 KiB");
  }

  private readChunk(): boolean {
    if (this.input.length < this.chunkLeft) return false;
    const octets = this.input.slice(0, this.chunkLeft);
    this.input = this.input.slice(this.chunkLeft);
    this.mode = "command";
    if (this.recipients.length === 0 || this.chunkBroken) {
      this.say("503 out of order");
      return true;
    }
    if (this.random.chance(this.temper.refusal)) {
      this.chunkBroken = true;
      this.say("452 no room");
      return true;
    }
    this.chunks += octets;
    if (!this.chunkLast) {
      this.say("250 chunk");
      return true;
    }
    if (/(?<!\r)\n|\r(?!\n)/.test(this.chunks)) this.breaches.push("bare CR or LF within BDAT");
    this.finish(this.chunks);
    return true;
  }

  private finish(content: string): void {
    const { recipients } = this;
    this.mail = false;
    this.recipients = [];
    this.chunks = "";
    if (this.random.chance(this.temper.departure * 4)) {
      this.gone = this.random.pick(["fin", "rst"] as const);
      return;
    }
    if (this.random.chance(this.temper.refusal)) return this.say(this.random.pick(["451 later", "554 spam"]));
    const reply = `250 queued as ${this.accepted.length + 1}`;
    this.accepted.push({ content, mailFrom: this.mailFrom, recipients, reply });
    this.say(reply);
  }
}

function addressIn(line: string): string {
  return /<(.*?)>/.exec(line)?.[1] ?? "";
}
