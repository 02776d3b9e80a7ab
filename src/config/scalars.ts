/**
 * The single values of the configuration: durations, sizes, addresses, networks, replies. Each reader takes what YAML
 * or a flag gave (text or number) and returns the normalised value, or throws `Unreadable`, whose message says what
 * the value should have been. Pure; nothing here looks at the host.
 */
import { isIP, SocketAddress } from "node:net";

/** The message completes the sentence "was X, should be …". */
export class Unreadable extends Error {
  override readonly name = "Unreadable";
}

export interface IpPort {
  /** Canonical textual address, without brackets. */
  readonly ip: string;
  readonly port: number;
}
export interface HostPort {
  /** Host name or textual address, without brackets. */
  readonly host: string;
  readonly port: number;
}
export interface Network {
  /** Canonical address with all host bits zero. */
  readonly address: string;
  readonly prefix: number;
  readonly family: 4 | 6;
}
export type HookAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };
export interface ReplyText {
  readonly code: number;
  /** "5.7.1", or empty. */
  readonly enhancedCode: string;
  readonly text: string;
}

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1000,
  MB: 1_000_000,
  GB: 1_000_000_000,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
};

/** "250ms", "10s", "1m30s", "1h", "1d" → ms. A bare number has no unit and is refused, except 0. */
export function readDuration(value: unknown): number {
  const wanted = "a duration with its unit (ms, s, m, h, d), such as 10s or 1m30s";
  if (value === 0 || value === "0") return 0;
  if (typeof value !== "string") throw new Unreadable(wanted);
  const text = value.trim();
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+$/.test(text)) throw new Unreadable(wanted);
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/g)) {
    total += Number(amount) * DURATION_UNITS[unit!]!;
  }
  return Math.round(total);
}

/** "16KiB", "1 MiB", "2GB", "10240000", 10240000 → octets. */
export function readSize(value: unknown): number {
  const wanted = "a number of octets, with or without a unit (KiB, MiB, GiB, KB, MB, GB), such as 16KiB";
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)$/i.exec(textOf(value, wanted));
  if (match === null) throw new Unreadable(wanted);
  const unit = SIZE_UNITS[match[2]!.toUpperCase()] ?? SIZE_UNITS[`${match[2]!.toUpperCase()}B`];
  const octets = Math.round(Number(match[1]) * (unit ?? Number.NaN));
  if (!Number.isSafeInteger(octets)) throw new Unreadable(wanted);
  return octets;
}

/** A textual IPv4 or IPv6 address (brackets allowed around IPv6) → canonical form. */
export function readIp(value: unknown): string {
  const wanted = "an IPv4 or IPv6 address, such as 203.0.113.10 or 2001:db8::10";
  const text = unbracket(textOf(value, wanted));
  if (isIP(text) === 0 || text.includes("%")) throw new Unreadable(wanted);
  return canonicalIp(text);
}

export function familyOf(ip: string): 4 | 6 {
  return isIP(ip) === 6 ? 6 : 4;
}

/** "127.0.0.1:10025", "[::1]:10025" → address and port. */
export function readIpPort(value: unknown): IpPort {
  const { host, port } = splitHostPort(
    value,
    "ADDRESS:PORT with a literal address, such as 127.0.0.1:10025 or [::1]:10025",
    0,
  );
  if (isIP(host) === 0) {
    throw new Unreadable("ADDRESS:PORT with a literal address, such as 127.0.0.1:10025 or [::1]:10025");
  }
  return { ip: canonicalIp(host), port };
}

/** "mx.example:25", "192.0.2.1:25", "[2001:db8::1]:25" → host and port. */
export function readHostPort(value: unknown): HostPort {
  return splitHostPort(value, "HOST:PORT, such as mx.example:25 or [2001:db8::1]:25", 1);
}

/** "unix:/path" or "host:port". */
export function readHookAddress(value: unknown): HookAddress {
  const wanted = "unix:/path or HOST:PORT, such as unix:/run/warp/hook.sock or 127.0.0.1:7443";
  if (typeof value === "string" && value.startsWith("unix:")) {
    const path = value.slice(5).replace(/^\/\/(?=\/)/, "");
    if (!path.startsWith("/")) throw new Unreadable(`${wanted}; the path after unix: has to be absolute`);
    // sun_path has 108 octets, one of them for the final NUL.
    if (Buffer.byteLength(path) > 107) throw new Unreadable("a unix socket path of at most 107 octets");
    return { kind: "unix", path };
  }
  return { kind: "tcp", ...splitHostPort(value, wanted, 1) };
}

