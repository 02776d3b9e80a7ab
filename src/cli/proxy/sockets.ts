/**
 * Listening sockets of the whole proxy. The primary makes them (or gets them from the service manager or from the process
 * before it), keeps them, and lends each to a worker: a worker that dies takes no waiting connection along, and the process
 * that comes next gets the very same sockets.
 *
 * With several workers there are as many sockets for each address (SO_REUSEPORT), so that the kernel spreads connections.
 */
import { isIPv6 } from "node:net";
import type { Config } from "../../config/schema.ts";
import type { Endpoint } from "../../events/events.ts";
import { type NativeError, native } from "../../net/native.ts";

export interface OpenAddress {
  readonly address: Endpoint;
  readonly fds: readonly number[];
}

/** SCM_RIGHTS takes 253 descriptors at a time; more workers than these share sockets. */
const MAX_SOCKETS = 64;

/** "127.0.0.1:25", "[::1]:25". */
export function endpointText({ ip, port }: Endpoint): string {
  return isIPv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/**
 * One entry for each address of `listen`: those in `given` as they are, the others made. Of the default addresses one that
 * the host lacks is left out. Throws a plain text; nothing made by it stays open then.
 */
export function openAddresses(config: Config, given: readonly OpenAddress[]): OpenAddress[] {
  const opened: OpenAddress[] = [];
  try {
    for (const address of config.listen) {
      const found = given.find((one) => endpointText(one.address) === endpointText(address));
      const made = found ?? makeOrSkip(address, config);
      if (made !== undefined) opened.push(made);
    }
    if (opened.length === 0) throw new Error("cannot listen on any address");
    return opened;
  } catch (error) {
    closeAddresses(opened.filter((one) => !given.includes(one)));
    throw error;
  }
}

export function closeAddresses(addresses: readonly OpenAddress[]): void {
  for (const { fds } of addresses) for (const fd of fds) native.closeFd(fd);
}

/** The sockets that a worker accepts from; each socket has at least one worker, and each worker one socket. */
export function socketsOf(addresses: readonly OpenAddress[], worker: number, workers: number): number[] {
  return addresses.flatMap(({ fds }) =>
    fds.length < workers
      ? [fds[worker % fds.length] as number]
      : fds.filter((_, index) => index % workers === worker),
  );
}

function makeOrSkip(address: Endpoint, config: Config): OpenAddress | undefined {
  try {
    return make(address, config);
  } catch (error) {
    const { code } = error as NativeError;
    const absent = code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT";
    if (config.listenIsDefault && absent && config.listen.length > 1) return undefined;
    throw new ListenError(address, code, `listen: cannot listen on ${endpointText(address)}: ${why(error)}`, {
      cause: error,
    });
  }
}

export class ListenError extends Error {
  readonly address: Endpoint;
  readonly code: string;
  constructor(address: Endpoint, code: string, message: string, options: ErrorOptions) {
    super(message, options);
    this.address = address;
    this.code = code;
  }
}

function why(error: unknown): string {
  const { code, message } = error as NativeError;
  if (code === "EADDRINUSE") return "another process listens there (EADDRINUSE)";
  if (code === "EADDRNOTAVAIL") return "this host does not have that address (EADDRNOTAVAIL)";
  if (code === "EACCES")
    return "a port below 1024 needs CAP_NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start (EACCES)";
  return message;
}

function make(address: Endpoint, { workers, capture }: Config): OpenAddress {
  const transparent = capture.mode === "tproxy";
  const family = isIPv6(address.ip) ? 6 : 4;
  // With SO_REUSEPORT another process of this user that listens there would share the port without a word.
  if (workers > 1 && address.port !== 0) {
    native.closeFd(native.createSocket(family, { transparent, bind: address }));
  }
  const fds: number[] = [];
  try {
    let bound = address;
    for (let index = 0; index < Math.min(workers, MAX_SOCKETS); index++) {
      const reusePort = workers > 1;
      fds.push(native.createListener({ ...bound, reusePort, transparent, backlog: 4096 }));
      if (index === 0) bound = { ip: address.ip, port: native.listeningAddress(fds[0] as number).port };
    }
    return { address: bound, fds };
  } catch (error) {
    for (const fd of fds) native.closeFd(fd);
    throw error;
  }
}

/**
 * Socket activation (sd_listen_fds): descriptors from 3 on are for the process that LISTEN_PID names. Those that are no
 * listening TCP socket are left alone. The environment is cleared of it, since it is not for our children.
 */
export function activatedAddresses(environment: NodeJS.ProcessEnv, pid: number): OpenAddress[] {
  const { LISTEN_PID, LISTEN_FDS } = environment;
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete environment[name];
  if (LISTEN_PID !== String(pid) || native.unavailable !== undefined) return [];
  const found = new Map<string, { address: Endpoint; fds: number[] }>();
  for (let fd = 3; fd < 3 + Number(LISTEN_FDS ?? 0); fd++) {
    let address: Endpoint;
    try {
      address = native.listeningAddress(fd);
    } catch {
      continue;
    }
    const text = endpointText(address);
    const known = found.get(text);
    if (known === undefined) found.set(text, { address, fds: [fd] });
    else known.fds.push(fd);
  }
  return [...found.values()];
}
