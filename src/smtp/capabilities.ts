/**
 * The EHLO reply (RFC 5321 §4.1.1.1): which extensions a server offers, and which of them warp shows to its client. Lines
 * that stay are kept byte for byte; only the hyphen or blank behind the code follows a line's place.
 */
import { LF } from "./octets.ts";

export interface Capabilities {
  /** Upper-cased keyword → parameters as they came (latin1), "" where there are none. */
  readonly keywords: ReadonlyMap<string, string>;
  has(keyword: string): boolean;
}

class KeywordTable implements Capabilities {
  readonly keywords: ReadonlyMap<string, string>;
  /** A keyword was offered twice, of which the first counts. */
  readonly repeats: boolean;
  constructor(keywords: ReadonlyMap<string, string>, repeats: boolean) {
    this.keywords = keywords;
    this.repeats = repeats;
  }
  has(keyword: string): boolean {
    return this.keywords.has(keyword);
  }
}

export const NO_CAPABILITIES: Capabilities = new KeywordTable(new Map(), false);

/** Reads a 250 reply to EHLO. Destinations say the same again and again: what they said of late is known. */
export function parseCapabilities(wire: Buffer): Capabilities {
  return tableOf(wire);
}

function tableOf(wire: Buffer): KeywordTable {
  const text = wire.toString("latin1");
  let table = parsed.get(text);
  if (table === undefined) {
    table = parse(wire);
    if (parsed.size >= PARSED_REPLIES) parsed.clear();
    if (text.length <= PARSED_OCTETS) parsed.set(text, table);
  }
  return table;
}

/** By the whole reply; begun anew when full. */
const parsed = new Map<string, KeywordTable>();
const PARSED_REPLIES = 500;
const PARSED_OCTETS = 2048;

function parse(wire: Buffer): KeywordTable {
  let repeats = false;
  const keywords = new Map<string, string>();
  for (const line of linesOf(wire).slice(1)) {
    const text = textOf(line);
    const blank = text.search(/[ \t]/);
    const keyword = (blank < 0 ? text : text.slice(0, blank)).toUpperCase();
    if (keyword === "") continue;
    if (keywords.has(keyword)) repeats = true;
    else keywords.set(keyword, blank < 0 ? "" : text.slice(blank + 1).trim());
  }
  return new KeywordTable(keywords, repeats);
}

/** What the SIZE keyword says (RFC 1870 §4): octets; 0: no fixed limit; undefined: not offered. */
export function offeredSize(capabilities: Capabilities): number | undefined {
  const value = capabilities.keywords.get("SIZE");
  if (value === undefined) return undefined;
  return /^\d{1,15}$/.test(value) ? Number(value) : 0;
}

export interface ShownTo {
  /** Keywords to leave out, upper-cased. */
  readonly withheld: ReadonlySet<string>;
  /** warp's own message size limit, octets. */
  readonly sizeLimit: number;
  /** warp takes STARTTLS from this client. */
  readonly starttls: boolean;
}

/** Never offered: warp takes TLS from its own client, normalises line ends, or could not carry them on. */
export const WITHHELD_ALWAYS: ReadonlySet<string> = new Set([
  "STARTTLS",
  "BINARYMIME",
  "REQUIRETLS",
  // Exchange's TLS under another name: after it nothing could be read.
  "X-ANONYMOUSTLS",
  // PRDR (draft-hall-prdr, Exim) and LMTP (RFC 2033 §4.2) answer a message once for each recipient.
  "PRDR",
  "LHLO",
]);
/** Ways around a filter: BURL (RFC 4468) brings the message from elsewhere, the others turn the session round or carry blobs. */
export const WITHHELD_WITH_FILTER: ReadonlySet<string> = new Set([
  ...WITHHELD_ALWAYS,
  "BURL",
  "TURN",
  "ATRN",
  "XEXCH50",
]);

/** The EHLO reply as the client gets it. The very same buffer where nothing changes. */
export function rewriteEhloReply(wire: Buffer, shown: ShownTo): Buffer {
  if (staysAsItIs(tableOf(wire), shown)) return wire;
  const lines = linesOf(wire);
  const kept: Buffer[] = [lines[0] as Buffer];
  let changed = false;
  for (const line of lines.slice(1)) {
    const keyword = (/^[^ \t]*/.exec(textOf(line)) as RegExpExecArray)[0].toUpperCase();
    if (shown.withheld.has(keyword)) {
      changed = true;
      continue;
    }
    const rewritten = keyword === "SIZE" ? rewriteSize(line, shown.sizeLimit) : line;
    if (rewritten !== line) changed = true;
    kept.push(rewritten);
  }
  if (shown.starttls) {
    kept.push(Buffer.from("250 STARTTLS\r\n"));
    changed = true;
  }
  return changed ? Buffer.concat(kept.map((line, i) => placed(line, i === kept.length - 1))) : wire;
}

/** Nothing is withheld, added, or limited further. */
function staysAsItIs(offered: KeywordTable, { withheld, sizeLimit, starttls }: ShownTo): boolean {
  if (starttls || offered.repeats) return false;
  for (const keyword of offered.keywords.keys()) if (withheld.has(keyword)) return false;
  const size = offeredSize(offered);
  return size === undefined || (size !== 0 && size <= sizeLimit);
}

/** The smaller of the server's limit and warp's own; warp's own where the server's is 0 or unsaid. */
function rewriteSize(line: Buffer, limit: number): Buffer {
  const value = /^SIZE[ \t]+(\d{1,15})[ \t]*$/i.exec(textOf(line))?.[1];
  const offered = value === undefined ? 0 : Number(value);
  if (offered !== 0 && offered <= limit) return line;
  return Buffer.from(`${line.toString("latin1", 0, 4)}${textOf(line).slice(0, 4)} ${limit}\r\n`, "latin1");
}

/** The line with the separator that its place asks for. */
function placed(line: Buffer, last: boolean): Buffer {
  const separator = last ? 0x20 : 0x2d;
  if (line[3] === separator) return line;
  if (line.length < 6)
    return Buffer.concat([line.subarray(0, 3), Buffer.from([separator]), line.subarray(3)]);
  const copy = Buffer.from(line);
  copy[3] = separator;
  return copy;
}

function linesOf(wire: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; start < wire.length; ) {
    const newline = wire.indexOf(LF, start);
    const end = newline < 0 ? wire.length : newline + 1;
    lines.push(wire.subarray(start, end));
    start = end;
  }
  return lines;
}

/** A line's text behind the code and its separator, without CRLF, as latin1. */
function textOf(line: Buffer): string {
  return line.toString("latin1", 4, line.length - 2);
}
