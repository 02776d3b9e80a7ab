/**
 * Builders for what a filter answers. They check what warp would refuse (a refused verdict is the hook's failure, and
 * `on_failure` decides over the mail), so that the mistake shows in the hook: each throws a TypeError in plain words.
 * Replies: RFC 5321 §4.2, RFC 3463. Field names and values: RFC 5322 §2.2; values are given unfolded, warp folds.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BeforeRelayResponseSchema, HeaderEditSchema } from "../gen/warp/hook/v1/hook_pb.ts";

/** A filter's answer for one message. */
export type Verdict = MessageInitShape<typeof BeforeRelayResponseSchema>;
/** One change of the header section; made by `add`, `insert`, `set`, `remove`. */
export type Edit = MessageInitShape<typeof HeaderEditSchema>;

/** What may stand beside any verdict. It goes into events, log and reputation, and never to the peer. */
export interface Findings {
  /** Higher is worse, on the filter's own scale. Finite. */
  readonly score?: number;
  /** At most 64, each at most 128 octets. */
  readonly tags?: readonly string[];
  /** At most 1,024 octets. */
  readonly note?: string;
}

export interface RejectReply {
  /** 4xx (try again) or 5xx (never), but not 421 and 521, which would end the client's session. */
  readonly code: number;
  /** "5.7.1"; its first digit is that of the code. Left out: 4.7.0 or 5.7.0. */
  readonly enhancedCode?: string;
  /** One line of US-ASCII, at most 400 octets. Left out: "Message rejected". */
  readonly text?: string;
}

export const MAX_REPLY_TEXT_OCTETS = 400;
export const MAX_EDITS = 256;
export const MAX_TAGS = 64;
export const MAX_TAG_OCTETS = 128;
export const MAX_NOTE_OCTETS = 1024;

/** Let the message pass as it is. */
export function relay(findings?: Findings): Verdict {
  return { verdict: { case: "relay", value: {} }, ...checkedFindings(findings) };
}

/** Refuse the message: `reject("550 5.7.1 No card numbers by mail")`, or the parts of the reply. */
export function reject(reply: string | RejectReply, findings?: Findings): Verdict {
  const parts = typeof reply === "string" ? parseReply(reply) : reply;
  return { verdict: { case: "reject", value: checkedReject(parts) }, ...checkedFindings(findings) };
}

/** Let the message pass with changes in its header section, applied in order. */
export function addHeader(edits: readonly Edit[], findings?: Findings): Verdict {
  if (edits.length === 0) {
    throw new TypeError("addHeader() needs at least one edit; use relay() to change nothing");
  }
  if (edits.length > MAX_EDITS)
    throw new TypeError(`addHeader() takes at most ${MAX_EDITS} edits, not ${edits.length}`);
  return { verdict: { case: "addHeader", value: { edits: [...edits] } }, ...checkedFindings(findings) };
}

/**
 * Send this message in place of the one received: RFC 5322 octets with CRLF lines, not dot-stuffed. A DKIM signature made
 * before warp will most likely not survive it.
 */
export function replace(message: Uint8Array, findings?: Findings): Verdict {
  return { verdict: { case: "replace", value: { message } }, ...checkedFindings(findings) };
}

/** Tell the client 250 and send nothing. Only where `envelope.discardAllowed`; elsewhere it is the hook's failure. */
export function discard(findings?: Findings): Verdict {
  return { verdict: { case: "discard", value: {} }, ...checkedFindings(findings) };
}

/** Adds a field at the end of the header section. */
export function add(name: string, value: string): Edit {
  return { edit: { case: "add", value: checkedField(name, value) } };
}

/** Puts a field on top of the header section: the one edit that no DKIM signature minds. */
export function insert(name: string, value: string): Edit {
  return { edit: { case: "insert", value: checkedField(name, value) } };
}

/** Gives a field this value. `occurrence` 1 is the topmost, 0 all of that name; where none is there it is added. */
export function set(name: string, value: string, occurrence = 1): Edit {
  return {
    edit: { case: "set", value: { ...checkedField(name, value), occurrence: checkedOccurrence(occurrence) } },
  };
}

/** Removes a field. `occurrence` 1 is the topmost, 0 all of that name; where none is there nothing happens. */
export function remove(name: string, occurrence = 0): Edit {
  return {
    edit: { case: "remove", value: { name: checkedName(name), occurrence: checkedOccurrence(occurrence) } },
  };
}

/** Any text made fit for `reject`: one line of US-ASCII, at most 400 octets, the rest replaced by "?" or cut. */
export function asReplyText(text: string): string {
  return text
    .replace(/[\r\n\t ]+/g, " ")
    .replace(/[^\x20-\x7e]/gu, "?")
    .trim()
    .slice(0, MAX_REPLY_TEXT_OCTETS);
}

/**
 * Any text made fit for a field's value: one line without control characters, and encoded words (RFC 2047) where it is not
 * US-ASCII, which only SMTPUTF8 mail may have as it is.
 */
