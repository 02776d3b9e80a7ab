/** Sockets that share the buffer they read into: what one connection brought stays as it came while others read. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { GivingUp, NodeDialer } from "../../../src/net/dial.ts";
import { type Listener, listen } from "../../../src/net/listener.ts";
import { ReadSocket } from "../../../src/net/read-socket.ts";
import type { Transport } from "../../../src/net/transport.ts";
import fc from "../../support/property.ts";

let listener: Listener;
const accepted: Transport[] = [];
const peers: Socket[] = [];
let destination: ReturnType<typeof createServer>;

before(async () => {
  const options = { address: { ip: "127.0.0.1", port: 0 }, reusePort: false, transparent: false };
  listener = await listen(options, (transport) => accepted.push(transport));
  destination = createServer((peer) => peers.push(peer.on("error", () => {})));
  destination.listen(0, "127.0.0.1");
  await once(destination, "listening");
});
after(() => {
  listener.close();
  destination.close();
});

/** A transport as warp accepts it, and one as warp dials it, each with its peer. */
async function acceptedPair(): Promise<{ transport: Transport; peer: Socket }> {
  const peer = connect({ host: "127.0.0.1", port: listener.address.port, noDelay: true });
  peer.on("error", () => {});
  await once(peer, "connect");
  while (accepted.length === 0) await pause(1);
  return { transport: accepted.shift() as Transport, peer };
}
async function dialledPair(): Promise<{ transport: Transport; peer: Socket }> {
  const { port } = destination.address() as AddressInfo;
  const dialer = new NodeDialer({ mark: 0, transparent: false });
  const options = { sourceIp: undefined, timeoutMs: 5_000, givingUp: new GivingUp(), bound: undefined };
  const transport = await dialer.dial({ ip: "127.0.0.1", port }, options);
  while (peers.length === 0) await pause(1);
  return { transport, peer: peers.shift() as Socket };
}

interface Heard {
  readonly chunks: Buffer[];
  readonly octets: () => number;
  readonly ends: () => number;
}
function hear(transport: Transport): Heard {
  const chunks: Buffer[] = [];
  let ends = 0;
  transport.handler = {
    data: (chunk) => chunks.push(chunk),
    drained() {},
    ended: () => ends++,
    closed() {},
  };
  return {
    chunks,
    octets: () => chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    ends: () => ends,
  };
}

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 5_000 && !holds(); i++) await pause(1);
  assert.ok(holds());
}

test("this version of Node reads accepted and dialled connections into the shared buffer", async () => {
  for (const pair of [await acceptedPair(), await dialledPair()]) {
    assert.ok((pair.transport as unknown as { raw: Socket }).raw instanceof ReadSocket);
    pair.transport.destroy();
  }
});

test("chunks that are kept stay as they came, whatever is read after them, on whichever connection", async () => {
  const pairs = [await acceptedPair(), await dialledPair(), await acceptedPair(), await dialledPair()];
  const heard = pairs.map(({ transport }) => hear(transport));
  const sent: Buffer[][] = pairs.map(() => []);
  const write = fc.record({
    to: fc.nat(pairs.length - 1),
    octets: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 200_000 })),
    fill: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(write, { minLength: 1, maxLength: 12 }), async (writes) => {
      for (const { to, octets, fill } of writes) {
        const chunk = Buffer.alloc(octets, fill);
        (sent[to] as Buffer[]).push(chunk);
        pairs[to]?.peer.write(chunk);
      }
      const total = (chunks: readonly Buffer[]): number =>
        chunks.reduce((sum, { length }) => sum + length, 0);
      await until(() => heard.every((one, k) => one.octets() === total(sent[k] as Buffer[])));
      for (const [k, one] of heard.entries()) {
        assert.ok(Buffer.concat(one.chunks).equals(Buffer.concat(sent[k] as Buffer[])));
      }
    }),
    { numRuns: 25 },
  );
  for (const { transport } of pairs) transport.destroy();
});

test("nothing is read while paused; the end is told once, behind what was sent before it", async () => {
  for (const { transport, peer } of [await acceptedPair(), await dialledPair()]) {
    const heard = hear(transport);
    transport.pause();
    peer.end("220 hello\r\n");
    await pause(50);
    assert.equal(heard.octets(), 0);
    assert.equal(heard.ends(), 0);
    transport.resume();
    await until(() => heard.ends() === 1);
    assert.equal(Buffer.concat(heard.chunks).toString(), "220 hello\r\n");
    await pause(20);
    assert.equal(heard.ends(), 1);
    transport.destroy();
  }
});

test("what a destination said before it reset the connection is heard, though a write failed first", async () => {
  const { transport, peer } = await dialledPair();
  const heard = hear(transport);
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  transport.handler.closed = () => resolve();
  transport.write(Buffer.alloc(20_000));
  // All in one turn: the write below meets the reset before anything was read.
  peer.pause();
  peer.write("552 5.3.4 too large\r\n");
  peer.resetAndDestroy();
  transport.write(Buffer.alloc(20_000));
  await closed;
  assert.equal(Buffer.concat(heard.chunks).toString(), "552 5.3.4 too large\r\n");
});

test("a client that reset the connection while it waited to be accepted is nobody's", async () => {
  const { port } = listener.address;
  const script = `require("node:net").connect(${port}, "127.0.0.1", function () { this.resetAndDestroy(); });`;
  assert.equal(spawnSync(process.execPath, ["-e", script]).status, 0);
  const { transport, peer } = await acceptedPair();
  assert.equal(transport.remote.ip, "127.0.0.1");
  assert.equal(accepted.length, 0);
  peer.destroy();
  transport.destroy();
});
