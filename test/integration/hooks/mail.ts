/** Both ends of the proxy for the tests: a destination that keeps what it is given, a client that sends octets as it likes. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

export interface Delivered {
  readonly from: string;
  /** Dot-unstuffed, with its last CRLF. */
  readonly message: Buffer;
  readonly bdat: boolean;
}

/** Speaks ESMTP with PIPELINING, CHUNKING and 8BITMIME; accepts everything. */
export class Destination {
  readonly delivered: Delivered[] = [];
  readonly commands: string[] = [];
  /** Octets of messages are counted and not kept. */
  keepsContent = true;
  octets = 0;
  private readonly server: Server = createServer((socket) => new DestinationSession(this, socket));
  private readonly sockets = new Set<Socket>();

  async start(): Promise<number> {
    this.server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    return (this.server.address() as AddressInfo).port;
  }

  stop(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

class DestinationSession {
  private readonly destination: Destination;
  private readonly socket: Socket;
  private buffer: Buffer = Buffer.alloc(0);
  private mode: "command" | "data" | { chunk: number; last: boolean } = "command";
  private from = "";
  private content: Buffer[] = [];

  constructor(destination: Destination, socket: Socket) {
    this.destination = destination;
    this.socket = socket;
    socket.setNoDelay(true);
    socket.write("220 mx.test ESMTP\r\n");
    socket.on("data", (octets: Buffer) => this.received(octets));
    socket.on("error", () => {});
  }

  private received(octets: Buffer): void {
    this.buffer = this.buffer.length === 0 ? octets : Buffer.concat([this.buffer, octets]);
    while (this.step());
  }

  private step(): boolean {
    if (this.mode === "data") return this.data();
    if (this.mode !== "command") return this.chunk(this.mode);
    const end = this.buffer.indexOf("\r\n");
    if (end < 0) return false;
    const line = this.buffer.toString("latin1", 0, end);
    this.buffer = this.buffer.subarray(end + 2);
    this.destination.commands.push(line);
    this.socket.write(this.answer(line));
    return true;
  }

  private answer(line: string): string {
    const [verb = "", argument = ""] = line.split(/ (.*)/);
    switch (verb.toUpperCase()) {
      case "EHLO":
        return "250-mx.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 50000000\r\n250 8BITMIME\r\n";
      case "MAIL":
        this.from = /<(.*?)>/.exec(argument)?.[1] ?? "";
        this.content = [];
        return "250 2.1.0 sender ok\r\n";
      case "DATA":
        this.mode = "data";
        return "354 go\r\n";
      case "BDAT":
        this.mode = { chunk: Number.parseInt(argument, 10), last: / LAST$/i.test(argument) };
        return "";
      case "QUIT":
        this.socket.end("221 bye\r\n");
        return "";
      default:
        return "250 2.0.0 ok\r\n";
    }
  }

  private data(): boolean {
    const isEmpty = this.buffer.subarray(0, 3).equals(Buffer.from(".\r\n")) && this.content.length === 0;
    const end = isEmpty ? -2 : this.buffer.indexOf("\r\n.\r\n");
    if (end === -1) {
      // All but what may be the begin of the end.
      const safe = Math.max(0, this.buffer.length - 4);
      if (!this.destination.keepsContent && safe > 0) {
        this.destination.octets += safe;
        this.buffer = this.buffer.subarray(safe);
      }
      return false;
    }
    const message = this.buffer
      .subarray(0, end + 2)
      .toString("latin1")
      .replace(/(^|\r\n)\./g, "$1");
    this.buffer = this.buffer.subarray(end + 5);
    this.done(Buffer.from(message, "latin1"), false);
    return true;
  }

  private chunk(mode: { chunk: number; last: boolean }): boolean {
    if (this.buffer.length < mode.chunk) return false;
    this.content.push(this.buffer.subarray(0, mode.chunk));
    this.buffer = this.buffer.subarray(mode.chunk);
    this.mode = "command";
    if (mode.last) this.done(Buffer.concat(this.content), true);
    else this.socket.write("250 2.0.0 chunk ok\r\n");
    return true;
  }

  private done(message: Buffer, bdat: boolean): void {
    this.mode = "command";
    this.destination.octets += message.length;
    this.destination.delivered.push({
      from: this.from,
      message: this.destination.keepsContent ? message : Buffer.alloc(0),
      bdat,
    });
    this.socket.write("250 2.0.0 queued\r\n");
  }
}

/** Sends what it is told, and gives replies one by one. */
export class Client {
  private socket: Socket | TLSSocket;
  private text = "";
  private wake: (() => void) | undefined;
  private closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.listen();
  }

  static async open(port: number): Promise<Client> {
    const socket = connect(port, "127.0.0.1");
    socket.setNoDelay(true);
    await once(socket, "connect");
    return new Client(socket);
  }

  /** In one write. */
  send(octets: string | Buffer): boolean {
    return this.socket.write(typeof octets === "string" ? Buffer.from(octets, "latin1") : octets);
  }

  async sendAll(octets: Buffer): Promise<void> {
    for (let at = 0; at < octets.length; at += 65_536) {
      if (!this.send(octets.subarray(at, at + 65_536))) await once(this.socket, "drain");
    }
  }

  /** The next whole reply, without its last CRLF; empty when the connection was closed. */
  async reply(ms = 30_000): Promise<string> {
    for (;;) {
      const match = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(this.text);
      if (match !== null) {
        this.text = this.text.slice(match[0].length);
        return match[0].slice(0, -2);
      }
      if (this.closed) return "";
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve, reject) => {
        this.wake = resolve;
        timer = setTimeout(
          () => reject(new Error(`no reply within ${ms} ms; so far: ${JSON.stringify(this.text)}`)),
          ms,
        );
      });
      clearTimeout(timer);
    }
  }

  async replies(count: number): Promise<string[]> {
    const all: string[] = [];
    for (let i = 0; i < count; i++) all.push(await this.reply());
    return all;
  }

  /** A command, and its reply. */
  ask(line: string): Promise<string> {
    this.send(`${line}\r\n`);
    return this.reply();
  }

  async startTls(): Promise<void> {
    this.socket.removeAllListeners("data");
    const secure = connectTls({ socket: this.socket as Socket, rejectUnauthorized: false });
    await once(secure, "secureConnect");
    this.socket = secure;
    this.listen();
  }

  close(): void {
    this.socket.destroy();
  }

  private listen(): void {
    this.socket.on("data", (octets: Buffer) => {
      this.text += octets.toString("latin1");
      this.wake?.();
    });
    this.socket.on("close", () => {
      this.closed = true;
      this.wake?.();
    });
    this.socket.on("error", () => {});
  }
}
