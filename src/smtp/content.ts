/**
 * Where a message ends, and how it leaves (RFC 5321 §4.5.2, §2.3.8; RFC 3030). One reader decides for DATA, by CRLF.CRLF
 * alone; its output is the form that goes to the destination: every line ends in CRLF, none of its own dots ends the
 * message, and no bare CR or LF is left, so that no second reader can see another end (SMTP smuggling).
 *
 * A bare LF and a bare CR each become CRLF. A dot behind one was at no line's start when it came, so it isn't unstuffed;
 * it is at one when it leaves, so it is stuffed.
 */
import { Newlines } from "./newlines.ts";
import { CR, CRLF, DOT, EMPTY, LF } from "./octets.ts";

const TERMINATOR = Buffer.from(".\r\n");
/** A dot at a line's start, where every LF has its CR. */
const LINE_DOT = Buffer.from("\n.");
const DOT_BYTE = Buffer.from(".");
const TWO_DOTS = Buffer.from("..");

/** What stands before the octet to come. */
type DataState =
  | "line_start" // a true CRLF, or the beginning
  | "soft_start" // a newline that warp made of a bare CR or LF
  | "dot" // a dot at a true line start, held
  | "dot_cr" // that dot and a CR, held
  | "text"
  | "cr"; // a CR, held

/** What `DataReader.read` made of one chunk. */
export interface DataPieces {
  /** The octets to send, dot-stuffed, the terminator included where `end`. Views of the chunk where nothing changed. */
  readonly wire: Buffer[];
  /** The message ended in this chunk. */
  readonly end: boolean;
  /** Octets of the chunk that were used: all of them, unless the message ended. */
  readonly used: number;
}

/** The message of DATA: bytes in as they come, the same message out at any split. */
export class DataReader {
  /** Octets of the message so far: not stuffed, without the terminator (RFC 1870 §3). */
  octets = 0;
  /** Bare CRs and LFs so far. */
  bareNewlines = 0;
  private state: DataState = "line_start";
  private wire: Buffer[] = [];

  read(chunk: Buffer): DataPieces {
    this.wire = [];
    const used = this.scan(chunk);
    const end = used >= 0;
    const wire = this.wire;
    this.wire = [];
    return { wire, end, used: end ? used : chunk.length };
  }

  /** Runs through the chunk; the index behind the terminator, or -1. */
  private scan(chunk: Buffer): number {
    const length = chunk.length;
    let state = this.state;
    let from = 0; // begin of the run that leaves as it came
    let i = 0;
    const newlines = new Newlines(chunk);
    while (i < length) {
      const c = chunk[i] as number;
      if (state === "text") {
        i = newlines.nextUnusual(i);
        if (i === length) break;
        if (chunk[i] === CR) {
          if (i + 1 < length) {
            if (chunk[i + 1] === LF) {
              i += 2;
              state = "line_start";
              continue;
            }
            from = this.bare(chunk, from, i);
            state = "soft_start";
          } else {
            this.run(chunk, from, i);
            from = length;
            state = "cr";
          }
        } else {
          from = this.bare(chunk, from, i);
          state = "soft_start";
        }
        i++;
        continue;
      }
      switch (state) {
        case "line_start":
          if (c === DOT) {
            // Common and whole in this chunk: the terminator, or a stuffed line.
            if (i + 2 < length && chunk[i + 1] === CR && chunk[i + 2] === LF) {
              this.finish(chunk, from, i);
              return i + 3;
            }
            this.run(chunk, from, i);
            from = ++i;
            state = "dot";
          } else state = "text"; // looked at again there
          break;
        case "soft_start":
          if (c === DOT) {
            this.run(chunk, from, i);
            this.put(TWO_DOTS, 1);
            from = ++i;
          }
          state = "text";
          break;
        case "dot":
          if (c === CR) {
            from = ++i;
            state = "dot_cr";
          } else if (c === DOT) {
            this.put(DOT_BYTE, 0); // stuffed when it came, stuffed when it leaves: one of the two is no content
            from = i;
            i++;
            state = "text";
          } else {
            from = i;
            state = "text"; // the dot was transparency, and goes (RFC 5321 §4.5.2)
          }
          break;
        case "dot_cr":
          if (c === LF) {
            this.put(TERMINATOR, 0);
            this.state = "line_start";
            return i + 1;
          }
          this.bareNewlines++;
          this.put(CRLF, 2);
          from = i;
          state = "soft_start";
          break;
        case "cr":
          this.put(CRLF, 2);
          if (c === LF) {
            from = ++i;
            state = "line_start";
          } else {
            this.bareNewlines++;
            from = i;
            state = "soft_start";
          }
          break;
      }
    }
    this.run(chunk, from, length);
    this.state = state;
    return -1;
  }

