/**
 * Paths of MAIL and RCPT, as RFC 5321 §4.1.2 has them and as real clients write them: `<>`, quoted local parts, source
 * routes, blanks around the colon, no angle brackets, local parts such as `user..name.` of mobile carriers. They are read
 * to be recorded and matched; the line itself is passed on unchanged, whatever it holds.
 */

export interface Path {
  /** Without brackets and source route; empty for the null sender. UTF-8, U+FFFD where the octets are none. */
  readonly address: string;
  /** Everything behind the colon as it came, parameters included. */
  readonly raw: Buffer;
  /** Upper-cased keyword → value ("" where it has none). */
  readonly parameters: ReadonlyMap<string, string>;
  /** Blanks around the colon or before FROM/TO, which RFC 5321 §3.3 does not permit. */
  readonly spacing: boolean;
}

const MAX_PARAMETERS = 64;

/** Reads what follows the verb; `word` is FROM or TO. Undefined: that is no path. */
export function parsePath(argument: Buffer, word: "FROM" | "TO"): Path | undefined {
  return plainPath(argument, word) ?? anyPath(argument, word);
}

/** `FROM:<local@domain>` in nothing but ASCII letters, digits and the usual marks, which nearly every path is. */
function plainPath(argument: Buffer, word: "FROM" | "TO"): Path | undefined {
  const begin = word.length + 2;
  const text = argument.toString("latin1");
  if (text[begin - 1] !== "<" || text[begin - 2] !== ":") return undefined;
  if (text.slice(0, word.length).toUpperCase() !== word) return undefined;
  const end = text.indexOf(">", begin);
  if (end < 0 || !PLAIN.test(text.slice(begin, end))) return undefined;
  const rest =
    text.length === end + 1 ? NO_PARAMETERS : parseParameters(argument.toString("utf8").slice(end + 1));
  return {
    address: text.slice(begin, end),
    raw: argument.subarray(begin - 1),
    parameters: rest,
    spacing: false,
  };
}

const PLAIN = /^[\w.!#$%&'*+/=?^`{|}~@-]*$/;
const NO_PARAMETERS: ReadonlyMap<string, string> = new Map();

function anyPath(argument: Buffer, word: "FROM" | "TO"): Path | undefined {
  const text = argument.toString("utf8");
  const head = word === "FROM" ? /^([ \t]*)FROM([ \t]*):([ \t]*)/i : /^([ \t]*)TO([ \t]*):([ \t]*)/i;
  const match = head.exec(text);
  if (match === null) return undefined;
  const raw = argument.subarray(argument.indexOf(0x3a) + 1);
  const rest = text.slice(match[0].length);
  const end = endOfPath(rest);
  if (end < 0) return undefined;
  return {
    address: stripRoute(rest.startsWith("<") ? rest.slice(1, end - 1) : rest.slice(0, end)),
    raw,
    parameters: parseParameters(rest.slice(end)),
    spacing: match[1] !== "" || match[2] !== "" || match[3] !== "",
  };
}

/** Index behind the path in `text`; -1 where a bracket or a quote is never closed. */
function endOfPath(text: string): number {
  const bracketed = text.startsWith("<");
  let quoted = false;
  for (let i = bracketed ? 1 : 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (bracketed ? c === ">" : c === " " || c === "\t") return bracketed ? i + 1 : i;
  }
  return bracketed || quoted ? -1 : text.length;
}

/** `@relay.example,@other:user@host` → `user@host` (source routes are accepted and ignored, RFC 5321 §4.1.2, appendix C). */
function stripRoute(path: string): string {
  if (!path.startsWith("@")) return path;
  const colon = path.indexOf(":");
  return colon < 0 ? path : path.slice(colon + 1);
}

function parseParameters(text: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const word of text.split(/[ \t]+/)) {
    if (word === "" || parameters.size >= MAX_PARAMETERS) continue;
    const equals = word.indexOf("=");
    if (equals < 0) parameters.set(word.toUpperCase(), "");
    else parameters.set(word.slice(0, equals).toUpperCase(), word.slice(equals + 1));
  }
  return parameters;
}

/** The domain of an address, lower-cased; empty where it has none (`<>`, `postmaster`). */
export function domainOf(address: string): string {
  const at = address.lastIndexOf("@");
  return at < 0 ? "" : address.slice(at + 1).toLowerCase();
}
