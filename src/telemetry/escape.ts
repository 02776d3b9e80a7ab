/** Octets of a peer, shown in one line of text without any power over the terminal or the log that shows them. */
import { decodeUtf8, octetText } from "../smtp/utf8.ts";

const PLAIN = /^[\x20-\x7e]*$/;
/** Controls (C0, DEL, C1), line and paragraph separators, and what turns the direction of writing. */
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/gu;

/** Of those, what JSON leaves as it is. */
const UNSAFE_IN_JSON = /[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** The same JSON, of which a terminal obeys nothing either: C1 controls (CSI is U+009B) and the like as `\u009b`. */
export function escapeJson(json: string): string {
  return json.replace(
    UNSAFE_IN_JSON,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * CR and LF become the characters `\r` and `\n`, other controls `\t`, `\x1b`, `\u202e`; UTF-8 stays, an octet that is
 * none becomes `\xff`. A backslash stays as it is, as in the original: for reading, not for parsing back.
 */
export function escapeOctets(octets: Buffer): string {
  const latin1 = octets.toString("latin1");
  if (PLAIN.test(latin1)) return latin1;
  return escapeText(decodeUtf8(octets));
}

/** The same for text. */
export function escapeText(text: string): string {
  return PLAIN.test(text) ? text : text.replace(UNSAFE, escapeCharacter);
}

function escapeCharacter(character: string): string {
  if (character === "\r") return "\\r";
  if (character === "\n") return "\\n";
  if (character === "\t") return "\\t";
  const code = character.codePointAt(0)!;
  if (code >= 0xdc80 && code <= 0xdcff) return octetText(character);
  return code <= 0xff
    ? `\\x${code.toString(16).padStart(2, "0")}`
    : `\\u${code.toString(16).padStart(4, "0")}`;
}
