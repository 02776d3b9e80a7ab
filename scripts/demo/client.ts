/** The mail client of the demo: sends two mails without TLS, and says in one JSON line each what it was told. */
import { createTransport } from "nodemailer";

const [host = "", port = ""] = process.argv.slice(2);
const transport = createTransport({
  host,
  port: Number(port),
  secure: false,
  ignoreTLS: true,
  name: "client.example",
});

for (const subject of ["The minutes of yesterday", "You have won the lottery"]) {
  const began = performance.now();
  let reply: string;
  try {
    const sent = await transport.sendMail({
      from: "alice@client.example",
      to: "bob@destination.example",
      subject,
      text: "Dear Bob,\n\nsee you tomorrow.\n\nAlice\n",
    });
    reply = sent.response;
  } catch (error) {
    const { response, message } = error as Error & { response?: string };
    reply = response ?? message;
  }
  process.stdout.write(`${JSON.stringify({ subject, reply, ms: Math.round(performance.now() - began) })}\n`);
}
transport.close();
