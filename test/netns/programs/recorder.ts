/**
 * A destination that records where each transaction came from, and answers by rule. One argument, JSON: { listen, port,
 * hostname, spam (senders that are refused at the end of data), throttleAfter (transactions per peer, then 421 4.7.28 at
 * MAIL) }. Prints a line of JSON for each MAIL: peer, helo, from, reply, connection.
 */

import net from "node:net";

export interface RecorderOptions {
  readonly listen: readonly string[];
  readonly port: number;
  readonly hostname: string;
  readonly spam?: readonly string[];
  readonly throttleAfter?: number;
}
export interface Recorded {
  readonly connection: number;
  readonly peer: string;
  readonly helo: string;
  readonly from: string;
  readonly reply: string;
}

const options = JSON.parse(process.argv[2] ?? "{}") as RecorderOptions;
const transactions = new Map<string, number>();
let connections = 0;
let waiting = options.listen.length;

function serve(socket: net.Socket): void {
  connections += 1;
  const connection = connections;
  const peer = socket.remoteAddress ?? "";
  let [helo, from, inData, buffered] = ["", "", false, ""];
  const say = (line: string) => socket.write(`${line}\r\n`);
  const record = (reply: string) => {
    console.log(JSON.stringify({ connection, peer, helo, from, reply } satisfies Recorded));
    say(reply);
  };
  const command = (line: string): void => {
    const verb = line.slice(0, 4).toUpperCase();
    if (verb === "EHLO") {
      helo = line.slice(5);
      say(`250-${options.hostname}\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-AUTH PLAIN\r\n250 8BITMIME`);
    } else if (verb === "AUTH") {
      say("235 2.7.0 accepted");
    } else if (verb === "MAIL") {
      from = /<([^>]*)>/.exec(line)?.[1] ?? "";
      const before = transactions.get(peer) ?? 0;
      if (options.throttleAfter !== undefined && before >= options.throttleAfter) {
        record("421 4.7.28 unusual rate of unsolicited mail originating from your IP address");
        socket.end();
        return;
      }
      transactions.set(peer, before + 1);
      say("250 2.1.0 OK");
    } else if (verb === "DATA") {
      inData = true;
      say("354 go on");
    } else if (verb === "QUIT") {
      say("221 2.0.0 bye");
      socket.end();
    } else {
      say("250 2.0.0 OK");
    }
  };
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    buffered += chunk.toString("latin1");
    for (let end = buffered.indexOf("\r\n"); end >= 0; end = buffered.indexOf("\r\n")) {
      const line = buffered.slice(0, end);
      buffered = buffered.slice(end + 2);
      if (!inData) {
        command(line);
      } else if (line === ".") {
        inData = false;
        const isSpam = options.spam?.includes(from) === true;
        record(isSpam ? "550 5.7.1 Spam message rejected" : "250 2.0.0 OK queued");
      }
    }
  });
  say(`220 ${options.hostname} ESMTP`);
}

for (const host of options.listen) {
  net.createServer(serve).listen({ host, port: options.port }, () => {
    waiting -= 1;
    if (waiting === 0) console.log("ready");
  });
}
