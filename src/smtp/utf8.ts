/** UTF-8 (RFC 3629) as peers send it, which may be none: no octet of theirs gets lost, and different octets stay different. */

const REPLACEMENT = 0xfffd;
const REPLACEMENT_OCTETS = Buffer.from([0xef, 0xbf, 0xbd]);
/** With `u`, a surrogate matches only where it is no half of a character. */
const OCTET = /[\udc80-\udcff]/gu;

/** UTF-8; each octet that belongs to no character becomes the lone surrogate U+DC00 + octet (as Python's surrogateescape). */
export function decodeUtf8(octets: Buffer): string {
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

/** Shows what `decodeUtf8` could not read: each such octet as the four characters `\xff`. */
export function showOctets(text: string): string {
  return text.replace(OCTET, octetText);
}

/** `\xff` for the surrogate of octet 255. */
export function octetText(surrogate: string): string {
  return `\\x${(surrogate.charCodeAt(0) - 0xdc00).toString(16)}`;
}

function sequenceLength(lead: number): number {
  if (lead < 0xc2) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}
