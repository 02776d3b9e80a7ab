/** Octets of a peer, shown in one line of text without any power over the terminal or the log that shows them. */

const PLAIN = /^[\x20-\x7e]*$/;
/** Controls (C0, DEL, C1), line and paragraph separators, and what turns the direction of writing. */
const UNSAFE = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/gu;
const REPLACEMENT = 0xfffd;
const REPLACEMENT_OCTETS = Buffer.from([0xef, 0xbf, 0xbd]);

/**
 * CR and LF become the characters `\r` and `\n`, other controls `\t`, `\x1b`, `\u202e`; UTF-8 stays, an octet that is
 * none becomes `\xff`. A backslash stays as it is, as in the original: for reading, not for parsing back.
 */
export function escapeOctets(octets: Buffer): string {
  const latin1 = octets.toString("latin1");
  if (PLAIN.test(latin1)) return latin1;
  return escapeText(decode(octets));
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
  // A lone surrogate is how `decode` hands an octet through.
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  return code <= 0xff
    ? `\\x${code.toString(16).padStart(2, "0")}`
    : `\\u${code.toString(16).padStart(4, "0")}`;
}

/** UTF-8; each octet that belongs to no character becomes the lone surrogate U+DC00 + octet (as Python's surrogateescape). */
function decode(octets: Buffer): string {
  const text = octets.toString("utf8");
  if (!text.includes("\ufffd")) return text;
  let decoded = "";
  for (let index = 0; index < octets.length; ) {
    const length = sequenceLength(octets[index]!);
    const end = Math.min(index + length, octets.length);
    const character = octets.toString("utf8", index, end);
    const isReplacement =
      character.codePointAt(0) === REPLACEMENT && octets.compare(REPLACEMENT_OCTETS, 0, 3, index, end) !== 0;
    const isWhole = !isReplacement && [...character].length === 1;
    decoded += isWhole ? character : String.fromCharCode(0xdc00 + octets[index]!);
    index += isWhole ? end - index : 1;
  }
  return decoded;
}

function sequenceLength(lead: number): number {
  if (lead < 0xc2) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}
