/**
 * A pipelining client that does not give up: `sender.ts JSON`, { ip, port, prefix, sessions, octets, perConnection }. Each
 * session sends message after message, several to a connection, and connects again when it is cut off. It prints the id of
 * each message that was answered with 2xx, `accepted ID`, and of each that was refused, `refused ID REPLY`. On SIGTERM the
 * transactions that run are finished, then it ends.
 */

import net from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { makeMessage } from "../message.ts";

interface SenderOptions {
  readonly ip: string;
  readonly port: number;
  readonly prefix: string;
  readonly sessions: number;
  readonly octets: number;
  readonly perConnection: number;
}

const options = JSON.parse(process.argv[2] ?? "{}") as SenderOptions;
let stopping = false;
let count = 0;

process.on("SIGTERM", () => {
  stopping = true;
});
class CutOff extends Error {}

async function session(): Promise<void> {
  while (!stopping) {
    try {
      await connection();
    } catch (error) {
      if (!(error instanceof CutOff)) throw error;
      // Or nobody listens just now. What was not answered was not accepted.
      await wait(20);
    }
  }
}

async function connection(): Promise<void> {
  const socket = net.connect(options.port, options.ip);
  const replies = new Replies(socket);
  try {
    await replies.next(2);
    socket.write("EHLO sender.example\r\n");
    await replies.next(2);
    for (let n = 0; n < options.perConnection && !stopping; n++) await transaction(socket, replies);
    socket.write("QUIT\r\n");
    await replies.next(2);
  } finally {
    socket.destroy();
  }
}

async function transaction(socket: net.Socket, replies: Replies): Promise<void> {
  count += 1;
  const { id, octets } = makeMessage(`${options.prefix}${count}`, options.octets);
  socket.write("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@four.example>\r\nDATA\r\n");
  await replies.next(2);
  await replies.next(2);
  await replies.next(3);
  const stuffed = octets.toString("latin1").replace(/^\./gm, "..");
  socket.write(`${stuffed}.\r\n`, "latin1");
  const reply = await replies.next();
  console.log(reply.startsWith("2") ? `accepted ${id}` : `refused ${id} ${reply}`);
}

/** Whole replies, in order; waiting ends with an error when the connection does. */
class Replies {
  #text = "";
  #ended = false;
  #wake: () => void = () => {};

  constructor(socket: net.Socket) {
    socket.setEncoding("latin1").on("data", (chunk) => {
      this.#text += chunk;
      this.#wake();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  /** The next reply; with `first`, an error unless it begins with this digit. */
  async next(first?: number): Promise<string> {
    for (;;) {
      const match = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(this.#text);
      if (match !== null) {
        this.#text = this.#text.slice(match[0].length);
        if (first !== undefined && !match[0].startsWith(String(first))) throw new CutOff(match[0]);
        return match[0].trimEnd();
      }
      if (this.#ended) throw new CutOff("closed");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

console.log("ready");
await Promise.all(Array.from({ length: options.sessions }, session));
process.exit(0);
