/** The transport over node:net and node:tls: its writes arrive in their order, and whoever handles it hears of its end once. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import { NodeTransport, type TransportHandler } from "../../../src/net/transport.ts";
import fc from "../../support/property.ts";

interface Pair {
  readonly transport: NodeTransport;
  readonly peer: Socket;
  readonly closed: Promise<Error | undefined>;
  readonly closes: () => number;
  end(): void;
}

async function pair(): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1" });
  peer.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  const transport = new NodeTransport(socket);
  let closes = 0;
  const closed = new Promise<Error | undefined>((resolve) => {
    const handler: TransportHandler = {
      data() {},
      drained() {},
      ended() {},
      closed(cause) {
        closes++;
        resolve(cause);
      },
    };
    transport.handler = handler;
  });
  const end = (): void => {
    peer.destroy();
    transport.destroy();
    server.close();
  };
  return { transport, peer, closed, closes: () => closes, end };
}

test("a TLS handshake with the destination that fails closes the transport, and says so once", async () => {
  const { transport, peer, closed, closes, end } = await pair();
  try {
    const handshake = transport.startTls({});
    peer.write("this is no TLS\r\n");
    await assert.rejects(handshake);
    await closed;
    transport.reset();
    transport.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(closes(), 1);
  } finally {
    end();
  }
});

test("a TLS handshake of a client that fails closes the transport, and says so once", async () => {
  const { transport, peer, closed, closes, end } = await pair();
  try {
    const handshake = transport.acceptTls(createSecureContext({}));
    peer.write("this is no TLS\r\n");
    await assert.rejects(handshake);
    await closed;
    assert.equal(closes(), 1);
  } finally {
    end();
  }
});

test("a reset in the middle of a handshake ends it, and the transport with it", async () => {
  const { transport, closed, end } = await pair();
  try {
    const handshake = transport.startTls({});
    transport.reset();
    await assert.rejects(handshake);
    await closed;
  } finally {
    end();
  }
});

/** Each chunk that the peer reads, until its end or its error. */
async function read(peer: Socket): Promise<{ chunks: Buffer[]; error: NodeJS.ErrnoException | undefined }> {
  const chunks: Buffer[] = [];
  let error: NodeJS.ErrnoException | undefined;
  peer.on("data", (chunk: Buffer) => chunks.push(chunk));
  peer.on("error", (cause) => {
    error = cause;
  });
  await new Promise((resolve) => {
    peer.on("end", resolve);
    peer.on("close", resolve);
  });
  return { chunks, error };
}

test("small writes of one turn arrive together", async () => {
  const { transport, peer, end } = await pair();
  try {
    const first = once(peer, "data");
    for (const part of ["250-a\r\n", "250-b\r\n", "250 c\r\n"]) transport.write(Buffer.from(part));
    const [chunk] = (await first) as [Buffer];
    assert.equal(chunk.toString(), "250-a\r\n250-b\r\n250 c\r\n");
  } finally {
    end();
  }
});

for (const how of ["end", "close", "destroy"] as const) {
  test(`what was written in the turn goes out before ${how}`, async () => {
    const { transport, peer, end } = await pair();
    try {
      const all = read(peer);
      transport.write(Buffer.from("221 2.0.0 bye\r\n"));
      transport[how]();
      assert.equal(Buffer.concat((await all).chunks).toString(), "221 2.0.0 bye\r\n");
    } finally {
      end();
    }
  });
}

test("what was written in the turn of a reset does not go out", async () => {
  const { transport, peer, end } = await pair();
  try {
    const all = read(peer);
    transport.write(Buffer.from("the message's last lines\r\n.\r\n"));
    transport.reset();
    const { chunks, error } = await all;
    assert.equal(chunks.length, 0);
    assert.equal(error?.code, "ECONNRESET");
  } finally {
    end();
  }
});

test("a peer that reads nothing stops the writer, and starts it again when it reads", async () => {
  const { transport, peer, end } = await pair();
  try {
    peer.pause();
    let drained = 0;
    transport.handler = { ...transport.handler, drained: () => drained++ };
    let written = 0;
    const small = Buffer.alloc(4096, "x");
    // A turn's writes are taken before the socket says that it is full.
    for (let turns = 0; turns < 10_000 && transport.write(small); turns++) {
      written += small.length;
      await nextTurn();
    }
    written += small.length;
    assert.ok(written < 32 * 1024 * 1024, `${written} octets were taken`);
    const all = read(peer);
    peer.resume();
    while (drained === 0) await nextTurn();
    transport.end();
    assert.equal(Buffer.concat((await all).chunks).length, written);
  } finally {
    end();
  }
});

test("whatever is written in whatever turns arrives in its order", async () => {
  const write = fc.oneof(
    fc.integer({ min: 0, max: 300 }),
    fc.constantFrom(8191, 8192, 8193, 65_536, 200_000),
    fc.constant("turn"),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(write, { maxLength: 20 }), async (writes) => {
      const { transport, peer, end } = await pair();
      try {
        const all = read(peer);
        const sent: Buffer[] = [];
        for (const [index, one] of writes.entries()) {
          if (typeof one === "string") await nextTurn();
          else {
            const chunk = Buffer.alloc(one, index + 1);
            sent.push(chunk);
            transport.write(chunk);
          }
        }
        transport.end();
        assert.ok(Buffer.concat((await all).chunks).equals(Buffer.concat(sent)));
      } finally {
        end();
      }
    }),
    { numRuns: 50 },
  );
});
