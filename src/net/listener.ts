/**
 * Listening sockets: with the addon they can share a port (SO_REUSEPORT) and take TPROXY's connections (IP_TRANSPARENT);
 * without it they are node:net's own. Every accepted connection becomes a transport, with a way to ask where it was going.
 */
import { createServer, type Server, type Socket, type SocketConstructorOpts } from "node:net";
import type { Endpoint } from "../events/events.ts";
import { native } from "./native.ts";
import { ReadSocket } from "./read-socket.ts";
import { NodeTransport, plainIp, type Transport } from "./transport.ts";

/** Connections that wait to be accepted (the kernel takes the smaller of this and net.core.somaxconn). */
const BACKLOG = 4096;

export interface ListenerOptions {
  readonly address: Endpoint;
  /** Several processes accept on this port. */
  readonly reusePort: boolean;
  readonly transparent: boolean;
  /** "::" without IPv4. */
  readonly ipv6Only?: boolean | undefined;
  /** A listening socket that was handed to this process; it is used as it is. */
  readonly fd?: number | undefined;
}

export interface Listener {
  /** Where it listens, with the port that the kernel chose where 0 was asked for. */
  readonly address: Endpoint;
  /** Accepts no more; connections go on. */
  close(): void;
}

/** Listens; rejects with the system's error (EADDRINUSE, EADDRNOTAVAIL, EACCES). `original` throws outside of redirect. */
export function listen(
  options: ListenerOptions,
  accepted: (transport: Transport, original: () => Endpoint) => void,
): Promise<Listener> {
  const connected = (socket: Socket): void => {
    // Reset while it waited to be accepted: there is nobody to talk to, and no address to judge.
    if (socket.remoteAddress === undefined) socket.destroy();
    else accepted(new NodeTransport(socket), () => originalDestination(socket));
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, connected);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.removeListener("error", reject);
      acceptReadSockets(server, connected);
      resolve({ address: addressOf(server), close: () => server.close() });
    });
    try {
      bind(server, options);
    } catch (error) {
      reject(error as Error);
    }
  });
}

function bind(
  server: Server,
  { address, reusePort, transparent, ipv6Only = false, fd }: ListenerOptions,
): void {
  if (fd !== undefined) {
    // node:net calls listen(2) again; without a number the queue would shrink to 511.
    server.listen({ fd }, BACKLOG);
  } else if (native.unavailable === undefined && (reusePort || transparent)) {
    server.listen({
      fd: native.createListener({
        ip: address.ip,
        port: address.port,
        reusePort,
        transparent,
        ipv6Only,
        backlog: BACKLOG,
      }),
    });
  } else {
    server.listen({ host: address.ip, port: address.port, ipv6Only, backlog: BACKLOG });
  }
}

/** What node:net keeps of a listening socket and of an accepted one. */
interface ServerHandle {
  onconnection(this: ServerHandle, error: number, accepted: AcceptedHandle): void;
}
interface AcceptedHandle {
  setNoDelay(on: boolean): void;
}

/**
 * A net.Server makes its sockets itself and knows no `onread`, so they are made here. That takes what node:net keeps to
 * itself: where another version has it otherwise, its own sockets serve as well, at more CPU.
 */
function acceptReadSockets(server: Server, connected: (socket: Socket) => void): void {
  const { _handle: listening } = server as unknown as { _handle?: Partial<ServerHandle> | null };
  const ofNode = listening?.onconnection;
  if (listening === undefined || listening === null || typeof ofNode !== "function") return;
  listening.onconnection = function (error, handle) {
    if (error !== 0) return ofNode.call(this, error, handle);
    handle.setNoDelay(true);
    connected(new ReadSocket({ handle, readable: true, writable: true } as unknown as SocketConstructorOpts));
  };
}

function addressOf(server: Server): Endpoint {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("not a TCP listener");
  return { ip: plainIp(address.address), port: address.port };
}

function originalDestination(socket: Socket): Endpoint {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0) throw new Error("the client has left");
  return native.originalDestination(fd);
}
