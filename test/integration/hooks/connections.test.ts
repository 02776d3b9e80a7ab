/** What becomes of connections to hooks that hang or are away: none stays that nobody uses. */
import assert from "node:assert/strict";
import { createServer as createHttp2Server } from "node:http2";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { assemble, hookSettings, until } from "./server.ts";

const cleanUp: (() => unknown)[] = [];
after(() => {
  for (const step of cleanUp) step();
});

/** Listens, and counts the connections that are open. */
async function listening(server: Server, port = 0): Promise<{ readonly port: number; open: number }> {
  cleanUp.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const seen = { port: (server.address() as AddressInfo).port, open: 0 };
  server.on("connection", (socket) => {
    seen.open++;
    cleanUp.push(() => socket.destroy());
    socket.on("error", () => {});
    socket.on("close", () => seen.open--);
  });
  return seen;
}

test("a connection to a hook that takes it and says nothing ends with the attempt", async () => {
  const seen = await listening(createServer((socket) => socket.resume()));
  const { hooks } = assemble([hookSettings("hung", `127.0.0.1:${seen.port}`)]);
  await hooks.start();
  assert.equal(seen.open, 1);
  await hooks.stop(0);
  await until(() => seen.open === 0, "the end of the connection");
});

test("failed attempts leave no connection to a hook that comes a moment later", async () => {
  const free = createServer();
  const { port } = await listening(free);
  await new Promise((resolve) => free.close(resolve));
  const { hooks } = assemble([hookSettings("away", `127.0.0.1:${port}`)]);
  await hooks.start();
  await pause(600); // some attempts more
  const seen = await listening(createHttp2Server(), port);
  await pause(2000);
  await hooks.stop(0);
  assert.equal(seen.open, 1);
});
