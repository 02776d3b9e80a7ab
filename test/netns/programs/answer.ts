/** Listens on each ADDRESS with PORT (`answer.ts PORT ADDRESS…`) and tells each client which peer it sees. */

import net from "node:net";

const [port = "", ...addresses] = process.argv.slice(2);
let waiting = addresses.length;
for (const host of addresses) {
  const server = net.createServer((socket) => {
    socket.end(`${JSON.stringify({ reached: socket.localAddress, peer: socket.remoteAddress })}\n`);
  });
  server.listen({ host, port: Number(port), ipv6Only: true }, () => {
    waiting -= 1;
    if (waiting === 0) console.log("ready");
  });
}
