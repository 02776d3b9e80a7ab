/**
 * The native addon: what `node:net` cannot do with a socket. Original destinations of redirected connections, sockets
 * with SO_MARK or a bound source address before connect, listeners with SO_REUSEPORT or IP_TRANSPARENT; and what goes
 * between processes: descriptors over Unix sockets, datagrams to the service manager, shared memory. And it runs over the
 * lines of large messages (src/smtp/newlines.ts).
 *
 * Loading never throws: where the addon is missing (another platform, no compiler at installation) `native.unavailable`
 * says why, and each function throws that text. `fixed` mode needs none of it.
 *
 * A file descriptor that a function returns belongs to the caller: hand it to `new net.Socket({ fd })` or
 * `server.listen({ fd })`, which then close it, or close it with `closeFd`.
 */

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";
import { type NextUnusualNewline, passLinesWith } from "../smtp/newlines.ts";

/** An address as the kernel knows it; `ip` is textual, a v4-mapped IPv6 address is given as IPv4. */
export interface NativeEndpoint {
  readonly ip: string;
  readonly port: number;
}

/** What every failed system call is thrown as: `code` as in Node ("EADDRNOTAVAIL"), `syscall` as "bind". */
export interface NativeError extends Error {
  readonly code: string;
  /** Negative, as in Node's own system errors. */
  readonly errno: number;
  /** "socket", "bind", "listen", "getsockopt", "getsockname", "close", or "setsockopt SO_MARK" and the like. */
  readonly syscall: string;
}

export interface NativeSocketOptions {
  /** SO_MARK (32 bits); EPERM without CAP_NET_ADMIN. 0 sets none. */
  readonly mark?: number | undefined;
  /** IP_TRANSPARENT: `bind` may name an address that this host doesn't have (tproxy); EPERM without CAP_NET_ADMIN. */
  readonly transparent?: boolean | undefined;
  /** IP_BIND_ADDRESS_NO_PORT, default true; without effect where `bind` names a port. */
  readonly bindAddressNoPort?: boolean | undefined;
  /** Where `bind` is "::": the port stays free for IPv4. */
  readonly ipv6Only?: boolean | undefined;
  /** The source address; port 0 or none leaves the port to connect. EADDRNOTAVAIL: this host doesn't have it. */
  readonly bind?: { readonly ip: string; readonly port?: number | undefined } | undefined;
}

export interface NativeListenerOptions {
  /** "::" is dual-stack unless `ipv6Only`. */
  readonly ip: string;
  /** 0: the kernel chooses. */
  readonly port: number;
  readonly reusePort?: boolean | undefined;
  /** IP_TRANSPARENT: accepts connections that a TPROXY rule hands over. */
  readonly transparent?: boolean | undefined;
  readonly ipv6Only?: boolean | undefined;
  /** Default 511. */
  readonly backlog?: number | undefined;
}

/** One message between processes, with descriptors (SCM_RIGHTS). */
export interface Parcel {
  readonly text: string;
  readonly fds: readonly number[];
}

/** Every function throws a NativeError when the kernel refuses, and a TypeError for arguments of a wrong type. */
export interface Native {
  /** Undefined where the addon is loaded, else one plain sentence that says why not. */
  readonly unavailable: string | undefined;
  /**
   * Where the connection on `fd` was going before REDIRECT. On a connection that was not redirected: its own local
   * address, or ENOENT where connection tracking never saw it.
   */
  originalDestination(fd: number): NativeEndpoint;
  /** A TCP socket before connect; gives its fd. */
  createSocket(family: 4 | 6, options?: NativeSocketOptions): number;
  /** A TCP socket that already listens; gives its fd. */
  createListener(options: NativeListenerOptions): number;
  /** IP_TRANSPARENT on a socket that somebody else made, also where it listens already; EPERM without CAP_NET_ADMIN. */
  makeTransparent(fd: number): void;
  /** Whether an IPv6 socket leaves IPv4 alone; throws for one of IPv4. */
  isIpv6Only(fd: number): boolean;
  /** For error paths, before the fd was handed to a net.Socket or net.Server. */
  closeFd(fd: number): void;

