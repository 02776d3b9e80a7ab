/**
 * Reads the header section of a message (RFC 5322 §2.2). Lenient, since real mail is: a line that is no field is skipped
 * and counted. Takes CRLF lines, which is all that warp hands over.
 */

export interface HeaderField {
  /** As written. */
  readonly name: string;
  /** Unfolded, without the blanks around it; UTF-8, U+FFFD where the octets are none. Not MIME-decoded. */
  readonly value: string;
  /** The whole field with its folding and its last CRLF: a view into the message. */
  readonly raw: Buffer;
}

export interface HeaderSection {
  /** In order, topmost first. */
  readonly fields: readonly HeaderField[];
  /** Where the body begins: behind the empty line; the length of the message where there is no body. */
  readonly bodyStart: number;
  /** Lines that are neither a field nor the continuation of one. */
  readonly malformedLines: number;
  /** There was more than could be read ahead (`message.header()`): fields may be missing at the end. */
  readonly truncated: boolean;
  /** The value of the topmost field of that name, in any case; undefined where there is none. */
  get(name: string): string | undefined;
  /** The values of all fields of that name, topmost first. */
  all(name: string): readonly string[];
}

/** Parses the header section at the beginning of `message`; the rest may be there or not. */
export function parseHeader(message: Uint8Array): HeaderSection {
  const octets = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  const fields: HeaderField[] = [];
  let malformedLines = 0;
  let start = 0; // of the field at hand
  let line = 0;
  let bodyStart = octets.length;
  const finish = (end: number): void => {
    if (end === start) return;
    const field = readField(octets.subarray(start, end));
    if (field === undefined) malformedLines++;
    else fields.push(field);
  };
  while (line < octets.length) {
    const newline = octets.indexOf("\r\n", line, "latin1");
    const next = newline === -1 ? octets.length : newline + 2;
    const first = octets[line];
    if (newline === line) {
      bodyStart = next;
      break;
    }
    if (!isBlank(first) || line === start) {
      finish(line);
      start = line;
    }
    line = next;
  }
  finish(Math.min(line, octets.length));
  return {
    fields,
    bodyStart,
    malformedLines,
    truncated: false,
    get: (name) => fields.find((field) => sameName(field.name, name))?.value,
    all: (name) => fields.filter((field) => sameName(field.name, name)).map((field) => field.value),
  };
}

/** Where the header section ends (behind its empty line), or -1 where that has not come yet. */
export function endOfHeader(octets: Buffer, from = 0): number {
  if (octets.length >= 2 && octets[0] === 0x0d && octets[1] === 0x0a) return 2;
  const found = octets.indexOf("\r\n\r\n", Math.max(0, from - 3), "latin1");
  return found === -1 ? -1 : found + 4;
}

function readField(raw: Buffer): HeaderField | undefined {
  const colon = raw.indexOf(0x3a);
  if (colon <= 0) return undefined;
  const name = withoutBlanks(raw.toString("latin1", 0, colon)); // obs-optional: blanks before the colon
  if (isBlank(raw[0]) || !/^[\x21-\x39\x3b-\x7e]+$/.test(name)) return undefined;
  const value = withoutBlanks(raw.toString("utf8", colon + 1).replace(/\r\n(?=[ \t]|$)/g, ""));
  return { name, value, raw };
}

/** Blanks at both ends go. A regular expression for the end would try each run of blanks in the middle, octet by octet. */
function withoutBlanks(text: string): string {
  let begin = 0;
  let end = text.length;
  while (begin < end && isBlank(text.charCodeAt(begin))) begin++;
  while (end > begin && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(begin, end);
}

function isBlank(code: number | undefined): boolean {
  return code === 0x20 || code === 0x09;
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}
