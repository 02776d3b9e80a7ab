/** Octets that the grammar knows by name (RFC 5321 §2.3.8, §4.1.2), and small helpers on buffers. */

export const CR = 0x0d;
export const LF = 0x0a;
export const DOT = 0x2e;
export const SPACE = 0x20;
export const TAB = 0x09;
export const VT = 0x0b;
export const FF = 0x0c;
export const CRLF: Buffer = Buffer.from("\r\n");
export const EMPTY: Buffer = Buffer.alloc(0);

/** One buffer of several; the only piece as it is, without a copy. */
export function join(pieces: readonly Buffer[]): Buffer {
  if (pieces.length === 1) return pieces[0] as Buffer;
  return pieces.length === 0 ? EMPTY : Buffer.concat(pieces);
}

/** The same octets in few pieces: where a sender makes very many of them (bare newlines), one copy costs less than each. */
export function fewer(pieces: Buffer[]): Buffer[] {
  return pieces.length > MANY_PIECES ? [join(pieces)] : pieces;
}

const MANY_PIECES = 64;

/** Octets of all pieces. */
export function lengthOf(pieces: readonly Buffer[]): number {
  let octets = 0;
  for (const piece of pieces) octets += piece.length;
  return octets;
}
