/**
 * A destination by nodemailer's smtp-server. One argument, JSON: { listen, port, hostname, cert, key } (STARTTLS is
 * offered where there is a certificate; with `implicit` the connection begins with TLS). Prints a line of JSON for each message that it took: envelope, peer, HELO name,
 * TLS, and whether the body is what its sender says it is.
 */

import { readFileSync } from "node:fs";
import { SMTPServer } from "smtp-server";
import { readMessage } from "../message.ts";

export interface DestinationOptions {
  readonly listen: readonly string[];
  readonly port: number;
  readonly hostname: string;
  readonly cert?: string;
  readonly key?: string;
  readonly implicit?: boolean;
}

export interface Taken {
  readonly id: string;
  readonly intact: boolean;
  readonly octets: number;
  readonly from: string;
  readonly to: readonly string[];
  readonly peer: string;
  readonly helo: string;
  readonly tls: string;
}

const options = JSON.parse(process.argv[2] ?? "{}") as DestinationOptions;
const tls = options.cert !== undefined && options.key !== undefined;

let waiting = options.listen.length;
for (const host of options.listen) {
  const server = new SMTPServer({
    name: options.hostname,
    secure: options.implicit ?? false,
    authOptional: true,
    disableReverseLookup: true,
    size: 20_480_000,
    ...(tls
      ? {
          cert: readFileSync(options.cert ?? ""),
          key: readFileSync(options.key ?? ""),
          disabledCommands: ["AUTH"],
        }
      : { disabledCommands: ["AUTH", "STARTTLS"] }),
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const octets = Buffer.concat(chunks);
        const message = readMessage(octets, "crlf");
        const { mailFrom, rcptTo } = session.envelope;
        const secured = session.secure ? (session.tlsOptions as { version?: string } | false) : false;
        const taken: Taken = {
          id: message.id,
          intact: message.claimed === message.found,
          octets: octets.length,
          from: mailFrom === false ? "" : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          peer: session.remoteAddress,
          helo: session.hostNameAppearsAs,
          tls: secured === false ? "" : (secured.version ?? "yes"),
        };
        console.log(JSON.stringify(taken));
        done(null, `taken ${message.id}`);
      });
    },
  });
  server.on("error", (error) => console.error(`destination: ${error.message}`));
  server.listen(options.port, host, () => {
    waiting -= 1;
    if (waiting === 0) console.log("ready");
  });
}
