/**
 * Octets of a peer as text that can be stored anywhere. Valid UTF-8 stays as it is; CR and LF become the two characters
 * `\r` and `\n` (the original's form); NUL and octets that are not UTF-8 become `\x00` … `\xff`. A backslash itself is
 * not doubled, so that ordinary data reads as it was: whether the text alone gives the octets back is said beside it.
 */
import { isUtf8 } from "node:buffer";

export interface Visible {
  readonly text: string;
  /** True: `octetsOf(text)` is exactly what came. False: keep the octets too. */
  readonly exact: boolean;
}

const special = /[\0\r\n]/;
const ambiguous = /\\[rnx]/;
/** Most text has none of these, and stays as it is. */
const unusual = /[\0\r\n\\]/;

/** `octets` in the visible form described above. */
export function visible(octets: Uint8Array): Visible {
  const { text, exact } = marked(octets);
  return exact ? visibleText(text) : { text: escapeLines(text), exact };
}

/** The same for text that already is UTF-8 (protobuf strings). */
export function visibleText(text: string): Visible {
  if (!unusual.test(text)) return { text, exact: true };
  const exact = !text.includes("\0") && !ambiguous.test(text);
  return { text: special.test(text) ? escapeLines(text) : text, exact };
}

/** The octets that an exact `visible` text stands for. */
export function octetsOf(text: string): Buffer {
  return Buffer.from(text.replaceAll("\\r", "\r").replaceAll("\\n", "\n"), "utf8");
}

/** UTF-8 text with every octet that is none as `\xHH`; CR, LF and NUL are left alone. */
export function decodeMarked(octets: Uint8Array): string {
  return marked(octets).text;
}

/** The same; `exact`: it was UTF-8. */
export function marked(octets: Uint8Array): Visible {
  const buffer = asBuffer(octets);
  const decoded = buffer.toString("utf8");
  if (!decoded.includes("\ufffd") || isUtf8(buffer)) return { text: decoded, exact: true };
  let text = "";
  let from = 0;
  for (let at = 0; at < buffer.length; ) {
    const length = sequenceLength(buffer, at);
    if (length > 0) {
      at += length;
      continue;
    }
    text += `${buffer.toString("utf8", from, at)}\\x${buffer[at]!.toString(16).padStart(2, "0")}`;
    at += 1;
    from = at;
  }
  return { text: text + buffer.toString("utf8", from), exact: false };
}

/** At most `octets` octets of UTF-8, never cut inside a character. */
export function cutOctets(text: string, octets: number): string {
  if (text.length * 3 <= octets || Buffer.byteLength(text) <= octets) return text;
  const buffer = Buffer.from(text, "utf8");
  let end = octets;
  while (end > 0 && (buffer[end]! & 0xc0) === 0x80) end -= 1;
  return buffer.toString("utf8", 0, end);
}

/** At most `characters` code points. */
export function cutCharacters(text: string, characters: number): string {
  if (text.length <= characters) return text;
  return [...text].slice(0, characters).join("");
}

/** For a terminal: what is no printable character becomes visible, so that data can't drive the terminal. */
export function printable(text: string): string {
  return text.replace(
    // C0, DEL, C1 and the marks that turn text around.
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => {
      const code = character.charCodeAt(0);
      return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
    },
  );
}

function escapeLines(text: string): string {
  return text.replaceAll("\r", "\\r").replaceAll("\n", "\\n").replaceAll("\0", "\\x00");
}

/** Length of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), or 0. */
function sequenceLength(buffer: Buffer, at: number): number {
  const first = buffer[at]!;
  if (first < 0x80) return 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > buffer.length) return 0;
  return isUtf8(buffer.subarray(at, at + length)) ? length : 0;
}

function asBuffer(octets: Uint8Array): Buffer {
  return Buffer.isBuffer(octets) ? octets : Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
}
