/**
 * The message of one BeforeRelay call, read as it arrives: chunk by chunk, its header section first, or whole. It is read
 * once; what `header()` read is given again to whoever reads next. While nobody reads, flow control holds the proxy back.
 * RFC 5322 octets: CRLF lines, not dot-stuffed, no terminator.
 */
import { endOfHeader, type HeaderSection, parseHeader } from "./header.ts";

/** More than that is not read ahead. */
const MAX_HEADER_OCTETS = 1024 * 1024;
/** What `bytes()` takes into memory unless told otherwise. */
export const DEFAULT_MAX_MESSAGE_OCTETS = 64 * 1024 * 1024;

export class HookMessage implements AsyncIterable<Buffer> {
  readonly #source: AsyncIterator<Buffer>;
  readonly #maxOctets: number;
  /** Read from the source, not yet handed out. */
  #ahead: Buffer[] = [];
  #taken = false;

  constructor(source: AsyncIterable<Buffer>, maxOctets: number) {
    this.#source = source[Symbol.asyncIterator]();
    this.#maxOctets = maxOctets;
  }

  /** The octets in order, in chunks of at most 64 KiB. Once only; leaving the loop early is fine. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    this.#take();
    for (;;) {
      const chunk = this.#ahead.shift() ?? (await this.#next());
      if (chunk === undefined) return;
      yield chunk;
    }
  }

  /** The whole message. Throws a RangeError beyond `maxOctets` (default: the server's `maxMessageOctets`, else 64 MiB). */
  async bytes(maxOctets: number = this.#maxOctets): Promise<Buffer> {
    this.#take();
    const chunks: Buffer[] = [];
    let octets = 0;
    for (;;) {
      const chunk = this.#ahead.shift() ?? (await this.#next());
      if (chunk === undefined) break;
      octets += chunk.length;
      if (octets > maxOctets)
        throw new RangeError(
          `the message has more than ${maxOctets} octets (bytes(maxOctets), maxMessageOctets)`,
        );
      chunks.push(chunk);
    }
    return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, octets);
  }

  /**
   * The header section; reads no further than needed. The message can still be read from its beginning. Of a section of more
   * than 1 MiB only the first is given, and marked `truncated`.
   */
  async header(): Promise<HeaderSection> {
    if (this.#taken) throw new Error("header() comes before the message is read, or not at all");
    let octets = Buffer.concat(this.#ahead);
    let end = endOfHeader(octets);
    while (end === -1 && octets.length < MAX_HEADER_OCTETS) {
      const chunk = await this.#next();
      if (chunk === undefined) return parseHeader(octets);
      this.#ahead.push(chunk);
      const before = octets.length;
      octets = Buffer.concat([octets, chunk]);
      end = endOfHeader(octets, before);
    }
    return end === -1 ? { ...parseHeader(octets), truncated: true } : parseHeader(octets.subarray(0, end));
  }

  #take(): void {
    if (this.#taken) throw new Error("the message was already read; keep what bytes() gave");
    this.#taken = true;
  }

  async #next(): Promise<Buffer | undefined> {
    const { done, value } = await this.#source.next();
    return done === true ? undefined : value;
  }
}
