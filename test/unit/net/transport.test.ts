/** The transport over node:net and node:tls: whoever handles it hears of its end once, whatever ended it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { createSecureContext } from "node:tls";
import { NodeTransport, type TransportHandler } from "../../../src/net/transport.ts";

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
