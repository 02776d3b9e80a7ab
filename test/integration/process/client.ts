/** SMTP clients for tests: one that is driven line by line, and a crowd that keeps sending as an MTA does. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface Reply {
  readonly code: number;
  readonly text: string;
}

export class Client {
  readonly socket: Socket;
  /** Code of the error that ended the connection; "closed" for a FIN; undefined while it is open. */
  end: string | undefined;
  readonly ended: Promise<string>;
  private input = "";
  private wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.input += chunk.toString("latin1");
      this.wake?.();
    });
    this.ended = new Promise((resolve) => {
      let code: string | undefined;
      socket.on("error", (error: NodeJS.ErrnoException) => {
        code = error.code ?? "error";
      });
      socket.on("close", () => {
        this.end = code ?? "closed";
        this.wake?.();
        resolve(this.end);
      });
    });
  }

  /** Rejects with the system's error. */
  static async connect(port: number, host = "127.0.0.1", localAddress?: string): Promise<Client> {
    const socket = connect({ port, host, ...(localAddress === undefined ? {} : { localAddress }) });
    socket.setNoDelay(true);
    await once(socket, "connect");
    return new Client(socket);
  }

  /** The next whole reply; rejects with the way in which the connection ended. */
  async reply(): Promise<Reply> {
    for (;;) {
      const match = /^(?:\d{3}-[^\n]*\n)*(\d{3})(?: [^\n]*)?\n/.exec(this.input);
      if (match !== null) {
        this.input = this.input.slice(match[0].length);
        return { code: Number(match[1]), text: match[0] };
      }
      if (this.end !== undefined) throw Object.assign(new Error(this.end), { code: this.end });
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  write(text: string): void {
    this.socket.write(text);
  }

  async say(line: string): Promise<Reply> {
    this.write(`${line}\r\n`);
    return this.reply();
  }

  /** Greeting, EHLO, MAIL, RCPT; throws at the first reply that is no 2xx. */
  async begin(): Promise<void> {
    expect2xx(await this.reply());
    for (const line of ["EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<b@destination.test>"])
      expect2xx(await this.say(line));
  }

  close(): void {
    this.socket.destroy();
  }
}

function expect2xx(reply: Reply): void {
  if (reply.code >= 300) throw Object.assign(new Error(reply.text), { code: String(reply.code) });
}

/** Sends one message on a connection of its own. Throws with `code`: that of the reply or of the system. */
export async function sendOne(port: number, subject: string, body = "hello"): Promise<void> {
  const client = await Client.connect(port);
  try {
    await client.begin();
    const start = await client.say("DATA");
    if (start.code !== 354) throw Object.assign(new Error(start.text), { code: String(start.code) });
    expect2xx(await client.say(`Subject: ${subject}\r\n\r\n${body}\r\n.`));
    client.write("QUIT\r\n");
    await client.reply().catch(() => {}); // it may close first: the message is delivered
  } finally {
    client.close();
  }
}

/** Clients that send one message after the other, each until it is accepted, as an MTA's queue does. */
export class Crowd {
  readonly accepted: string[] = [];
  /** What attempts ran into: "421", "ECONNREFUSED", "ECONNRESET", "closed". */
  readonly troubles = new Map<string, number>();
  private readonly port: number;
  private readonly loops: Promise<void>[];
  private stopping = false;
  private abandoned = false;
  private next = 0;

  constructor(port: number, clients: number) {
    this.port = port;
    this.loops = Array.from({ length: clients }, () => this.loop());
  }

  trouble(code: string): number {
    return this.troubles.get(code) ?? 0;
  }

  /** At once, also in the middle of a message: for the end of a test that failed. */
  abandon(): void {
    this.stopping = true;
    this.abandoned = true;
  }

  /** Resolves when everything that was begun is accepted. */
  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.loops);
  }

  private async loop(): Promise<void> {
    while (!this.stopping) {
      const subject = `message-${this.next++}`;
      while (!this.abandoned) {
        try {
          await sendOne(this.port, subject);
          this.accepted.push(subject);
          break;
        } catch (error) {
          const { code = String(error) } = error as { code?: string };
          this.troubles.set(code, this.trouble(code) + 1);
          if (code === "ECONNREFUSED") await new Promise((resolve) => setTimeout(resolve, 10));
        }
      }
    }
  }
}
