/**
 * Paths of MAIL and RCPT, as RFC 5321 §4.1.2 has them and as real clients write them: `<>`, quoted local parts, source
 * routes, blanks around the colon, no angle brackets, local parts such as `user..name.` of mobile carriers, and comments
 * and blanks as in RFC 5322. They are read to be recorded and matched, the way a lenient server (Postfix) reads them; the
 * line itself is passed on unchanged, whatever it holds.
 */
import { decodeUtf8, showOctets } from "./utf8.ts";

export interface Path {
  /**
   * Without brackets, source route, comments, blanks, needless quotes and the domain's last dot; empty for the null sender.
   * UTF-8, `\xff` where an octet is none.
   */
  readonly address: string;
  /** Everything behind the colon as it came, parameters included. */
  readonly raw: Buffer;
  /** Upper-cased keyword → value ("" where it has none). */
  readonly parameters: ReadonlyMap<string, string>;
  /** Blanks around the colon or before FROM/TO, which RFC 5321 §3.3 does not permit. */
  readonly spacing: boolean;
  /** A bracket, quote or comment that is never closed, or what is no path at all: `address` is a guess. */
  readonly unreadable: boolean;
}

const MAX_PARAMETERS = 64;

/** Reads what follows the verb; `word` is FROM or TO. */
export function parsePath(argument: Buffer, word: "FROM" | "TO"): Path {
  return plainPath(argument, word) ?? anyPath(argument, word);
}

/** `FROM:<local@domain>` in nothing but ASCII letters, digits and the usual marks, which nearly every path is. */
function plainPath(argument: Buffer, word: "FROM" | "TO"): Path | undefined {
  const begin = word.length + 2;
  const text = argument.toString("latin1");
  if (text[begin - 1] !== "<" || text[begin - 2] !== ":") return undefined;
  if (text.slice(0, word.length).toUpperCase() !== word) return undefined;
  const end = text.indexOf(">", begin);
  if (end < 0 || text[end - 1] === "." || !PLAIN.test(text.slice(begin, end))) return undefined;
  const isAlone = text.length === end + 1;
  if (!isAlone && !isBlank(text[end + 1])) return undefined;
  return {
    address: text.slice(begin, end),
    raw: argument.subarray(begin - 1),
    parameters: isAlone ? NO_PARAMETERS : parseParameters(argument.toString("utf8").slice(end + 1)),
    spacing: false,
    unreadable: false,
  };
}

