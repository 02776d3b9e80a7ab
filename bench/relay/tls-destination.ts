/** A destination that offers STARTTLS and throws every message away: `tls-destination.ts KEY CERT`; it prints its port. */
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { SMTPServer } from "smtp-server";

const [key = "", cert = ""] = process.argv.slice(2);
const server = new SMTPServer({
  key: readFileSync(key),
  cert: readFileSync(cert),
  authOptional: true,
  disabledCommands: ["AUTH"],
  disableReverseLookup: true,
  onData(stream, _session, done) {
    stream.resume();
    stream.once("end", () => done());
  },
});
server.listen(0, "127.0.0.1", () => {
  console.log(`port ${(server.server.address() as AddressInfo).port}`);
});
