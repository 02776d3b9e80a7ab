/** Sends octets to an SMTP server as they are, all at once, and gives every line of its replies until it closes. */

import { once } from "node:events";
import { connect } from "node:net";

/** The final lines of the replies ("250 Ok", not "250-…"), the greeting first. Ends with QUIT in `octets`. */
export async function talk(port: number, octets: string, host = "127.0.0.1"): Promise<string[]> {
  const socket = connect(port, host);
  socket.setTimeout(30_000, () => socket.destroy(new Error("no reply within 30 s")));
  await once(socket, "connect");
  socket.write(Buffer.from(octets, "latin1"));
  let text = "";
  for await (const chunk of socket.setEncoding("latin1")) text += chunk;
  return text.split("\r\n").filter((line) => /^\d{3}( |$)/.test(line));
}
