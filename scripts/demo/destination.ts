/** The mail server of the demo: offers STARTTLS, and says in one JSON line what arrived. Arguments: address, port. */
import { SMTPServer } from "smtp-server";

const [ip = "127.0.0.1", port = "0"] = process.argv.slice(2);
const server = new SMTPServer({
  name: "mx.destination.example",
  banner: "ready",
  authOptional: true,
  disabledCommands: ["AUTH"],
  disableReverseLookup: true,
  onData(stream, session, done) {
    let text = "";
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("end", () => {
      const field = (name: string): string => new RegExp(`^(${name}: .*)\\r$`, "im").exec(text)?.[1] ?? "";
      const tls = session.secure ? protocolOf(session.tlsOptions) : "no TLS";
      const record = {
        subject: field("Subject").slice("Subject: ".length),
        tls,
        header: field("X-Checked-By"),
      };
      process.stdout.write(`${JSON.stringify(record)}\n`);
      done(null, "queued as DEMO1");
    });
  },
});
server.on("error", (error) => process.stderr.write(`destination: ${error.message}\n`));
server.listen(Number(port), ip, () => process.stdout.write("listening\n"));

function protocolOf(cipher: unknown): string {
  return (cipher as { version?: string } | undefined)?.version ?? "TLS";
}
