/**
 * Whose reputation a message counts for: one fact of it, or a tuple of facts, written `kind:value`. Addresses are
 * normalised first, so that a mailing list or a forwarder's rewriting is one sender and not one key per message:
 * domain in lower case, BATV (`prvs=`, draft-levine-smtp-batv) and SRS (`SRS0`, `SRS1`) undone, `+detail` cut, VERP
 * optionally. The null sender `<>` is an identity of its own. Of an address that is longer than servers have to take, the
 * end counts: a client that makes addresses up fills no store with them.
 */
import { BoundedMap } from "../egress/bounded-map.ts";

export const IDENTITY_KINDS = ["mail_from", "sender_domain", "client", "auth_user"] as const;
export type IdentityKind = (typeof IDENTITY_KINDS)[number];
export const STRIPS = ["plus", "batv", "srs", "verp"] as const;
export type Strip = (typeof STRIPS)[number];

export interface IdentitySettings {
  /** One kind, or several: a tuple. */
  readonly kinds: readonly IdentityKind[];
  readonly strip: ReadonlySet<Strip>;
}
export interface IdentityFacts {
  /** Without angle brackets; empty for the null sender. */
  readonly mailFrom: string;
  readonly clientIp: string;
  readonly authUser: string;
}

export const NULL_SENDER = "<>";

/** Local part, @ and domain (RFC 5321 §4.5.3.1). */
const LONGEST_ADDRESS = 64 + 1 + 255;

/** "mail_from:alice@example.com", "sender_domain+client:example.com|192.0.2.7". */
export function identityOf(facts: IdentityFacts, settings: IdentitySettings): string {
  const [first, ...more] = settings.kinds;
  if (first !== undefined && more.length === 0)
    return `${first}:${identityPart(first, facts, settings.strip)}`;
  const values = settings.kinds.map((kind) => identityPart(kind, facts, settings.strip));
  return `${settings.kinds.join("+")}:${values.join("|")}`;
}

const REMEMBERED = 10_000;

/** Answers as `identityOf` does, and remembers senders: each message asks twice, and most senders write again. */
export class Identities {
  readonly #settings: IdentitySettings;
  readonly #ofSenders = new BoundedMap<string, string>(REMEMBERED);
  readonly #needsSenderOnly: boolean;

  constructor(settings: IdentitySettings) {
    this.#settings = settings;
    this.#needsSenderOnly = settings.kinds.every((kind) => kind === "mail_from" || kind === "sender_domain");
  }

