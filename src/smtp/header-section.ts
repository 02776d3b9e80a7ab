/**
 * The header section of a message (RFC 5322 §2.1): collected while the message passes, up to a limit, without the
 * empty line that ends it. Input is CRLF lines, not dot-stuffed.
 */
import { CR, join, LF } from "./octets.ts";

export class HeaderCollector {
  /** The section ended, or the limit was reached: nothing more is collected. */
  complete = false;
  /** The section was longer than the limit. */
  truncated = false;
  private pieces: Buffer[] = [];
  private size = 0;
  /** 0: inside a line; 1: behind CR of a line; 2: behind CRLF (line start); 3: CR at a line start. */
  private state = 2;
  private readonly limit: number;

  constructor(limit = 65536) {
    this.limit = limit;
  }

  read(content: Buffer): void {
    if (this.complete) return;
    const end = this.findEnd(content);
    this.push(end < 0 ? content : content.subarray(0, end));
    if (end >= 0) this.complete = true;
  }

  /** The section without its last CRLF; call it when the message ended or `complete` is set. */
  section(): Buffer {
    const section = join(this.pieces);
    // The CR of the empty line may have been taken in an earlier chunk.
    let end = section.length;
    if (this.complete && !this.truncated && end > 0 && section[end - 1] === CR) end--;
    if (end >= 2 && section[end - 1] === LF && section[end - 2] === CR) end -= 2;
    return section.subarray(0, end);
  }

  /** Index in `content` behind the last octet of the section; -1: it goes on. */
  private findEnd(content: Buffer): number {
    for (let i = 0; i < content.length; i++) {
      const c = content[i];
      if (this.state === 3) {
        if (c === LF) return Math.max(0, i - 1);
        this.state = 0;
      }
      if (c === CR) this.state = this.state === 2 ? 3 : 1;
      else if (c === LF && this.state === 1) this.state = 2;
      else this.state = 0;
    }
    return -1;
  }

  private push(piece: Buffer): void {
    const room = this.limit - this.size;
    if (piece.length > room) {
      this.truncated = true;
      this.complete = true;
      piece = piece.subarray(0, room);
    }
    if (piece.length > 0) this.pieces.push(piece);
    this.size += piece.length;
  }
}

const MESSAGE_ID = /(?:^|\r\n)message-id[ \t]*:((?:[^\r\n]|\r\n[ \t])*)/i;

/** The value of the (first) Message-ID field, unfolded; undefined where there is none. `section`: CRLF lines. */
export function messageIdOf(section: Buffer): string | undefined {
  const match = MESSAGE_ID.exec(section.toString("latin1"));
  return match === null ? undefined : (match[1] as string).replace(/\r\n/g, "").trim();
}
