/**
 * How one warp takes over from another without a lost connection: it gets the very same listening sockets.
 *
 * SO_REUSEPORT alone is not enough: the kernel resets the connections that wait at a listener which closes, also while
 * another one listens on the port. A descriptor that was passed on (SCM_RIGHTS) is the same socket with the same queue: it
 * does not matter who of the two accepts, and when the old process closes its own descriptor, nothing is closed.
 *
 * For each address on which it listens warp also listens on the abstract Unix socket "warp ADDRESS". The name lives in the
 * network namespace, as the address does; there is no file to be left behind, and no directory to agree on. Both sides
 * look at the other's user id, since anybody may take such a name.
 *
 *   new                                         old
 *   connects to the name of an address
 *                                               one parcel: JSON {version, pid, addresses}, and the descriptors
 *   starts with them; both accept now
 *   "taken\n"                                   accepts no more, gives its names up
 *                                               "yours\n"; its transactions finish, and it ends
 *   takes the names, says that it listens
 *
 * A new process that fails before "taken" just closes the connection, and the old one goes on as if nothing had been.
 */
import { createServer, type Server, Socket } from "node:net";
import type { Endpoint } from "../../events/events.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { type NativeError, native } from "../../net/native.ts";
import { endpointText, type OpenAddress } from "./sockets.ts";

const VERSION = 1;
const CONNECT_MS = 3000;
const YOURS_MS = 10_000;
/** A name that is in use is tried again so often: first while the process before us may still have it, then slowly. */
const NAME_MS = 10_000;
const NAME_PAUSE_MS = 50;
const NAME_SLOW_PAUSE_MS = 5000;

export interface HandedOver {
  readonly addresses: readonly OpenAddress[];
  /** Where it serves metrics; undefined: nowhere. */
  readonly metrics: OpenAddress | undefined;
  /** The service manager has the sockets too (socket activation). */
  readonly activated: boolean;
}

// ------------------------------------------------------------------------------------------------------- the new process

/** A process that listens where we want to, and has given us its sockets. */
export class Predecessor implements HandedOver {
  readonly pid: number;
  readonly addresses: readonly OpenAddress[];
  readonly metrics: OpenAddress | undefined;
  readonly activated: boolean;
  private readonly socket: Socket;
  private readonly gone: Promise<void>;

  private constructor(fd: number) {
    const { text, fds } = native.receiveParcel(fd);
    if (text === "") throw new Error("it has handed over to another process, or ended");
    const offer = JSON.parse(text) as Offer;
    if (offer.version !== VERSION) throw new Error(`speaks version ${offer.version} of the handover`);
    const rest = [...fds];
    const take = ({ address, sockets }: OfferedAddress): OpenAddress => ({
      address,
      fds: rest.splice(0, sockets),
    });
    this.pid = offer.pid;
    this.activated = offer.activated;
    this.addresses = offer.addresses.map(take);
    this.metrics = offer.metrics && take(offer.metrics);
    this.socket = new Socket({ fd, readable: true, writable: true });
    this.socket.unref();
    this.socket.resume(); // its end is news
    this.socket.on("error", () => {}); // "close" follows
    this.gone = new Promise((resolve) => this.socket.once("close", () => resolve()));
  }

  /** Undefined: nobody of ours listens there. Blocks for at most some seconds. */
  static find(address: Endpoint, log: Telemetry["log"]): Predecessor | undefined {
    if (native.unavailable !== undefined || address.port === 0) return undefined;
    let fd: number | undefined;
    try {
      fd = native.connectLocal(nameOf(address), CONNECT_MS);
      return new Predecessor(fd);
    } catch (error) {
      if (fd !== undefined) native.closeFd(fd);
      if ((error as NativeError).code === "ECONNREFUSED") return undefined;
      const text = isStranger(error)
        ? `${strangerText(nameOf(address))}: no process that listens on ${endpointText(address)} can be taken over from`
        : `the process that listens on ${endpointText(address)} does not hand over`;
      log("warn", "no_handover", text, {}, error);
      return undefined;
    }
  }

  /** We accept: it need not any more. Resolves when it has given up its names. */
  async taken(): Promise<void> {
    this.socket.ref();
    const yours = new Promise<void>((resolve) => this.socket.once("data", () => resolve()));
    this.socket.write("taken\n");
    await Promise.race([yours, this.gone, wait(YOURS_MS)]);
    this.socket.unref();
  }

  /** Resolves when that process has ended. */
  ended(): Promise<void> {
    return this.gone;
  }

  /** It goes on without us. */
  abandon(): void {
    this.socket.destroy();
  }
}

// ------------------------------------------------------------------------------------------------------- the old process

interface OfferedAddress {
  readonly address: Endpoint;
  readonly sockets: number;
}
interface Offer {
  readonly version: number;
  readonly pid: number;
  readonly addresses: readonly OfferedAddress[];
  readonly metrics: OfferedAddress | undefined;
  readonly activated: boolean;
}

