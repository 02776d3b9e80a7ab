/**
 * Who receives: the MX group behind a destination address. Its name is the domain suffix of the host name in the greeting
 * (RFC 5321 §4.2: the first word), else of the certificate's, under one name per operator; else the network, /24 or /48.
 * The name is the peer's own claim: it groups counters and picks wording, and nothing is ever allowed because of it.
 */
import { BoundedMap } from "../egress/bounded-map.ts";
import { ipOctets } from "../filter/when.ts";

/** Operators that answer under several names. */
const OPERATORS: Readonly<Record<string, string>> = {
  "googlemail.com": "google.com",
  "gmail.com": "google.com",
  "hotmail.com": "outlook.com",
  "live.com": "outlook.com",
  "office365.com": "outlook.com",
  "microsoft.com": "outlook.com",
  "yahoo.com": "yahoodns.net",
  "yahoo.net": "yahoodns.net",
  "aol.com": "yahoodns.net",
  "me.com": "icloud.com",
  "mac.com": "icloud.com",
  "apple.com": "icloud.com",
  "163.com": "netease.com",
  "126.com": "netease.com",
  "yeah.net": "netease.com",
};
/** Second-level labels under which country registries register names. */
const REGISTRY_LABELS = new Set(
  "ac ad co com ed edu go gob gov govt gr gv lg mil ne net nom or org sch".split(" "),
);

/** Provider's name, at most 253 characters of a host name or network. `greeting`: the whole reply. */
export function providerOf(
  destinationIp: string,
  greeting?: Uint8Array,
  certificateNames: readonly string[] = [],
): string {
  const words = greeting === undefined ? certificateNames : [firstWord(greeting), ...certificateNames];
  for (const word of words) {
    if (word.length > LONGEST_WORD) continue;
    const operator = operators.get(word) ?? remembered(word);
    if (operator !== "") return operator;
  }
  return networkOf(destinationIp);
}

/** A host name has 253 characters; certificates may have anything. */
const LONGEST_WORD = 255;

/** What names stand for, since every connection asks; "" where one is no host name. */
const operators = new BoundedMap<string, string>(10_000);

function remembered(word: string): string {
  const host = hostOf(word);
  const operator = host === undefined ? "" : operatorOf(host);
  operators.set(word, operator);
  return operator;
}

/** "203.0.113.0/24", "2001:db8:1::/48": the group of an address about which nothing else is known. */
export function networkOf(ip: string): string {
  if (/^[\d.]{7,15}$/.test(ip)) return `${ip.slice(0, ip.lastIndexOf("."))}.0/24`;
  const octets = ipOctets(ip);
  if (octets === undefined) return ip;
  if (octets.length === 4) return `${octets[0]}.${octets[1]}.${octets[2]}.0/24`; // v4-mapped
  const group = (at: number) => ((octets[at]! << 8) | octets[at + 1]!).toString(16);
  const groups = [group(0), group(2), group(4)].join(":").replace(/(?::0)+$/, "");
  return `${groups}::/48`;
}

/** What a greeting says first, behind the codes; "" where there is nothing. */
function firstWord(greeting: Uint8Array): string {
  const first = Buffer.from(greeting.buffer, greeting.byteOffset, Math.min(greeting.length, 300));
  return /^\d{3}[ -](?:[245]\.\d+\.\d+ )?(\S+)/.exec(first.toString("latin1"))?.[1] ?? "";
}

/** A host name with at least two labels and a top-level domain that isn't a number; lower case. */
function hostOf(name: string): string | undefined {
  const host = name.toLowerCase().replace(/^\*\./, "").replace(/\.$/, "");
  const valid = /^(?=.{4,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]*[a-z0-9]$/;
  return valid.test(host) ? host : undefined;
}

function operatorOf(host: string): string {
  const labels = host.split(".");
  const isCountry = labels.at(-1)!.length === 2;
  const take = isCountry && labels.length > 2 && REGISTRY_LABELS.has(labels.at(-2)!) ? 3 : 2;
  const suffix = labels.slice(-take).join(".");
  return OPERATORS[suffix] ?? suffix;
}