const PLAIN = /^[\w.!#$%&'*+/=?^`{|}~@-]*$/;
const NO_PARAMETERS: ReadonlyMap<string, string> = new Map();

function anyPath(argument: Buffer, word: "FROM" | "TO"): Path {
  const text = decodeUtf8(argument);
  const head = word === "FROM" ? /^([ \t]*)FROM([ \t]*):([ \t]*)/i : /^([ \t]*)TO([ \t]*):([ \t]*)/i;
  const match = head.exec(text);
  if (match === null) return guess(text, argument, false);
  const raw = argument.subarray(argument.indexOf(0x3a) + 1);
  const spacing = match[1] !== "" || match[2] !== "" || match[3] !== "";
  const rest = text.slice(match[0].length);
  const end = endOfPath(rest);
  const isBracketed = rest.startsWith("<");
  const address = end < 0 ? undefined : addressIn(isBracketed ? rest.slice(1, end - 1) : rest.slice(0, end));
  const behind = rest.slice(end);
  // `Bob <b@domain>` has its address where the parameters should be, and `<a>b` has another behind it, or none.
  const isWhole = isBracketed ? behind === "" || isBlank(behind[0]) : end > 0 && !behind.includes("<");
  if (address === undefined || !isWhole) return guess(rest, raw, spacing);
  return {
    address: showOctets(address),
    raw,
    parameters: parseParameters(behind),
    spacing,
    unreadable: false,
  };
}

/** A path that cannot be read: most likely its address stands behind the last `<`, up to a blank or `>`. */
function guess(text: string, raw: Buffer, spacing: boolean): Path {
  const begin = text.lastIndexOf("<") + 1;
  const likely = begin === 0 ? undefined : /^[ \t]*([^ \t>]+)(.*)$/s.exec(text.slice(begin));
  return {
    address: showOctets(likely?.[1] ?? text.trim()),
    raw,
    parameters: parseParameters(likely?.[2] ?? ""),
    spacing,
    unreadable: true,
  };
}

/** Index behind the path in `text`; -1 where a bracket or a quote is never closed. */
function endOfPath(text: string): number {
  const bracketed = text.startsWith("<");
  let quoted = false;
  for (let i = bracketed ? 1 : 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\\") i++;
    else if (quoted) quoted = c !== '"';
    else if (c === '"') quoted = true;
    else if (bracketed ? c === ">" : isBlank(c)) return bracketed ? i + 1 : i;
  }
  return bracketed || quoted ? -1 : text.length;
}

/** What may stand in a local part without quotes, dots included. */
const UNQUOTED = /^[\w.!#$%&'*+/=?^`{|}~\x80-\uffff-]$/;
/** What Python takes for a blank, too: servers written in it (aiosmtpd) leave it out of a domain. */
const SPACE = /[\s\x1c-\x1f\x85]/;
/** Between these and a word, blanks and comments mean nothing; between two words they part them. */
const PARTS = ".@:,;";

/**
 * The address in what stands between the brackets: source routes go (accepted and ignored, RFC 5321 §4.1.2, appendix C),
 * comments and blanks go (RFC 5322 §3.2.2), as do empty members of a list (§4.4: `a@b,`), quotes stay where they are needed
 * (RFC 5321 §4.1.2: `"a"@b` is `a@b`), and one dot behind the domain goes. Undefined: a quote or comment without end, or another bracket.
 */
function addressIn(path: string): string | undefined {
  let written = "";
  // Its first and last character: asked of `written` itself, they would have it copied each time.
  let first = "";
  let last = "";
  /** Of the @ that begins the domain. */
  let at = -1;
  let needsQuotes = false;
  let quoted = false;
  let depth = 0;
  let isParted = false;
  for (let i = 0; i < path.length; i++) {
    let c = path[i] as string;
    const isPair = c === "\\" && i + 1 < path.length;
    if (isPair) c = path[++i] as string;
    if (depth > 0) {
      if (!isPair && c === "(") depth++;
      if (!isPair && c === ")") depth--;
      continue;
    }
    if (isPair || (quoted && c !== '"')) {
      needsQuotes ||= !UNQUOTED.test(c);
    } else if (c === '"') {
      quoted = !quoted;
      needsQuotes ||= !quoted && written === "";
      continue;
    } else if (c === "(" || isBlank(c) || (at >= 0 && SPACE.test(c))) {
      if (c === "(") depth = 1;
      isParted = written !== "" && !PARTS.includes(last);
      continue;
    } else if (c === "<" || c === ">") {
      return undefined;
    } else if (c === ":" && first === "@") {
      written = "";
      first = "";
      at = -1;
      needsQuotes = false;
      continue;
    } else if (c === "@") at = written.length;
    else if (isSeparator(c) && written === "") continue;
    if (isParted && !PARTS.includes(c)) written += " ";
    isParted = false;
    written += c;
    last = c;
    first ||= c;
  }
  if (quoted || depth > 0) return undefined;
  // Whatever means nothing: `<"">`, `<(x)>`, `<;>` and `<@hop:>` are the null sender, too.
  if (written === "") return "";
  const local = at < 0 ? written : written.slice(0, at);
  let end = written.length;
  while (end > at && isSeparator(written[end - 1])) end--;
  const domain = at < 0 ? "" : written.slice(at, end).replace(/([^.@])\.$/, "$1");
  return needsQuotes ? `"${local.replace(/["\\]/g, "\\$&")}"${domain}` : local + domain;
}

function isSeparator(character: string | undefined): boolean {
  return character === "," || character === ";";
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t" || character === "\v" || character === "\f";
}

function parseParameters(text: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const word of text.split(/[ \t\v\f]+/)) {
    if (word === "" || parameters.size >= MAX_PARAMETERS) continue;
    const equals = word.indexOf("=");
    if (equals < 0) parameters.set(word.toUpperCase(), "");
    else parameters.set(word.slice(0, equals).toUpperCase(), word.slice(equals + 1));
  }
  return parameters;
}

/** Octets of `SIZE=` (RFC 1870 §4: 1 to 20 digits); 0 where MAIL declares none. */
export function declaredSize(parameters: ReadonlyMap<string, string>): number {
  const size = parameters.get("SIZE");
  return size !== undefined && /^\d{1,20}$/.test(size) ? Number(size) : 0;
}

/** The domain of an address, lower-cased, without the root's dot; empty where it has none (`<>`, `postmaster`). */
export function domainOf(address: string): string {
  const at = address.lastIndexOf("@");
  if (at < 0) return "";
  return address.slice(at + 1, ROOT.test(address) ? -1 : undefined).toLowerCase();
}

/** A full stop at the end, in any of the forms that IDNA takes for one (RFC 3490 §3.1). */
const ROOT = /[.\u3002\uff0e\uff61]$/;

const LABELS = /^[\w\p{L}\p{M}\p{N}-]+(?:\.[\w\p{L}\p{M}\p{N}-]+)*\.?$/u;
/** Servers read a route or another domain out of these, within quotes, too: `user%domain`, `domain!user`, `"a@b"@c`. */
const ROUTED = /[@%!]/;

/**
 * Whether every server takes the address for one of this very domain: not where it has none (servers add their own), an
 * address literal (which may be any domain's server), or a route or syntax that servers read in different ways.
 */
export function hasPlainDomain(address: string): boolean {
  const at = address.lastIndexOf("@");
  const local = address.slice(0, Math.max(at, 0));
  const isWord = local.startsWith('"') ? local.length > 1 && local.endsWith('"') : LOCAL.test(local);
  return isWord && !ROUTED.test(local) && LABELS.test(address.slice(at + 1));
}

const LOCAL = /^[^\s"(),:;<>[\\\]\x00-\x1f\x7f]+$/;
