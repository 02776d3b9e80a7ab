/** Raw peers for tests of the relay: a destination that a test scripts, a client that reads whole replies. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import * as tls from "node:tls";

export interface Listening {
  readonly port: number;
  close(): void;
}

/** Calls `serve` for each connection. */
export async function listen(serve: (socket: Socket) => void): Promise<Listening> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Calls `line` for each line of the socket's, without CRLF. */
export function lines(socket: Socket, line: (text: string) => void): void {
  let rest = "";
  socket.on("data", (chunk) => {
    rest += chunk.toString("latin1");
    for (let end = rest.indexOf("\r\n"); end >= 0; end = rest.indexOf("\r\n")) {
      const text = rest.slice(0, end);
      rest = rest.slice(end + 2);
      line(text);
    }
  });
}

export class RawClient {
  readonly socket: Socket;
  private text = "";
  private waiting: (() => void) | undefined;
  /** The other side has closed. */
  closed = false;

  constructor(port: number) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.socket.on("data", (chunk) => {
      this.text += chunk.toString("latin1");
      this.waiting?.();
    });
    const gone = (): void => {
      this.closed = true;
      this.waiting?.();
    };
    this.socket.on("end", gone);
    this.socket.on("close", gone);
    this.socket.on("error", gone);
  }

  write(text: string | Buffer): void {
    this.socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
  }

  /** The next whole reply (all its lines); what there is, where the connection closes first. */
  async reply(ms = 10_000): Promise<string> {
    const deadline = Date.now() + ms;
    for (;;) {
      const match = /^(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n/.exec(this.text);
      if (match !== null) {
        this.text = this.text.slice(match[0].length);
        return match[0];
      }
      if (this.closed) return this.text;
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no reply in time; so far ${JSON.stringify(this.text)}`);
      await this.more(left);
    }
  }

  /** Sends a line and gives the reply. */
  async say(line: string): Promise<string> {
    this.write(`${line}\r\n`);
    return this.reply();
  }

  async untilClosed(ms = 10_000): Promise<void> {
    const deadline = Date.now() + ms;
    while (!this.closed) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error("the connection was not closed in time");
      await this.more(left);
    }
  }

  private async more(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.waiting = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.waiting = undefined;
  }
}

/** Greeting and EHLO. */
export async function greeted(port: number): Promise<RawClient> {
  const client = new RawClient(port);
  await client.reply();
  await client.say("EHLO client.example");
  return client;
}

export interface Authority {
  /** Path of the authority's certificate. */
  readonly ca: string;
  /** A certificate of that authority's for these subjectAltNames ("DNS:mx.example"). */
  issue(names: string): { cert: Buffer; key: Buffer };
}

/** A certificate authority in a folder, by openssl. */
export function authority(folder: string, name: string): Authority {
  const file = (suffix: string): string => join(folder, `${name}-${suffix}`);
  const run = (args: string[]): Buffer =>
    execFileSync("openssl", args, { stdio: ["ignore", "pipe", "ignore"] });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  run([
    "req",
    "-x509",
    ...newKey,
    "-subj",
    `/CN=${name}`,
    "-days",
    "30",
    "-keyout",
    file("ca.key"),
    "-out",
    file("ca.pem"),
  ]);
  let serial = 0;
  return {
    ca: file("ca.pem"),
    issue(names) {
      serial++;
      const key = file(`${serial}.key`);
      const request = file(`${serial}.csr`);
      run([
        "req",
        ...newKey,
        "-subj",
        "/CN=leaf",
        "-addext",
        `subjectAltName=${names}`,
        "-keyout",
        key,
        "-out",
        request,
      ]);
      const cert = run([
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        file("ca.pem"),
        "-CAkey",
        file("ca.key"),
        "-set_serial",
        `${serial}`,
        "-days",
        "30",
        "-copy_extensions",
        "copyall",
      ]);
      return { cert, key: execFileSync("cat", [key]) };
    },
  };
}

export interface TlsDestinationOptions {
  readonly context: tls.SecureContext;
  /** Does not answer the handshake as TLS. */
  readonly broken?: boolean;
}

export interface TlsDestination extends Listening {
  /** Per session: what it saw. */
  readonly sessions: { servername: string; secure: boolean; mail: string[]; commands: string[] }[];
}

/** An SMTP server with STARTTLS that takes every message. */
export async function tlsDestination({ context, broken }: TlsDestinationOptions): Promise<TlsDestination> {
  const sessions: TlsDestination["sessions"] = [];
  const listening = await listen((socket) => {
    const session = { servername: "", secure: false, mail: [] as string[], commands: [] as string[] };
    sessions.push(session);
    socket.write("220 mx.example ESMTP\r\n");
    serveSmtp(socket, session, () => {
      socket.write("220 go\r\n");
      socket.removeAllListeners("data");
      if (broken) {
        socket.once("data", () => socket.end("this is no TLS at all, sorry\r\n"));
        return;
      }
      const secure = new tls.TLSSocket(socket, {
        isServer: true,
        secureContext: context,
        SNICallback: (name, done) => {
          session.servername = name;
          done(null, context);
        },
      });
      secure.on("error", () => {});
      secure.once("secure", () => {
        session.secure = true;
        serveSmtp(secure, session, undefined);
      });
    });
  });
  return { ...listening, sessions };
}

function serveSmtp(
  socket: Socket,
  session: TlsDestination["sessions"][number],
  starttls: (() => void) | undefined,
): void {
  let inData = false;
  lines(socket, (line) => {
    if (inData) {
      if (line === ".") {
        inData = false;
        socket.write("250 taken\r\n");
      } else session.mail.push(line);
      return;
    }
    session.commands.push(line);
    const verb = line.slice(0, 4).toUpperCase();
    if (verb === "EHLO")
      socket.write(`250-mx.example\r\n${starttls === undefined ? "" : "250-STARTTLS\r\n"}250 PIPELINING\r\n`);
    else if (verb === "STAR" && starttls !== undefined) starttls();
    else if (verb === "DATA") {
      inData = true;
      socket.write("354 go\r\n");
    } else if (verb === "QUIT") socket.end("221 bye\r\n");
    else socket.write("250 ok\r\n");
  });
}