  of(facts: IdentityFacts): string {
    if (!this.#needsSenderOnly || facts.mailFrom.length > LONGEST_ADDRESS)
      return identityOf(facts, this.#settings);
    const known = this.#ofSenders.get(facts.mailFrom);
    if (known !== undefined) return known;
    const identity = identityOf(facts, this.#settings);
    this.#ofSenders.set(facts.mailFrom, identity);
    return identity;
  }
}

function identityPart(kind: IdentityKind, facts: IdentityFacts, strip: ReadonlySet<Strip>): string {
  switch (kind) {
    case "client":
      return facts.clientIp;
    case "auth_user":
      // Who doesn't authenticate is told apart by address, so that all of them don't share one reputation.
      return facts.authUser !== "" ? facts.authUser : `-${facts.clientIp}`;
    case "mail_from":
      return normaliseAddress(facts.mailFrom, strip);
    case "sender_domain": {
      const address = normaliseAddress(facts.mailFrom, strip);
      return address === NULL_SENDER ? address : address.slice(address.lastIndexOf("@") + 1);
    }
  }
}

/** The address that reputation counts for; `<>` for the null sender. Idempotent. */
export function normaliseAddress(address: string, strip: ReadonlySet<Strip>): string {
  let current = address.trim().slice(-LONGEST_ADDRESS);
  if (current === "" || current === NULL_SENDER) return NULL_SENDER;
  // Most addresses have nothing to undo: no separator, no tag.
  const isPlain = !strip.has("verp") && !/[+=]/.test(current);
  // Each pass undoes one layer (BATV in SRS in BATV …) and makes it shorter; a few suffice.
  for (let layer = 0; layer < 8 && !isPlain; layer += 1) {
    const before = current;
    if (strip.has("srs")) current = withoutSrs(current);
    if (strip.has("batv")) current = withoutBatv(current);
    if (strip.has("verp")) current = withoutVerp(current);
    if (strip.has("plus")) current = withoutDetail(current);
    if (current === before) break;
  }
  const { local, domain } = split(current);
  return domain === "" ? local : `${local}@${domain.toLowerCase().replace(/\.$/, "")}`;
}

function split(address: string): { local: string; domain: string } {
  const at = address.lastIndexOf("@");
  return at < 0
    ? { local: address, domain: "" }
    : { local: address.slice(0, at), domain: address.slice(at + 1) };
}

function join(local: string, domain: string): string {
  return domain === "" ? local : `${local}@${domain}`;
}

/** `SRS0=HHH=TT=domain=local@forwarder`, `SRS1=HHH=first==HHH=TT=domain=local@second` → `local@domain`. */
function withoutSrs(address: string): string {
  const { local } = split(address);
  const inner = /^SRS1[=+-][^=]*=[^=]+=(.*)$/is.exec(local)?.[1];
  // What follows the first forwarder begins with the separator that its own SRS0 had: =, + or -.
  const original = inner === undefined ? /^SRS0([=+-].*)$/is.exec(local)?.[1] : inner;
  if (original === undefined) return address;
  const parts = /^[=+-][^=]*=[^=]*=([^=]+)=(.+)$/s.exec(original);
  return parts === null ? address : `${parts[2]}@${parts[1]}`;
}

/** `prvs=KDDDSSSSSS=local@domain`, `prvs=local/KDDDSSSSSS@domain`, Barracuda's `btv1==XXX==local@domain`. */
function withoutBatv(address: string): string {
  const { local, domain } = split(address);
  const tag =
    /^prvs=[0-9a-z]{10}=(.+)$/is.exec(local) ??
    /^prvs=(.+)\/[0-9a-z]{10}$/is.exec(local) ??
    /^prvs=(.+)=[0-9a-f]{10}$/is.exec(local) ??
    /^btv1==[^=]*==(.+)$/is.exec(local);
  return tag === null ? address : join(tag[1]!, domain);
}

/** `list-return-1234-bob=example.org@lists` → `list-return-#@lists`: the recipient and the numbers go. */
function withoutVerp(address: string): string {
  const { local, domain } = split(address);
  const numbered = local
    .slice(0, recipientBegins(local))
    .replace(/(?<=^|[-+_.=])(?=[0-9a-f]*\d)[0-9a-f]{3,}(?=$|[-+_.=])/gi, "#");
  return join(numbered, domain);
}

/**
 * Where in a VERP local part the separator and the recipient's address begin (`-bob=example.org`); its length where none
 * is. Searched from the end, in linear time: the octets are the client's.
 */
function recipientBegins(local: string): number {
  const equals = local.lastIndexOf("=");
  const dot = local.indexOf(".", equals + 2);
  // The domain has a dot inside, and no @.
  if (equals < 0 || dot < 0 || dot === local.length - 1 || local.includes("@", equals)) return local.length;
  let begin = local.length;
  for (let at = equals - 1; at > 0; at -= 1) {
    const character = local[at]!;
    if ("-+_.".includes(character)) begin = at;
    // These are in no recipient's local part.
    if ("-+=@".includes(character)) break;
  }
  return begin;
}

/** `alice+news@example.com` → `alice@example.com`; a local part that is all detail stays. */
function withoutDetail(address: string): string {
  const { local, domain } = split(address);
  if (local.startsWith('"')) return address;
  const plus = local.indexOf("+");
  return plus <= 0 ? address : join(local.slice(0, plus), domain);
}
