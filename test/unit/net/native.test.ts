import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { describe, it } from "node:test";
import { type NativeError, native } from "../../../src/net/native.ts";

const linux = process.platform === "linux";
const root = process.getuid?.() === 0;

function failsWith(code: string, syscall: string) {
  return (error: unknown) => {
    const failure = error as NativeError;
    assert.equal(failure.code, code);
    assert.equal(failure.syscall, syscall);
    assert.ok(failure.errno < 0);
    assert.match(failure.message, new RegExp(`^${code} ${syscall}: `));
    return true;
  };
}

async function listening(
  options: net.ListenOptions | { fd: number },
): Promise<{ server: net.Server; port: number }> {
  const server = net.createServer((socket) => socket.end(`${socket.remoteAddress} ${socket.remotePort}`));
  server.listen(options);
  await once(server, "listening");
  return { server, port: (server.address() as net.AddressInfo).port };
}

/** "connected", or the code of the error. */
function outcomeOf(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    socket.once("connect", () => {
      socket.destroy();
      resolve("connected");
    });
  });
}

async function readAll(socket: net.Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += chunk;
  return text;
}

describe("native addon", { skip: linux ? false : "the addon is built on Linux only" }, () => {
  it("is available", () => {
    assert.equal(native.unavailable, undefined);
  });

  describe("createSocket", () => {
    it("makes a socket that connects through net.Socket", async () => {
      const { server, port } = await listening({ host: "127.0.0.1", port: 0 });
      const fd = native.createSocket(4);
      const socket = new net.Socket({ fd });
      socket.connect(port, "127.0.0.1");
      assert.match(await readAll(socket), /^127\.0\.0\.1 \d+$/);
      server.close();
    });

    it("binds the source address before connect, and the port is chosen at connect", async () => {
      const { server, port } = await listening({ host: "127.0.0.1", port: 0 });
      const fd = native.createSocket(4, { bind: { ip: "127.0.0.77" } });
      const socket = new net.Socket({ fd });
      socket.connect(port, "127.0.0.1");
      assert.match(await readAll(socket), /^127\.0\.0\.77 \d+$/);
      server.close();
    });

    it("binds a port that is asked for", async () => {
      const { server, port } = await listening({ host: "127.0.0.1", port: 0 });
      const free = await listening({ host: "127.0.0.1", port: 0 });
      free.server.close();
      await once(free.server, "close");
      const fd = native.createSocket(4, { bind: { ip: "127.0.0.1", port: free.port } });
      const socket = new net.Socket({ fd });
      socket.connect(port, "127.0.0.1");
      assert.equal(await readAll(socket), `127.0.0.1 ${free.port}`);
      server.close();
    });

    it("connects over IPv6", async () => {
      const { server, port } = await listening({ host: "::1", port: 0 });
      const socket = new net.Socket({ fd: native.createSocket(6, { bind: { ip: "::1" } }) });
      socket.connect(port, "::1");
      assert.match(await readAll(socket), /^::1 \d+$/);
      server.close();
    });

    it("says EADDRNOTAVAIL at bind for an address that this host does not have", () => {
      assert.throws(
        () => native.createSocket(4, { bind: { ip: "192.0.2.1" } }),
        failsWith("EADDRNOTAVAIL", "bind"),
      );
      assert.throws(
        () => native.createSocket(6, { bind: { ip: "2001:db8::1" } }),
        failsWith("EADDRNOTAVAIL", "bind"),
      );
    });

    it("says EINVAL at bind for what is no address of the family", () => {
      assert.throws(
        () => native.createSocket(4, { bind: { ip: "mail.example" } }),
        failsWith("EINVAL", "bind"),
      );
      assert.throws(() => native.createSocket(4, { bind: { ip: "::1" } }), failsWith("EINVAL", "bind"));
    });

    it("leaves no descriptor open when it fails", () => {
      const before = native.createSocket(4);
      native.closeFd(before);
      for (let i = 0; i < 50; i++) assert.throws(() => native.createSocket(4, { bind: { ip: "192.0.2.1" } }));
      const after = native.createSocket(4);
      native.closeFd(after);
      assert.equal(after, before);
    });

    it("sets a mark, with the right to", { skip: root ? false : "needs root" }, () => {
      native.closeFd(native.createSocket(4, { mark: 0x77 }));
      native.closeFd(native.createSocket(6, { mark: 0xffffffff }));
    });

    it("may bind a foreign address when transparent", { skip: root ? false : "needs root" }, () => {
      native.closeFd(native.createSocket(4, { transparent: true, bind: { ip: "192.0.2.1" } }));
      native.closeFd(native.createSocket(6, { transparent: true, bind: { ip: "2001:db8::1" } }));
    });

    it("refuses arguments of a wrong type", () => {
      assert.throws(() => native.createSocket(5 as 4), TypeError);
      assert.throws(() => native.createSocket(4, { bind: { ip: "127.0.0.1", port: 70000 } }), TypeError);
      assert.throws(() => native.createSocket(4, { bind: {} as { ip: string } }), TypeError);
    });
  });

  describe("createListener", () => {
    it("accepts through net.Server", async () => {
      const fd = native.createListener({ ip: "127.0.0.1", port: 0 });
      const { server, port } = await listening({ fd });
      assert.match(await readAll(net.connect(port, "127.0.0.1")), /^127\.0\.0\.1 /);
      server.close();
    });

    it("is dual-stack on :: and IPv6 alone with ipv6Only", async () => {
      const both = await listening({ fd: native.createListener({ ip: "::", port: 0 }) });
      assert.match(await readAll(net.connect(both.port, "127.0.0.1")), /^::ffff:127\.0\.0\.1 /);
      both.server.close();
      // Another program may have the same port over IPv4: then another one is tried.
      let outcome = "connected";
      for (let attempt = 0; attempt < 5 && outcome === "connected"; attempt++) {
        const one = await listening({ fd: native.createListener({ ip: "::", port: 0, ipv6Only: true }) });
        outcome = await outcomeOf(net.connect(one.port, "127.0.0.1"));
        one.server.close();
      }
      assert.equal(outcome, "ECONNREFUSED");
    });

    it("shares a port between two listeners with reusePort, and not without", async () => {
      const first = await listening({
        fd: native.createListener({ ip: "127.0.0.1", port: 0, reusePort: true }),
      });
      const second = native.createListener({ ip: "127.0.0.1", port: first.port, reusePort: true });
      native.closeFd(second);
      assert.throws(
        () => native.createListener({ ip: "127.0.0.1", port: first.port }),
        failsWith("EADDRINUSE", "bind"),
      );
      first.server.close();
    });

    it("may be transparent, with the right to", { skip: root ? false : "needs root" }, () => {
      native.closeFd(native.createListener({ ip: "127.0.0.1", port: 0, transparent: true }));
      native.closeFd(native.createListener({ ip: "::1", port: 0, transparent: true }));
    });

    it("says EADDRNOTAVAIL for a foreign address", () => {
      assert.throws(
        () => native.createListener({ ip: "192.0.2.1", port: 0 }),
        failsWith("EADDRNOTAVAIL", "bind"),
      );
    });
  });

  describe("what a socket that somebody else made is", () => {
    it("may become transparent while it listens, with the right to", {
      skip: root ? false : "needs root",
    }, () => {
      for (const ip of ["127.0.0.1", "::1", "::"]) {
        const fd = native.createListener({ ip, port: 0 });
        native.makeTransparent(fd);
        native.closeFd(fd);
      }
      assert.throws(() => native.makeTransparent(0x7fff), failsWith("EBADF", "getsockopt SO_DOMAIN"));
    });

    it("is told of IPv6 alone and of both families", () => {
      for (const ipv6Only of [true, false]) {
        const fd = native.createListener({ ip: "::", port: 0, ipv6Only });
        assert.equal(native.isIpv6Only(fd), ipv6Only);
        native.closeFd(fd);
      }
    });
  });

  describe("originalDestination", () => {
    it("fails with the name of the error for what is no socket", () => {
      assert.throws(() => native.originalDestination(0x7fff), failsWith("EBADF", "getsockname"));
    });

    it("gives ENOENT or the local address for a connection that was not redirected", async () => {
      const server = net.createServer();
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as net.AddressInfo;
      const client = net.connect(port, "127.0.0.1");
      const [accepted] = (await once(server, "connection")) as [net.Socket & { _handle: { fd: number } }];
      try {
        assert.deepEqual(native.originalDestination(accepted._handle.fd), { ip: "127.0.0.1", port });
      } catch (error) {
        // ENOPROTOOPT: the kernel has no connection tracking at all.
        assert.match((error as NativeError).code, /^(ENOENT|ENOPROTOOPT)$/);
      }
      client.destroy();
      accepted.destroy();
      server.close();
    });

    it("refuses a descriptor that is no number", () => {
      assert.throws(() => native.originalDestination("3" as unknown as number), TypeError);
    });
  });

  it("closeFd says EBADF for a descriptor that is not open", () => {
    assert.throws(() => native.closeFd(0x7fff), failsWith("EBADF", "close"));
  });

  describe("between processes", () => {
    it("passes a listening socket on, which is the same one with the same queue", async () => {
      const name = `warp-test-${process.pid}`;
      const listener = native.createListener({ ip: "127.0.0.1", port: 0 });
      const { port } = native.listeningAddress(listener);
      const giver = net.createServer((socket) => {
        const fd = (socket as unknown as { _handle: { fd: number } })._handle.fd;
        assert.equal(native.peerUser(fd), process.geteuid?.());
        native.sendParcel(fd, "here", [listener]);
        socket.end();
      });
      giver.listen({ path: `\0${name}` });
      await once(giver, "listening");
      // Before anybody accepts: it waits in the queue.
      const waiting = net.connect(port, "127.0.0.1");
      await once(waiting, "connect");
      const fd = native.connectLocal(name, 1000);
      // The giver is in this process: it answers in the next turn.
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { text, fds } = native.receiveParcel(fd);
      assert.equal(text, "here");
      native.closeFd(fd);
      native.closeFd(listener);
      giver.close();
      const { server } = await listening({ fd: fds[0] as number });
      assert.match(await readAll(waiting), /^127\.0\.0\.1 \d+$/);
      server.close();
    });

    it("says that nobody listens, and that a peer without a parcel is gone", async () => {
      assert.throws(
        () => native.connectLocal(`nobody-${process.pid}`, 100),
        failsWith("ECONNREFUSED", "connect"),
      );
      const name = `warp-gone-${process.pid}`;
      const server = net.createServer((socket) => socket.end()).listen({ path: `\0${name}` });
      await once(server, "listening");
      const fd = native.connectLocal(name, 1000);
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual(native.receiveParcel(fd), { text: "", fds: [] });
      native.closeFd(fd);
      server.close();
    });

    it("waits for a parcel no longer than it was told", async () => {
      const name = `warp-silent-${process.pid}`;
      const server = net.createServer(() => {}).listen({ path: `\0${name}` });
      await once(server, "listening");
      const fd = native.connectLocal(name, 50);
      assert.throws(() => native.receiveParcel(fd), failsWith("EAGAIN", "recvmsg"));
      native.closeFd(fd);
      server.close();
    });

    it("duplicates a descriptor: the socket lives until both are closed", async () => {
      const fd = native.createListener({ ip: "127.0.0.1", port: 0 });
      const { port } = native.listeningAddress(fd);
      const copy = native.duplicateFd(fd);
      native.closeFd(fd);
      assert.deepEqual(native.listeningAddress(copy), { ip: "127.0.0.1", port });
      native.closeFd(copy);
      assert.throws(() => native.listeningAddress(copy), failsWith("EBADF", "getsockopt SO_ACCEPTCONN"));
    });

    it("says of a socket that does not listen that it doesn't", () => {
      const fd = native.createSocket(4, { bind: { ip: "127.0.0.1" } });
      assert.throws(() => native.listeningAddress(fd), failsWith("EINVAL", "getsockname"));
      native.closeFd(fd);
    });

    it("shares memory: what one mapping writes, another reads", () => {
      const fd = native.createSharedMemory(4096);
      const [one, other] = [native.mapSharedMemory(fd), native.mapSharedMemory(fd)];
      assert.equal(one.byteLength, 4096);
      Atomics.add(new Int32Array(one), 7, 5);
      assert.equal(Atomics.load(new Int32Array(other), 7), 5);
      native.closeFd(fd);
    });

    it("says that no service manager listens", () => {
      assert.throws(
        () => native.sendDatagram(`@nobody-${process.pid}`, "READY=1"),
        failsWith("ECONNREFUSED", "sendto"),
      );
      assert.throws(() => native.sendDatagram("/nowhere/notify", "READY=1"), failsWith("ENOENT", "sendto"));
    });
  });
});