  private run(chunk: Buffer, from: number, to: number): void {
    if (to <= from) return;
    this.octets += to - from;
    this.wire.push(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
  }

  private put(bytes: Buffer, octets: number): void {
    this.wire.push(bytes);
    this.octets += octets;
  }

  /** A bare CR or LF at `at`: it leaves as CRLF. Returns where the next run begins. */
  private bare(chunk: Buffer, from: number, at: number): number {
    this.run(chunk, from, at);
    this.put(CRLF, 2);
    this.bareNewlines++;
    return at + 1;
  }

  /** The terminator stands at `dot`: one run with what is before it. */
  private finish(chunk: Buffer, from: number, dot: number): void {
    this.octets += dot - from;
    this.wire.push(chunk.subarray(from, dot + 3));
    this.state = "line_start";
  }
}

/**
 * Takes the dots of transparency out of what `DataReader` made (so: CRLF lines only), and its terminator. Since no LF comes
 * without its CR there, a line begins behind each LF; they are found by `indexOf`, not octet by octet.
 */
export class DotUnstuffer {
  private atLineStart = true;
  /** A line's first dot was dropped; what follows tells whether it was the terminator's. */
  private dot = false;
  private ended = false;

  /** The message's octets of `wire`; views where nothing changed. */
  read(wire: Buffer): Buffer[] {
    const out: Buffer[] = [];
    if (this.ended) return out;
    let from = 0;
    while (from < wire.length) {
      if (this.dot) {
        // Only the terminator goes on with CR LF there.
        if (wire[from] === CR) {
          this.ended = true;
          return out;
        }
        this.dot = false;
        this.atLineStart = false;
      }
      const dot = this.atLineStart && wire[from] === DOT ? from : lineDot(wire, from);
      if (dot < 0) {
        this.atLineStart = wire[wire.length - 1] === LF;
        out.push(from === 0 ? wire : wire.subarray(from));
        return out;
      }
      if (dot > from) out.push(wire.subarray(from, dot));
      from = dot + 1;
      this.dot = true;
    }
    return out;
  }
}

/** Index of the first dot behind an LF that stands at `from` or later; -1: there is none. */
function lineDot(octets: Buffer, from: number): number {
  const newline = octets.indexOf(LINE_DOT, from);
  return newline < 0 ? -1 : newline + 1;
}

/** Puts the dots of transparency in (RFC 5321 §4.5.2). Input: CRLF lines only, so a line begins behind each LF. */
export class DotStuffer {
  private atLineStart = true;

  read(content: Buffer): Buffer[] {
    if (content.length === 0) return [];
    const out: Buffer[] = [];
    let from = 0;
    let dot = this.atLineStart && content[0] === DOT ? 0 : lineDot(content, 0);
    while (dot >= 0) {
      // The run up to and with this dot; the next one begins with the same dot again.
      out.push(content.subarray(from, dot + 1));
      from = dot;
      dot = lineDot(content, dot);
    }
    out.push(out.length === 0 ? content : content.subarray(from));
    this.atLineStart = content[content.length - 1] === LF;
    return out;
  }

  /** What ends the message: a CRLF first where its last line has none. */
  end(): Buffer {
    return this.atLineStart ? TERMINATOR : Buffer.from("\r\n.\r\n");
  }
}

/** The octets of BDAT: bare CRs and LFs become CRLF; a CR at the end waits for what follows. */
export class NewlineNormalizer {
  bareNewlines = 0;
  /** Octets that were put out. */
  octets = 0;
  private heldCr = false;

  read(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    if (chunk.length === 0) return out;
    let from = 0;
    if (this.heldCr) {
      this.heldCr = false;
      out.push(CRLF);
      if (chunk[0] === LF) from = 1;
      else this.bareNewlines++;
    }
    const newlines = new Newlines(chunk);
    for (let i = newlines.nextUnusual(from); i < chunk.length; i = newlines.nextUnusual(i + 1)) {
      if (chunk[i] === CR) {
        if (i + 1 === chunk.length) {
          if (i > from) out.push(chunk.subarray(from, i));
          from = chunk.length;
          this.heldCr = true;
          break;
        }
        if (chunk[i + 1] === LF) {
          i++;
          continue;
        }
      }
      if (i > from) out.push(chunk.subarray(from, i));
      out.push(CRLF);
      from = i + 1;
      this.bareNewlines++;
    }
    if (from < chunk.length) out.push(from === 0 ? chunk : chunk.subarray(from));
    for (const piece of out) this.octets += piece.length;
    return out;
  }

  /** The message ended: a CR that waited was a bare one. */
  end(): Buffer {
    if (!this.heldCr) return EMPTY;
    this.heldCr = false;
    this.bareNewlines++;
    this.octets += 2;
    return CRLF;
  }
}