  /**
   * Connects to the abstract Unix socket `name` (without its leading NUL); gives its fd, which waits for a parcel
   * for at most `timeoutMs`. ECONNREFUSED: nobody listens there; EPERM: neither this user nor root does; EAGAIN: whoever
   * does never accepts.
   */
  connectLocal(name: string, timeoutMs: number): number;
  /** Waits for one parcel on such an fd; an empty text: the peer is gone. The descriptors belong to the caller. */
  receiveParcel(fd: number): Parcel;
  /** Sends one parcel; `fds` stay the caller's. */
  sendParcel(fd: number, text: string, fds: readonly number[]): void;
  /** The user id at the other end of a connected Unix socket. */
  peerUser(fd: number): number;
  /** A datagram to a Unix socket; a path that begins with "@" is abstract. */
  sendDatagram(path: string, text: string): void;
  /** A second fd of the same socket. */
  duplicateFd(fd: number): number;
  /** Where a listening TCP socket listens; throws for any other fd. */
  listeningAddress(fd: number): NativeEndpoint;
  /** Memory of zeroes that children may inherit; gives its fd. */
  createSharedMemory(octets: number): number;
  /** That memory, for as long as the process lives. Use Atomics on it. */
  mapSharedMemory(fd: number): ArrayBuffer;
}

export const native: Native = load();

type Addon = Omit<Native, "unavailable"> & { readonly nextUnusualNewline: NextUnusualNewline };

function load(): Native {
  // The same number of levels below the package's root in src/ and in dist/.
  const root = fileURLToPath(new URL("../..", import.meta.url));
  try {
    const nodeGypBuild = createRequire(import.meta.url)("node-gyp-build") as (folder: string) => Addon;
    const addon = nodeGypBuild(root);
    passLinesWith(addon.nextUnusualNewline);
    return withErrorNames(addon);
  } catch (error) {
    const cause = (error as Error).message.split("\n")[0] ?? "";
    return missing(
      `the native addon is not there (${cause}); npm rebuild (in a checkout: npm run build) makes it on Linux with a C++ compiler`,
    );
  }
}

function missing(unavailable: string): Native {
  const refuse = (): never => {
    throw new Error(unavailable);
  };
  return {
    unavailable,
    originalDestination: refuse,
    createSocket: refuse,
    createListener: refuse,
    makeTransparent: refuse,
    isIpv6Only: refuse,
    closeFd: refuse,
    connectLocal: refuse,
    receiveParcel: refuse,
    sendParcel: refuse,
    peerUser: refuse,
    sendDatagram: refuse,
    duplicateFd: refuse,
    listeningAddress: refuse,
    createSharedMemory: refuse,
    mapSharedMemory: refuse,
  };
}

/** The addon gives `errno` and `syscall`; the name of the error is Node's own table. */
function withErrorNames(addon: Addon): Native {
  const named = <Result>(call: () => Result): Result => {
    try {
      return call();
    } catch (error) {
      if (error instanceof Error && "errno" in error && typeof error.errno === "number") {
        const code = getSystemErrorName(error.errno);
        error.message = `${code} ${error.message}`;
        Object.assign(error, { code });
      }
      throw error;
    }
  };
  return {
    unavailable: undefined,
    originalDestination: (fd) => named(() => addon.originalDestination(fd)),
    createSocket: (family, options) => named(() => addon.createSocket(family, options)),
    createListener: (options) => named(() => addon.createListener(options)),
    makeTransparent: (fd) => named(() => addon.makeTransparent(fd)),
    isIpv6Only: (fd) => named(() => addon.isIpv6Only(fd)),
    closeFd: (fd) => named(() => addon.closeFd(fd)),
    connectLocal: (name, timeoutMs) => named(() => addon.connectLocal(name, timeoutMs)),
    receiveParcel: (fd) => named(() => addon.receiveParcel(fd)),
    sendParcel: (fd, text, fds) => named(() => addon.sendParcel(fd, text, fds)),
    peerUser: (fd) => named(() => addon.peerUser(fd)),
    sendDatagram: (path, text) => named(() => addon.sendDatagram(path, text)),
    duplicateFd: (fd) => named(() => addon.duplicateFd(fd)),
    listeningAddress: (fd) => named(() => addon.listeningAddress(fd)),
    createSharedMemory: (octets) => named(() => addon.createSharedMemory(octets)),
    mapSharedMemory: (fd) => named(() => addon.mapSharedMemory(fd)),
  };
}
