/**
 * Both ends of the load: a destination that takes everything and refuses bad senders as spam, and clients in lockstep. They
 * share the machine with the proxy that is measured, so they do as little as they can: octets are looked at, not decoded.
 */
import { once } from "node:events";
import net from "node:net";

const [LF, DASH] = [0x0a, 0x2d];
const END = Buffer.from("\r\n.\r\n");
const NOTHING: Buffer = Buffer.alloc(0);

/** A message of 4 KB with its end. */
const MESSAGE = Buffer.from(
  `From: <a@sender.example>\r\nSubject: x\r\n\r\n${`${"x".repeat(70)}\r\n`.repeat(56)}.\r\n`,
);

export function destination(port: number): Promise<net.Server> {
  const server = net.createServer({ noDelay: true }, (socket) => {
    let [buffered, inData, isBad] = [NOTHING, false, false];
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
      for (;;) {
        const end = inData ? buffered.indexOf(END) : buffered.indexOf(LF);
        if (end < 0) return;
        const line = buffered.toString("latin1", 0, Math.min(end, 20));
        buffered = buffered.subarray(end + (inData ? END.length : 1));
        if (inData) {
          socket.write(isBad ? "550 5.7.1 spam\r\n" : "250 2.0.0 queued\r\n");
          inData = false;
          continue;
        }
        const verb = line.slice(0, 4).toUpperCase();
        if (verb === "MAIL") isBad = line.startsWith("<bad", 10);
        if (verb === "EHLO") socket.write("250-mx.bench.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
        else if (verb === "DATA") socket.write("354 go on\r\n");
        else if (verb === "QUIT") socket.end("221 2.0.0 bye\r\n");
        else socket.write("250 2.0.0 OK\r\n");
        inData = verb === "DATA";
      }
    });
    socket.write("220 mx.bench.example ESMTP\r\n");
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

export interface Load {
  /** Connections in a row of each of ten clients. */
  readonly connections: number;
  /** Messages of each connection. */
  readonly each: number;
  readonly sender: () => string;
}

export function messagesOf({ connections, each }: Load): number {
  return CLIENTS * connections * each;
}

const CLIENTS = 10;

/** Sends, and waits for the last reply. Gives messages per second. Rejects where a connection was lost. */
export async function send(port: number, load: Load): Promise<number> {
  const began = performance.now();
  await Promise.all(Array.from({ length: CLIENTS }, () => client(port, load)));
  return messagesOf(load) / ((performance.now() - began) / 1000);
}

async function client(port: number, { connections, each, sender }: Load): Promise<void> {
  for (let connection = 0; connection < connections; connection += 1) {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    const said = replies(socket);
    const say = (line: string | Buffer) => {
      socket.write(line);
      return said();
    };
    await said();
    await say("EHLO client.example\r\n");
    for (let i = 0; i < each; i += 1) {
      await say(`MAIL FROM:<${sender()}>\r\n`);
      await say("RCPT TO:<bob@destination.example>\r\n");
      await say("DATA\r\n");
      await say(MESSAGE);
    }
    await say("QUIT\r\n");
    socket.destroy();
    await once(socket, "close");
  }
}

/** Each call gives when one more whole reply has come. Nothing is pipelined, so a chunk's end is a reply's end. */
function replies(socket: net.Socket): () => Promise<void> {
  let [buffered, complete, isClosed] = [NOTHING, 0, false];
  let wake = (_?: Error) => {};
  socket.on("data", (chunk: Buffer) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    if (buffered.at(-1) !== LF) return;
    const last = buffered.lastIndexOf(LF, buffered.length - 2) + 1;
    if (buffered[last + 3] === DASH) return;
    buffered = NOTHING;
    complete += 1;
    wake();
  });
  socket.on("error", () => undefined /* "close" follows */);
  socket.on("close", () => {
    isClosed = true;
    wake(new Error("the connection was closed"));
  });
  return async () => {
    if (complete === 0) {
      if (isClosed) throw new Error("the connection was closed");
      await new Promise<void>((resolve, reject) => {
        wake = (error) => (error === undefined ? resolve() : reject(error));
      });
    }
    complete -= 1;
  };
}