/** Offers our sockets to whoever of ours comes next. */
export class Handover {
  private readonly offered: HandedOver;
  private readonly log: Telemetry["log"];
  private readonly taken: () => void;
  private servers: Server[] = [];
  private closed = false;
  /** Who was offered the sockets and has not taken them yet; others wait until it has, or has given up. */
  private candidate: Socket | undefined;
  private readonly queue = new Set<Socket>();

  /** `taken`: another process accepts from these sockets now. */
  constructor(offered: HandedOver, log: Telemetry["log"], taken: () => void) {
    this.offered = offered;
    this.log = log;
    this.taken = taken;
  }

  /** Takes the names that are free. One that is not is waited for meanwhile; until then nobody can take over from us. */
  async open(): Promise<void> {
    const names = this.offered.addresses.map(({ address }) => nameOf(address));
    await Promise.all(
      names.map(async (name) => {
        const error = await this.listen(name);
        if (error !== undefined) void this.waitFor(name, error);
      }),
    );
  }

  close(): void {
    this.closed = true;
    for (const server of this.servers.splice(0)) server.close();
    // They find the one that has taken over.
    for (const socket of this.queue) socket.destroy();
  }

  private async waitFor(name: string, reason: Error): Promise<void> {
    const isInUse = (reason as NodeJS.ErrnoException).code === "EADDRINUSE";
    const strangerHasIt = isInUse && isStrangers(name);
    const patientUntil = isInUse && !strangerHasIt ? performance.now() + NAME_MS : 0;
    let isTold = false;
    for (let error: Error | undefined = reason; error !== undefined && !this.closed; ) {
      if (!isTold && performance.now() > patientUntil) {
        const what = strangerHasIt
          ? strangerText(name)
          : `the name "${name}" cannot be had (ss -xlp shows who has it)`;
        this.log("warn", "no_handover", `${what}: the next warp will not be able to take over`, {}, error);
        isTold = true;
      }
      await wait(isTold ? NAME_SLOW_PAUSE_MS : NAME_PAUSE_MS);
      if (!this.closed) error = await this.listen(name);
    }
    if (isTold && !this.closed) {
      this.log("info", "handover_possible", `the name "${name}" is ours now: the next warp can take over`);
    }
  }

  /** Undefined: the name is ours. */
  private listen(name: string): Promise<Error | undefined> {
    const server = createServer((socket) => this.asked(socket));
    return new Promise((resolve) => {
      server.once("error", resolve);
      server.listen({ path: `\0${name}` }, () => {
        if (this.closed) server.close();
        else this.servers.push(server);
        resolve(undefined);
      });
    });
  }

  private asked(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    socket.unref();
    socket.resume(); // its end is news
    this.queue.add(socket);
    socket.once("close", () => {
      this.queue.delete(socket);
      if (this.candidate !== socket) return;
      this.candidate = undefined;
      const [next] = this.queue;
      if (next !== undefined) this.offer(next);
    });
    if (this.candidate === undefined) this.offer(socket);
  }

  private offer(socket: Socket): void {
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
    if (fd === undefined || fd < 0) return;
    this.candidate = socket;
    this.queue.delete(socket);
    const { addresses, metrics, activated } = this.offered;
    try {
      const user = native.peerUser(fd);
      if (user !== 0 && user !== process.geteuid?.()) throw new Error(`it runs as user ${user}`);
      const all = [...addresses, ...(metrics === undefined ? [] : [metrics])];
      const offer: Offer = {
        version: VERSION,
        pid: process.pid,
        activated,
        addresses: addresses.map(offeredAddress),
        metrics: metrics && offeredAddress(metrics),
      };
      native.sendParcel(
        fd,
        JSON.stringify(offer),
        all.flatMap(({ fds }) => fds),
      );
    } catch (error) {
      this.log("error", "handover_refused", "another process asked for our sockets", {}, error);
      socket.destroy();
      return;
    }
    socket.once("data", () => {
      this.close();
      this.taken();
      // It stays open until we have ended: that is how the other one knows.
      socket.write("yours\n");
    });
  }
}

function offeredAddress({ address, fds }: OpenAddress): OfferedAddress {
  return { address, sockets: fds.length };
}

function nameOf(address: Endpoint): string {
  return `warp ${endpointText(address)}`;
}

/** Names have no owner: anybody may take one. */
function isStrangers(name: string): boolean {
  try {
    native.closeFd(native.connectLocal(name, CONNECT_MS));
    return false;
  } catch (error) {
    return isStranger(error);
  }
}

function isStranger(error: unknown): boolean {
  const { code, syscall } = error as NativeError;
  return syscall === "connect" && code === "EPERM";
}

function strangerText(name: string): string {
  return `the name "${name}" is held by a process of another user (ss -xlp shows it)`;
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
