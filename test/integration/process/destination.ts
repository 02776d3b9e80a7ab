/** A small mail server for tests: remembers what it took, and can be told to let the final reply wait. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

export interface Taken {
  readonly from: string;
  readonly to: readonly string[];
  readonly message: string;
}

export class Destination {
  readonly port: number;
  /** Messages whose end came, in order. */
  readonly taken: Taken[] = [];
  /** How each connection ended: "closed" (FIN), or the code of an error (ECONNRESET). */
  readonly ends: string[] = [];
  /** Octets behind DATA of messages that never ended. */
  readonly unfinished: string[] = [];
  /** Awaited before the reply to the end of data. */
  hold: () => Promise<void> = async () => {};
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly waiting = new Set<() => void>();

  private constructor(server: Server) {
    this.server = server;
    this.port = (server.address() as { port: number }).port;
    server.on("connection", (socket) => this.serve(socket));
  }

  static async listen(port = 0): Promise<Destination> {
    const server = createServer();
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return new Destination(server);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get connections(): number {
    return this.sockets.size;
  }

  /** Subjects of everything that was taken. */
  get subjects(): string[] {
    return this.taken.map(({ message }) => /^Subject: (.*)\r$/m.exec(message)?.[1] ?? "");
  }

  /** Resolves once `test` holds; looked at whenever something happened here. */
  async until(test: () => boolean): Promise<void> {
    if (test()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(look);
        reject(new Error("the destination waited in vain"));
      }, 20_000);
      const look = (): void => {
        if (!test()) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
    });
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private happened(): void {
    for (const look of [...this.waiting]) look();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    let input = "";
    let from = "";
    let to: string[] = [];
    let inData = false;
    let end = "closed";
    const say = (line: string): void => void socket.write(`${line}\r\n`);
    const take = (): void => {
      for (;;) {
        if (inData) {
          const at = `\r\n${input}`.indexOf("\r\n.\r\n");
          if (at === -1) return;
          const message = input.slice(0, at);
          input = input.slice(at + 3);
          inData = false;
          this.taken.push({ from, to, message });
          this.happened();
          to = [];
          void this.hold().then(() => say("250 2.0.0 taken"));
          continue;
        }
        const at = input.indexOf("\r\n");
        if (at === -1) return;
        const line = input.slice(0, at);
        input = input.slice(at + 2);
        const verb = line.slice(0, 4).toUpperCase();
        if (verb === "EHLO") say("250-destination.test\r\n250-PIPELINING\r\n250 SIZE 10000000");
        else if (verb === "DATA") {
          inData = true;
          say("354 go on");
        } else if (verb === "QUIT") {
          say("221 2.0.0 bye");
          socket.end();
        } else {
          if (verb === "MAIL") from = line.slice(10);
          if (verb === "RCPT") to.push(line.slice(8));
          say("250 2.0.0 ok");
        }
      }
    };
    socket.on("data", (chunk) => {
      input += chunk.toString("latin1");
      take();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      end = error.code ?? "error";
    });
    socket.on("close", () => {
      this.sockets.delete(socket);
      this.ends.push(end);
      if (inData) this.unfinished.push(input);
      this.happened();
    });
    say("220 destination.test ESMTP");
    this.happened();
  }
}
