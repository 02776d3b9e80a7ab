/**
 * Which mail a filter sees: every condition that is given must hold. Recipient domains match where one accepted recipient
 * does, so that adding a recipient never takes a message away from a filter. An address that servers may read in another
 * way matches every condition, so that no way of writing it does; so does a message of which no recipient is known, which
 * the destination would take all the same. Globs know `*` and `?`, and no case.
 */
import { domainToASCII, domainToUnicode } from "node:url";
import type { AddressFacts } from "../events/events.ts";
import { domainOf, hasPlainDomain } from "../smtp/path.ts";
import type { FilterEnvelope } from "./contract.ts";

export interface NetworkSet {
  /** Every address of this host. */
  readonly self: boolean;
  readonly networks: readonly { readonly address: string; readonly prefix: number }[];
}
export interface When {
  /** `<>` is the null sender. */
  readonly sender?: readonly string[] | undefined;
  readonly senderDomain?: readonly string[] | undefined;
  readonly recipientDomain?: readonly string[] | undefined;
  readonly client?: NetworkSet | undefined;
  readonly minOctets?: number | undefined;
  readonly maxOctets?: number | undefined;
  /** 0 to 100; which mail is decided by its transaction id. */
  readonly sharePercent?: number | undefined;
}

/** What the matching itself cannot know. */
export interface WhenFacts {
  /** Of this host's own addresses, as textual IPs. */
  isOwnAddress(ip: string): boolean;
}

export type Matcher = (envelope: FilterEnvelope, octets: number) => boolean;

export function matcher(when: When | undefined, facts: WhenFacts): Matcher {
  if (when === undefined) return () => true;
  const tests: Matcher[] = [];
  const { minOctets = 0, maxOctets, sharePercent = 100 } = when;
  if (minOctets > 0) tests.push((_, octets) => octets >= minOctets);
  if (maxOctets !== undefined) tests.push((_, octets) => octets <= maxOctets);
  if (sharePercent < 100) tests.push((envelope) => shareOf(envelope.transactionId) < sharePercent);
  if (when.sender !== undefined) {
    const sender = globs(when.sender);
    tests.push(
      ({ mailFrom }) => sender(mailFrom.address === "" ? "<>" : mailFrom.address) || isUncertain(mailFrom),
    );
  }
  if (when.senderDomain !== undefined) {
    const domain = domainGlobs(when.senderDomain);
    tests.push(({ mailFrom }) => domain(domainOf(mailFrom.address)) || isUncertain(mailFrom));
  }
  if (when.recipientDomain !== undefined) {
    const domain = domainGlobs(when.recipientDomain);
    tests.push(
      ({ recipients }) =>
        recipients.length === 0 ||
        recipients.some((recipient) => domain(domainOf(recipient.address)) || isUncertain(recipient)),
    );
  }
  if (when.client !== undefined) {
    const { self, networks } = when.client;
    const within = networks.map(({ address, prefix }) => network(address, prefix));
    tests.push(({ session }) => {
      const octets = ipOctets(session.client.ip);
      return (
        within.some((matches) => octets !== undefined && matches(octets)) ||
        (self && facts.isOwnAddress(session.client.ip))
      );
    });
  }
  return (envelope, octets) => tests.every((test) => test(envelope, octets));
}

/** Another server may take it for somebody else's, or for an address of another domain. */
function isUncertain({ address, unreadable = false }: AddressFacts): boolean {
  return unreadable || (address !== "" && !hasPlainDomain(address));
}

/** 0 to under 100, evenly spread (FNV-1a, then mixed: ids made in one millisecond differ in a few characters only). */
export function shareOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32) * 100;
}

const INTERNATIONAL = /[^\x00-\x7f]|xn--/;

/** Domains by globs, in each of their forms: as written, in A-labels and in U-labels (RFC 5890 §2.3.2.1) they are the same. */
export function domainGlobs(patterns: readonly string[]): (domain: string) => boolean {
  const test = globs(patterns);
  return (domain) =>
    test(domain) ||
    (INTERNATIONAL.test(domain) && (test(domainToASCII(domain)) || test(domainToUnicode(domain))));
}

export function globs(patterns: readonly string[]): (value: string) => boolean {
  const tests = patterns.map(glob);
  return (value) => {
    const lower = value.toLowerCase();
    return tests.some((test) => test.test(lower));
  };
}

/**
 * Between stars, each piece is taken where it stands first and never searched again (a lookahead is not backtracked into):
 * the work grows with the value's length only, whatever a client makes of it.
 */
function glob(pattern: string): RegExp {
  const [first = "", ...others] = pattern
    .toLowerCase()
    .split(/\*+/)
    .map((piece) => piece.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\?/g, "."));
  const last = others.pop();
  const between = others.map((piece, index) => `(?=(.*?${piece}))\\${index + 1}`);
  return new RegExp(`^${first}${between.join("")}${last === undefined ? "" : `.*${last}`}$`, "su");
}

export function network(address: string, prefix: number): (octets: Uint8Array) => boolean {
  const wanted = ipOctets(address);
  if (wanted === undefined) throw new TypeError(`${address} is no IP address`);
  return (octets) => {
    if (octets.length !== wanted.length) return false;
    for (let bit = 0; bit < prefix; bit += 8) {
      const mask = prefix - bit >= 8 ? 0xff : (0xff << (8 - (prefix - bit))) & 0xff;
      if (((octets[bit >> 3] as number) & mask) !== ((wanted[bit >> 3] as number) & mask)) return false;
    }
    return true;
  };
}

/** 4 or 16 octets of a textual address; a v4-mapped one counts as IPv4. */
export function ipOctets(text: string): Uint8Array | undefined {
  const bare = text.replace(/%.*$/, "");
  if (!bare.includes(":")) return ipv4(bare);
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(bare);
  const tail = dotted === null ? undefined : ipv4(dotted[2] as string);
  if (dotted !== null && tail === undefined) return undefined;
  const hex = tail === undefined ? bare : `${dotted?.[1]}${word(tail, 0)}:${word(tail, 2)}`;
  const halves = hex.split("::");
  if (halves.length > 2) return undefined;
  const [left, right] = halves.map((half) => (half === "" ? [] : half.split(":"))) as [string[], string[]?];
  const missing = 8 - left.length - (right?.length ?? 0);
  if (right === undefined ? missing !== 0 : missing < 1) return undefined;
  const words = [...left, ...Array<string>(right === undefined ? 0 : missing).fill("0"), ...(right ?? [])];
  if (!words.every((part) => /^[0-9a-f]{1,4}$/i.test(part))) return undefined;
  const octets = Uint8Array.from(
    words.flatMap((part) => [Number.parseInt(part, 16) >> 8, Number.parseInt(part, 16) & 255]),
  );
  const mapped =
    octets.subarray(0, 10).every((octet) => octet === 0) && octets[10] === 255 && octets[11] === 255;
  return mapped ? octets.slice(12) : octets;
}

function ipv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256))
    return undefined;
  return Uint8Array.from(parts, Number);
}

function word(octets: Uint8Array, at: number): string {
  return (((octets[at] as number) << 8) | (octets[at + 1] as number)).toString(16);
}
