/**
 * A destination that offers CHUNKING and PIPELINING and keeps each message as it came: by DATA without the terminator and
 * unstuffed, by BDAT its chunks joined. For well-behaved senders only, which the proxy has to be.
 */

import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

export interface Received {
  readonly by: "DATA" | "BDAT";
  readonly from: string;
  readonly to: readonly string[];
  readonly message: string;
  /** Whom the connection came from. */
  readonly peer: string;
}

export class Destination implements AsyncDisposable {
  readonly received: Received[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket)).on("error", () => socket.destroy());
      new Dialogue(socket, (message) => this.received.push(message));
    });
  }

  static async start(): Promise<Destination> {
    const made = new Destination();
    made.#server.listen(0, "127.0.0.1");
    await once(made.#server, "listening");
    return made;
  }

  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return `127.0.0.1:${address.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

class Dialogue {
  readonly #socket: Socket;
  readonly #deliver: (message: Received) => void;
  #input = Buffer.alloc(0);
  #state: "command" | "data" | { readonly octets: number; readonly last: boolean } = "command";
  #from = "";
  #to: string[] = [];
  #chunks: Buffer[] = [];

  constructor(socket: Socket, deliver: (message: Received) => void) {
    this.#socket = socket;
    this.#deliver = deliver;
    socket.on("data", (chunk: Buffer) => {
      this.#input = Buffer.concat([this.#input, chunk]);
      while (this.#step());
    });
    this.#reply("220 destination.example ESMTP");
  }

  /** True: something was taken from the input. */
  #step(): boolean {
    if (this.#state === "data") return this.#takeData();
    if (this.#state !== "command") return this.#takeChunk(this.#state);
    const end = this.#input.indexOf("\r\n");
    if (end < 0) return false;
    const line = this.#input.subarray(0, end).toString("latin1");
    this.#input = this.#input.subarray(end + 2);
    this.#command(line);
    return true;
  }

  #command(line: string): void {
    const [verb = "", argument = "", last] = line.split(" ");
    switch (verb.toUpperCase()) {
      case "EHLO":
        return this.#reply("250-destination.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
      case "MAIL":
        this.#reset();
        this.#from = line.replace(/^.*?<|>.*$/g, "");
        return this.#reply("250 2.1.0 Ok");
      case "RCPT":
        this.#to.push(line.replace(/^.*?<|>.*$/g, ""));
        return this.#reply("250 2.1.5 Ok");
      case "DATA":
        this.#state = "data";
        this.#input = Buffer.concat([Buffer.from("\r\n"), this.#input]);
        return this.#reply("354 Go ahead");
      case "BDAT":
        this.#state = { octets: Number(argument), last: last?.toUpperCase() === "LAST" };
        return;
      case "QUIT":
        this.#reply("221 2.0.0 Bye");
        this.#socket.end();
        return;
      case "RSET":
        this.#reset();
        return this.#reply("250 2.0.0 Ok");
      default:
        return this.#reply(verb === "NOOP" ? "250 2.0.0 Ok" : "502 5.5.1 No such command");
    }
  }

  /** Moves what has come to the chunks, but for the octets that may belong to the terminator. */
  #takeData(): boolean {
    const end = this.#input.indexOf("\r\n.\r\n");
    const octets = end < 0 ? Math.max(0, this.#input.length - 4) : end + 2;
    this.#chunks.push(this.#input.subarray(0, octets));
    this.#input = this.#input.subarray(end < 0 ? octets : octets + 3);
    if (end < 0) return false;
    // The CRLF in front stands for that of the command's line: an empty message ends at once.
    const message = Buffer.concat(this.#chunks).toString("latin1").slice(2);
    this.#accept("DATA", message.replace(/^\.\./gm, "."));
    return true;
  }

  #takeChunk({ octets, last }: { octets: number; last: boolean }): boolean {
    if (this.#input.length < octets) return false;
    this.#chunks.push(this.#input.subarray(0, octets));
    this.#input = this.#input.subarray(octets);
    if (last) this.#accept("BDAT", Buffer.concat(this.#chunks).toString("latin1"));
    else {
      this.#state = "command";
      this.#reply("250 2.0.0 Chunk taken");
    }
    return true;
  }

  #accept(by: "DATA" | "BDAT", message: string): void {
    const peer = this.#socket.remoteAddress ?? "";
    this.#deliver({ by, from: this.#from, to: this.#to, message, peer });
    this.#reset();
    this.#reply("250 2.0.0 Taken");
  }

  #reset(): void {
    this.#state = "command";
    this.#from = "";
    this.#to = [];
    this.#chunks = [];
  }

  #reply(text: string): void {
    this.#socket.write(`${text}\r\n`);
  }
}
