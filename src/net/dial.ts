/**
 * Connects to a destination: from a source IP, with warp's mark, within a deadline. With the addon the socket is made and
 * bound before connect (SO_MARK, IP_BIND_ADDRESS_NO_PORT); without it (fixed mode elsewhere than Linux) by node:net alone.
 */
import { lookup } from "node:dns/promises";
import { isIP, type Socket } from "node:net";
import type { Endpoint } from "../events/events.ts";
import { native } from "./native.ts";
import { ReadSocket } from "./read-socket.ts";
import { NodeTransport, plainIp, type Transport } from "./transport.ts";

/**
 * refused, unreachable, timeout: of the destination. not_local: the source IP isn't here (bind). no_port: it has no free
 * port (connect). aborted: nobody waits any more.
 */
export type DialErrorKind =
  | "refused"
  | "unreachable"
  | "timeout"
  | "not_local"
  | "no_port"
  | "aborted"
  | "failed";

export class DialError extends Error {
  override readonly name = "DialError";
  readonly kind: DialErrorKind;
  constructor(kind: DialErrorKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** Lets whoever waits for a connection give it up. (An AbortSignal costs more than all else of a dial.) */
export class GivingUp {
  private run: (() => void) | undefined;
  private givenUp = false;

  giveUp(): void {
    this.givenUp = true;
    this.run?.();
  }

  /** Runs once it is given up, now where it was already; undefined: nothing any more. */
  onGivenUp(run: (() => void) | undefined): void {
    this.run = run;
    if (this.givenUp) run?.();
  }
}

export interface DialOptions {
  /** Undefined: the system chooses. */
  readonly sourceIp: string | undefined;
  readonly timeoutMs: number;
  readonly givingUp: GivingUp;
  /** Told both ends as soon as the kernel has chosen the local one, before the peer can see the connection. */
  readonly bound: ((local: Endpoint, remote: Endpoint) => void) | undefined;
}

export interface Dialer {
  /** Rejects with DialError. */
  dial(destination: Endpoint, options: DialOptions): Promise<Transport>;
}

type Addresses = readonly { readonly address: string }[];

export interface NodeDialerOptions {
  /** SO_MARK of warp's connections; 0: none (fixed mode, or no right to set it). */
  readonly mark: number;
  /** tproxy: a source IP of the client's may be one that this host doesn't have. */
  readonly transparent: boolean;
  /** Addresses of a host name (`fixed`); default: the system's resolver. */
  readonly lookup?: (name: string) => Promise<Addresses>;
}

export class NodeDialer implements Dialer {
  private readonly options: Required<NodeDialerOptions>;
  /** Questions to the resolver that it has not answered, by name. */
  private readonly asked = new Map<string, Promise<Addresses>>();

  constructor(options: NodeDialerOptions) {
    this.options = { lookup: (name) => lookup(name, { all: true }), ...options };
  }

  async dial(destination: Endpoint, options: DialOptions): Promise<Transport> {
    if (isIP(destination.ip) !== 0) return this.connect(destination, options);
    return this.dialName(destination, options);
  }

  /** `fixed` with a host name: its addresses in the resolver's order, all within the one deadline. */
  private async dialName(destination: Endpoint, options: DialOptions): Promise<Transport> {
    const started = performance.now();
    const addresses = await this.addressesOf(destination.ip, options);
    let last = new DialError("unreachable", `no address for ${destination.ip}`);
    for (const { address } of addresses) {
      const left = options.timeoutMs - (performance.now() - started);
      if (left <= 0) break;
      if (options.sourceIp !== undefined && isIP(options.sourceIp) !== isIP(address)) continue;
      try {
        return await this.connect({ ip: address, port: destination.port }, { ...options, timeoutMs: left });
      } catch (error) {
        if (!(error instanceof DialError)) throw error;
        last = error;
      }
    }
    throw last;
  }

  /** The resolver knows no deadline of its own: who waits for it is let go in time. */
  private addressesOf(name: string, options: DialOptions): Promise<Addresses> {
    return new Promise((resolve, reject) => {
      const fail = (kind: DialErrorKind, text: string, cause?: unknown): void => {
        clearTimeout(timer);
        options.givingUp.onGivenUp(undefined);
        reject(new DialError(kind, text, cause));
      };
      const timer = setTimeout(
        () => fail("timeout", `no answer of the resolver for ${name} in time`),
        options.timeoutMs,
      );
      options.givingUp.onGivenUp(() => fail("aborted", "nobody waits for the connection any more"));
      this.ask(name).then(
        (addresses) => {
          clearTimeout(timer);
          resolve(addresses);
        },
        (error: unknown) => fail("unreachable", `no address for ${name}`, error),
      );
    });
  }

  /**
   * A question cannot be taken back, and few are asked at a time: while the resolver is away, one of each session would make
   * a queue without end, and once it is back those who still wait would be behind those who left.
   */
  private ask(name: string): Promise<Addresses> {
    let answer = this.asked.get(name);
    if (answer === undefined) {
      answer = this.options.lookup(name).finally(() => this.asked.delete(name));
      this.asked.set(name, answer);
    }
    return answer;
  }

  private connect(destination: Endpoint, options: DialOptions): Promise<Transport> {
    return new Promise((resolve, reject) => {
      let socket: Socket;
      try {
        socket = this.open(destination, options.sourceIp);
      } catch (error) {
        reject(bindError(error, options.sourceIp));
        return;
      }
      const settle = (error: DialError | undefined): void => {
        clearTimeout(timer);
        options.givingUp.onGivenUp(undefined);
        socket.removeListener("error", failed);
        socket.removeListener("connect", connected);
        if (error === undefined) return resolve(new NodeTransport(socket, destination));
        socket.on("error", () => {}); // it has been told; a second error of the same socket has no listener else
        socket.destroy();
        reject(error);
      };
      const connected = (): void => settle(undefined);
      const failed = (error: Error): void => settle(connectError(error, destination));
      const abort = (): void => settle(new DialError("aborted", "nobody waits for the connection any more"));
      const timer = setTimeout(
        () =>
          settle(new DialError("timeout", `${destination.ip}:${destination.port} did not answer in time`)),
        options.timeoutMs,
      );
      socket.on("connect", connected);
      socket.on("error", failed);
      // node:net calls connect(2) in the next tick; this runs behind it, and still before any event of the loop.
      if (options.bound !== undefined) process.nextTick(() => tellBound(socket, destination, options.bound));
      options.givingUp.onGivenUp(abort);
    });
  }

  private open(destination: Endpoint, sourceIp: string | undefined): ReadSocket {
    const family = isIP(destination.ip) === 6 ? 6 : 4;
    const plain = native.unavailable !== undefined || (this.options.mark === 0 && sourceIp === undefined);
    const socket = new ReadSocket(plain ? {} : { fd: this.createSocket(family, sourceIp) });
    // A destination that refuses within a message and closes resets the connection; its reply must not become a retry.
    socket.hearsOut = true;
    socket.setNoDelay(true);
    return socket.connect({
      host: destination.ip,
      port: destination.port,
      family,
      ...(plain && sourceIp !== undefined ? { localAddress: sourceIp } : {}),
    });
  }

  private createSocket(family: 4 | 6, sourceIp: string | undefined): number {
    const { mark, transparent } = this.options;
    return native.createSocket(family, {
      mark,
      transparent: transparent && sourceIp !== undefined,
      bind: sourceIp === undefined ? undefined : { ip: sourceIp },
    });
  }
}

function tellBound(socket: Socket, remote: Endpoint, bound: DialOptions["bound"]): void {
  const { localAddress, localPort } = socket;
  if (localAddress !== undefined && localPort)
    bound?.({ ip: plainIp(localAddress), port: localPort }, remote);
}

function bindError(error: unknown, sourceIp: string | undefined): DialError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "EADDRNOTAVAIL")
    return new DialError("not_local", `${sourceIp} is not an address of this host`, error);
  return new DialError("failed", `no socket: ${(error as Error).message}`, error);
}

function connectError(error: Error, destination: Endpoint): DialError {
  const { code, syscall } = error as NodeJS.ErrnoException;
  const text = `${destination.ip}:${destination.port}: ${error.message}`;
  switch (code) {
    case "ECONNREFUSED":
    case "ECONNRESET":
      return new DialError("refused", text, error);
    case "ETIMEDOUT":
      return new DialError("timeout", text, error);
    case "EADDRNOTAVAIL":
      // node:net binds in the same call: only its syscall tells the two apart.
      return new DialError(syscall === "bind" ? "not_local" : "no_port", text, error);
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EACCES":
    case "EPERM":
      return new DialError("unreachable", text, error);
    default:
      return new DialError("failed", text, error);
  }
}
