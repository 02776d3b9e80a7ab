/**
 * Connects to ADDRESS PORT and prints what the server says until it closes, or the name of the error. With `mark=N` the
 * connection carries that SO_MARK, with `from=ADDRESS` it is bound first.
 */

import net from "node:net";
import { native } from "../../../src/net/native.ts";

const [ip = "", port = "", ...options] = process.argv.slice(2);
const values = new Map(options.map((option) => option.split("=") as [string, string]));
const from = values.get("from");
const fd = native.createSocket(ip.includes(":") ? 6 : 4, {
  mark: Number(values.get("mark") ?? 0),
  ...(from === undefined ? {} : { bind: { ip: from } }),
});
const socket = new net.Socket({ fd });
socket.connect(Number(port), ip);
socket.setTimeout(5000, () => socket.destroy(Object.assign(new Error(), { code: "ETIMEDOUT" })));
socket.on("error", (error: NodeJS.ErrnoException) => console.log(JSON.stringify({ error: error.code })));
socket.pipe(process.stdout);
