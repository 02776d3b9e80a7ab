/**
 * Listens on ADDRESS PORT [transparent] and tells each client, in one line of JSON, where the kernel says it was going.
 * Stands for the proxy where only the capture is of interest.
 */

import net from "node:net";
import { type NativeError, native } from "../../../src/net/native.ts";

const [ip = "", port = "", transparent] = process.argv.slice(2);
const fd = native.createListener({ ip, port: Number(port), transparent: transparent === "transparent" });

const server = net.createServer((socket) => {
  const handle = socket as net.Socket & { _handle: { fd: number } };
  const peer = socket.remoteAddress;
  const local = `${socket.localAddress} ${socket.localPort}`;
  try {
    const { ip, port } = native.originalDestination(handle._handle.fd);
    socket.end(`${JSON.stringify({ captured: `${ip} ${port}`, local, peer })}\n`);
  } catch (error) {
    socket.end(`${JSON.stringify({ error: (error as NativeError).code, local, peer })}\n`);
  }
});
server.listen({ fd }, () => console.log("ready"));
