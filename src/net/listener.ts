/**
 * Listening sockets: with the addon they can share a port (SO_REUSEPORT) and take TPROXY's connections (IP_TRANSPARENT);
 * without it they are node:net's own. Every accepted connection becomes a transport, with a way to ask where it was going.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { Endpoint } from "../events/events.ts";
import { native } from "./native.ts";
import { NodeTransport, plainIp, type Transport } from "./transport.ts";

/** Connections that wait to be accepted (the kernel takes the smaller of this and net.core.somaxconn). */
const BACKLOG = 4096;

export interface ListenerOptions {
  readonly address: Endpoint;
  /** Several processes accept on this port. */
  readonly reusePort: boolean;
  readonly transparent: boolean;
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
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted(new NodeTransport(socket), () => originalDestination(socket));
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.removeListener("error", reject);
      resolve({ address: addressOf(server), close: () => server.close() });
    });
    try {
      bind(server, options);
    } catch (error) {
      reject(error as Error);
    }
  });
}

function bind(server: Server, { address, reusePort, transparent, fd }: ListenerOptions): void {
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
        backlog: BACKLOG,
      }),
    });
  } else {
    server.listen({ host: address.ip, port: address.port, backlog: BACKLOG });
  }
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