/** "10.0.0.0/8", "2001:db8::/32", or one address. Host bits have to be zero. */
export function readNetwork(value: unknown): Network {
  const wanted = "a network or address, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1";
  if (typeof value !== "string") throw new Unreadable(wanted);
  const [addressText = "", prefixText, ...rest] = value.trim().split("/");
  const address = unbracket(addressText);
  if (rest.length > 0 || isIP(address) === 0 || address.includes("%")) throw new Unreadable(wanted);
  const family = familyOf(address);
  const width = family === 4 ? 32 : 128;
  if (prefixText === undefined) return { address: canonicalIp(address), prefix: width, family };
  if (!/^\d{1,3}$/.test(prefixText) || Number(prefixText) > width) {
    throw new Unreadable(`a network with a prefix of 0 to ${width} for IPv${family}`);
  }
  const prefix = Number(prefixText);
  const masked = canonicalIp(maskIp(address, prefix));
  if (masked !== canonicalIp(address)) throw new Unreadable(`the network's own address, ${masked}/${prefix}`);
  return { address: masked, prefix, family };
}

/** "550 5.7.1 text" → parts; `firstDigit` is 4 or 5. 421 and 521 would close the session and are refused. */
export function readReply(value: unknown, firstDigit: 4 | 5): ReplyText {
  const wanted = `a reply with a ${firstDigit}xx code${firstDigit === 4 ? " (not 421)" : " (not 521)"}, such as "${firstDigit}5${firstDigit === 4 ? 1 : 0} ${firstDigit}.7.1 text"`;
  if (typeof value !== "string") throw new Unreadable(wanted);
  const match = /^(\d{3})(?: ([245]\.\d{1,3}\.\d{1,3}))?(?: ([\x20-\x7e]{1,400}))?$/.exec(value.trim());
  const code = Number(match?.[1]);
  if (match === null || Math.floor(code / 100) !== firstDigit || code === 421 || code === 521) {
    throw new Unreadable(wanted);
  }
  const enhancedCode = match[2] ?? "";
  if (enhancedCode !== "" && !enhancedCode.startsWith(`${firstDigit}.`)) {
    throw new Unreadable(`${wanted}: the enhanced code has to begin with ${firstDigit} as the code does`);
  }
  return { code, enhancedCode, text: match[3] ?? (firstDigit === 4 ? "Try again later" : "Rejected") };
}

/** 25, "25", "25%", "0.5 %" → 0…100. */
export function readShare(value: unknown): number {
  const wanted = "a share from 0 to 100 %, such as 25%";
  const match = /^(\d+(?:\.\d+)?)\s*%?$/.exec(textOf(value, wanted));
  const share = Number(match?.[1]);
  if (match === null || share > 100) throw new Unreadable(wanted);
  return share;
}

/** What YAML may give without quotes: a number is as good as its text, a mapping or a list is not. */
function textOf(value: unknown, wanted: string): string {
  if (typeof value !== "string" && typeof value !== "number") throw new Unreadable(wanted);
  return String(value).trim();
}

/** The first `prefix` bits of a textual address, the rest zero; textual again, not canonical. */
function maskIp(ip: string, prefix: number): string {
  const groups = expandIp(ip);
  const bits = familyOf(ip) === 4 ? 8 : 16;
  const masked = groups.map((group, index) => {
    const kept = Math.min(Math.max(prefix - index * bits, 0), bits);
    return group & (((1 << bits) - 1) ^ ((1 << (bits - kept)) - 1));
  });
  return familyOf(ip) === 4 ? masked.join(".") : masked.map((group) => group.toString(16)).join(":");
}

/** Four octets of an IPv4 address, eight groups of an IPv6 one. */
function expandIp(ip: string): number[] {
  if (familyOf(ip) === 4) return ip.split(".").map(Number);
  const text = ip.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, a, b, c, d) => {
    return `${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`;
  });
  const [head = "", tail] = text.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? [] : new Array<string>(8 - left.length - right.length).fill("0");
  return [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
}

function canonicalIp(ip: string): string {
  return new SocketAddress({ address: ip, family: familyOf(ip) === 4 ? "ipv4" : "ipv6" }).address;
}

function unbracket(text: string): string {
  return /^\[.*\]$/.test(text) ? text.slice(1, -1) : text;
}

function splitHostPort(value: unknown, wanted: string, lowestPort: 0 | 1): HostPort {
  if (typeof value !== "string") throw new Unreadable(wanted);
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value.trim());
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  if (match === null || (match[1] !== undefined && isIP(match[1]) !== 6)) throw new Unreadable(wanted);
  if (isIP(host) === 6 && (host.includes("%") || /^fe[89ab]/i.test(host))) {
    throw new Unreadable(`${wanted}; not a link-local address, which is one only together with an interface`);
  }
  if (port < lowestPort || port > 65535) throw new Unreadable(`${wanted}; a port is ${lowestPort} to 65535`);
  if (
    isIP(host) === 0 &&
    (!/^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(host) || /^[\d.]+$/.test(host))
  ) {
    throw new Unreadable(wanted);
  }
  return { host: isIP(host) === 0 ? host : canonicalIp(host), port };
}
