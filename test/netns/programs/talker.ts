/**
 * A client that sends messages one after another on one connection. Arguments: ADDRESS, JSON { senders, auth }. Prints the
 * reply to each message's last command (MAIL where that is refused) as a line of JSON.
 */

import { once } from "node:events";
import net from "node:net";

interface TalkerOptions {
  readonly senders: readonly string[];
  readonly auth?: boolean;
}
const [host = "", json = "{}"] = process.argv.slice(2);
const { senders, auth = false } = JSON.parse(json) as TalkerOptions;
const socket = net.connect(25, host);
let buffered = "";
let closed = false;
socket.on("close", () => {
  closed = true;
});

/** The next whole reply; "" where the connection ended. */
async function reply(): Promise<string> {
  for (;;) {
    const match = /^(?:\d{3}-.*\r\n)*\d{3}(?: .*)?\r\n/.exec(buffered);
    if (match !== null) {
      buffered = buffered.slice(match[0].length);
      return match[0].trim();
    }
    if (closed) return "";
    await Promise.race([once(socket, "data"), once(socket, "close")]);
  }
}
socket.on("data", (chunk) => {
  buffered += chunk.toString("latin1");
});
async function say(line: string): Promise<string> {
  socket.write(`${line}\r\n`);
  return reply();
}

await once(socket, "connect");
const greeting = await reply();
if (!greeting.startsWith("220")) {
  console.log(JSON.stringify({ from: "", answer: greeting }));
  socket.destroy();
  process.exit(0);
}
await say("EHLO client.example");
if (auth) await say("AUTH PLAIN AGFsaWNlAHNlY3JldA==");
for (const from of senders) {
  let answer = await say(`MAIL FROM:<${from}>`);
  if (answer.startsWith("2")) {
    answer = await say("RCPT TO:<bob@destination.example>");
    if (answer.startsWith("2")) answer = await say("DATA");
    if (answer.startsWith("354")) answer = await say(`From: <${from}>\r\n\r\nhello\r\n.`);
    else await say("RSET");
  }
  console.log(JSON.stringify({ from, answer }));
  if (closed || answer === "") break;
}
if (!closed) await say("QUIT");
socket.destroy();
