/**
 * The yardstick: a node:net relay that finds the lines of both sides and does nothing with them. What warp costs beyond it
 * is warp's own. `node bench/bare-relay.ts DESTINATION_PORT` prints its port.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

const destinationPort = Number(process.argv[2]);
let lines = 0;

function relay(from: Socket, to: Socket): void {
  from.on("data", (chunk: Buffer) => {
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines++;
    if (!to.write(chunk)) {
      from.pause();
      to.once("drain", () => from.resume());
    }
  });
  from.on("end", () => to.end());
  from.on("error", () => to.destroy());
  from.on("close", () => to.destroy());
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const upstream = connect({ host: "127.0.0.1", port: destinationPort, allowHalfOpen: true, noDelay: true });
  relay(client, upstream);
  relay(upstream, client);
});
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`port ${(server.address() as AddressInfo).port}`);
});
process.once("SIGTERM", () => {
  console.log(`lines ${lines}`);
  process.exit(0);
});
