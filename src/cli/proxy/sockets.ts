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
import { isDualStack, isIpv6Only } from "../../net/dual-stack.ts";
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
 * One entry for each address of `listen`: those in `given` made fit for `capture.mode`, the others made. Of the default addresses one that
 * the host lacks is left out. Throws a plain text; nothing made by it stays open then.
 */
export function openAddresses(config: Config, given: readonly OpenAddress[]): OpenAddress[] {
  const opened: OpenAddress[] = [];
  try {
    for (const address of wantedAddresses(config.listen, given)) {
      const found = given.find((one) => endpointText(one.address) === endpointText(address));
      if (found !== undefined && config.capture.mode === "tproxy") makeTransparent(found);
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

/**
 * A socket on :: that listens already takes IPv4 or does not, for good. So one that does serves for 0.0.0.0 as well, and
 * one that does not is used together with the 0.0.0.0 that came with it: `listen` may change from one to the other at a
 * restart. Throws where neither is what `listen` says.
 */
function wantedAddresses(listen: readonly Endpoint[], given: readonly OpenAddress[]): readonly Endpoint[] {
  let wanted = listen;
  for (const { address, fds } of given) {
    const { ip, port } = address;
    const listed = listen.find((one) => one.ip === "::" && one.port === port);
    if (ip !== "::" || listed === undefined) continue;
    const takesIpv4 = !native.isIpv6Only(fds[0] as number);
    if (takesIpv4 === isDualStack(listed, listen)) continue;
    const all = takesIpv4 ? listen : given.map((one) => one.address);
    const ipv4 = all.filter((one) => one.port === port && !isIPv6(one.ip));
    if (ipv4.some((one) => one.ip !== "0.0.0.0")) {
      throw new Error(
        `listen: the socket on ${endpointText(address)} that was handed to us ${takesIpv4 ? "takes IPv4 too" : "takes no IPv4"}, which cannot be changed while it listens: stop warp, and start it again`,
      );
    }
    wanted = takesIpv4 ? wanted.filter((one) => !ipv4.includes(one)) : [...wanted, ...ipv4];
  }
  return wanted;
}

/** Who made it may have had another mode; without IP_TRANSPARENT a TPROXY rule passes it over. */
function makeTransparent({ address, fds }: OpenAddress): void {
  try {
    for (const fd of fds) native.makeTransparent(fd);
  } catch (error) {
    throw new Error(
      `listen: capture.mode tproxy cannot use the socket on ${endpointText(address)} that was handed to us: ${(error as Error).message}`,
      { cause: error },
    );
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
    return make(address, config, isIpv6Only(address, config.listen));
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

function make(address: Endpoint, { workers, capture }: Config, ipv6Only: boolean): OpenAddress {
  const transparent = capture.mode === "tproxy";
  const family = isIPv6(address.ip) ? 6 : 4;
  // With SO_REUSEPORT another process of this user that listens there would share the port without a word.
  if (workers > 1 && address.port !== 0) {
    native.closeFd(native.createSocket(family, { transparent, ipv6Only, bind: address }));
  }
  const fds: number[] = [];
  try {
    let bound = address;
    for (let index = 0; index < Math.min(workers, MAX_SOCKETS); index++) {
      const reusePort = workers > 1;
      fds.push(native.createListener({ ...bound, reusePort, transparent, ipv6Only, backlog: 4096 }));
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