export function asFieldValue(text: string): string {
  const line = text
    .toWellFormed()
    .replace(/[\r\n\t ]+/g, " ")
    .replace(/[\x00-\x1f\x7f-\x9f]/g, "?")
    .trim();
  return /^[\x20-\x7e]*$/.test(line) ? line : encodedWords(line);
}

/** Cuts a text at a number of UTF-8 octets, never inside a character. */
export function cutOctets(text: string, maxOctets: number): string {
  const octets = Buffer.from(text, "utf8");
  if (octets.length <= maxOctets) return text;
  let end = maxOctets;
  while (end > 0 && (octets[end]! & 0xc0) === 0x80) end--;
  return octets.toString("utf8", 0, end);
}

/** Validates the parts of a reject, also for `SelectRoute`. */
export function checkedReject(reply: RejectReply): { code: number; enhancedCode: string; text: string } {
  const { code } = reply;
  if (!Number.isInteger(code) || code < 400 || code > 599 || code === 421 || code === 521) {
    throw new TypeError(`a reject needs a code of 400 to 599, but not 421 or 521: ${code}`);
  }
  const enhancedCode = reply.enhancedCode ?? `${String(code)[0]}.7.0`;
  if (!/^[45]\.\d{1,3}\.\d{1,3}$/.test(enhancedCode)) {
    throw new TypeError(`an enhanced code looks like 5.7.1: ${JSON.stringify(enhancedCode)}`);
  }
  if (enhancedCode[0] !== String(code)[0]) {
    throw new TypeError(
      `the enhanced code ${enhancedCode} does not belong to ${code}: their first digits differ`,
    );
  }
  const text = reply.text ?? "Message rejected";
  if (!/^[\x20-\x7e]+$/.test(text)) {
    throw new TypeError(
      "the text of a reject is one line of US-ASCII and not empty; asReplyText() makes any text fit",
    );
  }
  if (text.length > MAX_REPLY_TEXT_OCTETS) {
    throw new TypeError(
      `the text of a reject has at most ${MAX_REPLY_TEXT_OCTETS} octets, this one ${text.length}; asReplyText() cuts`,
    );
  }
  return { code, enhancedCode, text };
}

function parseReply(line: string): RejectReply {
  const match = /^(\d{3})(?: ([245]\.\d{1,3}\.\d{1,3}))?(?: (.*))?$/s.exec(line);
  if (match === null)
    throw new TypeError(`a reject looks like "550 5.7.1 Message rejected": ${JSON.stringify(line)}`);
  const [, code, enhancedCode, text] = match;
  return {
    code: Number(code),
    ...(enhancedCode !== undefined && { enhancedCode }),
    ...(text !== undefined && text !== "" && { text }),
  };
}

function checkedFindings(findings: Findings | undefined): { score?: number; tags?: string[]; note?: string } {
  const { score, tags, note } = findings ?? {};
  if (score !== undefined && !Number.isFinite(score))
    throw new TypeError(`a score is a finite number: ${score}`);
  if (tags !== undefined) {
    if (tags.length > MAX_TAGS) throw new TypeError(`at most ${MAX_TAGS} tags, not ${tags.length}`);
    const long = tags.find((tag) => Buffer.byteLength(tag) > MAX_TAG_OCTETS);
    if (long !== undefined)
      throw new TypeError(`a tag has at most ${MAX_TAG_OCTETS} octets: ${JSON.stringify(long)}`);
  }
  if (note !== undefined && Buffer.byteLength(note) > MAX_NOTE_OCTETS) {
    throw new TypeError(`a note has at most ${MAX_NOTE_OCTETS} octets, this one ${Buffer.byteLength(note)}`);
  }
  return {
    ...(score !== undefined && { score }),
    ...(tags !== undefined && { tags: [...tags] }),
    ...(note !== undefined && { note }),
  };
}

function checkedName(name: string): string {
  // ftext of RFC 5322 §3.6.8
  if (!/^[\x21-\x39\x3b-\x7e]{1,256}$/.test(name)) {
    throw new TypeError(
      `no name of a header field (printable US-ASCII, no blank, no colon, at most 256): ${JSON.stringify(name)}`,
    );
  }
  return name;
}

function checkedField(name: string, value: string): { name: string; value: string } {
  if (/[\x00-\x08\x0a-\x1f\x7f-\x9f]/.test(value) || !value.isWellFormed()) {
    throw new TypeError(
      `the value of ${name} must not contain CR, LF or other control characters (warp folds); asFieldValue() makes any text fit`,
    );
  }
  return { name: checkedName(name), value };
}

function checkedOccurrence(occurrence: number): number {
  if (!Number.isInteger(occurrence) || occurrence < 0) {
    throw new TypeError(`an occurrence is 0 (all) or counts from 1 (topmost): ${occurrence}`);
  }
  return occurrence;
}

/** Encoded words of at most 75 octets, each of whole characters: 45 octets of UTF-8 become 60 in base64. */
function encodedWords(text: string): string {
  const words: string[] = [];
  let rest = text;
  while (rest !== "") {
    const piece = cutOctets(rest, 45);
    words.push(`=?UTF-8?B?${Buffer.from(piece, "utf8").toString("base64")}?=`);
    rest = rest.slice(piece.length);
  }
  return words.join(" ");
}
