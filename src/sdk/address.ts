/**
 * Addresses of hook servers: `unix:/path` or `host:port` (`[::1]:7070` for IPv6; port 0 takes a free one). Preparing a
 * Unix socket means: the path fits, its folder is there, and nothing but a stale socket is in the way.
 */
import { chmod, lstat, stat, unlink } from "node:fs/promises";
import { BlockList, connect, isIP } from "node:net";
import { dirname, isAbsolute } from "node:path";

export type HookAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** sun_path holds 108 octets with its NUL. */
const MAX_SOCKET_PATH = 107;

/** Reads `unix:/path` or `host:port`. Throws a TypeError that says what is wrong with it. */
export function parseAddress(text: string): HookAddress {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    if (!isAbsolute(path))
      throw new TypeError(`"${text}": a unix: address needs an absolute path, as in unix:/run/hook.sock`);
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
      throw new TypeError(
        `"${text}": the path of a Unix socket has at most ${MAX_SOCKET_PATH} octets, this one ${Buffer.byteLength(path)}`,
      );
    }
    return { kind: "unix", path };
  }
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new TypeError(
      `"${text}" is no address of a hook: it should be unix:/path or host:port, as in 127.0.0.1:7070 or [::1]:7070`,
    );
  }
  return { kind: "tcp", host, port };
}

/** The address in grpc-js' own syntax, for `Server.bindAsync` and for clients. */
export function grpcTarget(address: HookAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** True where what is sent never leaves the host: a Unix socket, 127.0.0.0/8, ::1, localhost. */
export function isLocal(address: HookAddress): boolean {
  if (address.kind === "unix" || address.host === "localhost") return true;
  const family = isIP(address.host);
  return family !== 0 && loopback.check(address.host, family === 6 ? "ipv6" : "ipv4");
}

/** Removes the socket that a dead server left at `path`. Throws where anything else is in the way. */
export async function clearStaleSocket(path: string): Promise<void> {
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (!folder?.isDirectory())
    throw new Error(`cannot listen on unix:${path}: the folder ${dirname(path)} is not there`);
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error(`cannot listen on unix:${path}: a file that is no socket is there`);
  if (await answers(path))
    throw new Error(`cannot listen on unix:${path}: another server is already listening there`);
  await unlink(path);
}

/** Sets who may connect: a client needs write permission on the socket. */
export async function setSocketMode(path: string, mode: number): Promise<void> {
  await chmod(path, mode);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // ECONNREFUSED: nobody listens. Any other answer (EACCES, EAGAIN of a full backlog) means that somebody may.
    probe.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}
