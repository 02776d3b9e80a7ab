/**
 * The header section of a message (RFC 5322 §2.1, §2.2): collected while the message passes, up to a limit, without the
 * empty line that ends it. It ends also at the first line that is no field: from there on it is body, whatever a client
 * calls it. A leading mbox line ("From …") is passed over, as where the header is edited. Input is CRLF lines; the dots of
 * transparency (RFC 5321 §4.5.2) may be in it, since they make no other line a field.
 */
import { CR, join, LF } from "./octets.ts";

/** Where the next octet stands. */
type State = "line start" | "name" | "blank behind name" | "known line" | "behind CR at line start";

export class HeaderCollector {
  /** The section ended, or the limit was reached: nothing more is collected. */
  complete = false;
  /** The section was longer than the limit. */
  truncated = false;
  private pieces: Buffer[] = [];
  /** Octets read so far. */
  private size = 0;
  private state: State = "line start";
  /** Where the line begins that is read. */
  private lineAt = 0;
  /** There was a field, which a line that begins with a blank continues. */
  private hasField = false;
  private previous = 0;
  /** The first octets of the message, as far as an mbox line may be told by them. */
  private head = "";
  private readonly limit: number;

  constructor(limit = 65536) {
    this.limit = limit;
  }

  read(content: Buffer): void {
    if (this.complete) return;
    const room = this.limit - this.size;
    const piece = content.length > room ? content.subarray(0, room) : content;
    this.scan(piece);
    if (piece.length > 0) this.pieces.push(piece);
    this.size += piece.length;
    if (this.complete || piece === content) return;
    this.truncated = true;
    this.complete = true;
  }

  /** The section without its last CRLF; call it when the message ended or `complete` is set. */
  section(): Buffer {
    const section = join(this.pieces);
    // A line that never became a field is none.
    let end = this.state === "known line" ? this.size : this.lineAt;
    if (end >= 2 && section[end - 1] === LF && section[end - 2] === CR) end -= 2;
    return section.subarray(0, end);
  }

  private scan(piece: Buffer): void {
    for (let i = 0; i < piece.length && !this.complete; ) {
      if (this.state === "known line") {
        const lf = piece.indexOf(LF, i);
        if (lf < 0) break;
        if ((lf > 0 ? piece[lf - 1] : this.previous) === CR) {
          this.state = "line start";
          this.lineAt = this.size + lf + 1;
        }
        i = lf + 1;
      } else {
        this.step(piece[i] as number, this.size + i);
        i++;
      }
    }
    this.previous = piece.at(-1) ?? this.previous;
  }

  /** One octet of a line that is not known yet to be a field, or to continue one. */
  private step(octet: number, at: number): void {
    if (at < MBOX_OCTETS) this.head += String.fromCharCode(octet);
    const isBlank = octet === 0x20 || octet === 0x09;
    const { state } = this;
    if (state === "line start") {
      if (isNameOctet(octet)) this.state = "name";
      else if (isBlank && this.hasField) this.state = "known line";
      else if (octet === CR) this.state = "behind CR at line start";
      else this.complete = true;
    } else if (state === "behind CR at line start") this.complete = true;
    else if (octet === 0x3a) {
      this.state = "known line";
      this.hasField = true;
    } else if (isBlank) this.state = isMboxLine(this.head, at) ? "known line" : "blank behind name";
    // Obsolete syntax allows blanks before the colon (RFC 5322 §4.5.8), and nothing else.
    else if (state !== "name" || !isNameOctet(octet)) this.complete = true;
  }
}

/** What a field's name consists of (ftext, RFC 5322 §3.6.8). */
export function isNameOctet(octet: number): boolean {
  return octet > 0x20 && octet < 0x7f && octet !== 0x3a;
}

const MBOX_OCTETS = 6;

/** `at`: where the blank is that `head` may end with. */
function isMboxLine(head: string, at: number): boolean {
  return at < MBOX_OCTETS && /^>?From $/.test(head);
}

const MESSAGE_ID = /(?:^|\r\n)message-id[ \t]*:((?:[^\r\n]|\r\n[ \t])*)/i;

/** The value of the (first) Message-ID field, unfolded; undefined where there is none. `section`: CRLF lines. */
export function messageIdOf(section: Buffer): string | undefined {
  const match = MESSAGE_ID.exec(section.toString("latin1"));
  return match === null ? undefined : (match[1] as string).replace(/\r\n/g, "").trim();
}
