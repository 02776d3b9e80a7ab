/**
 * What a filter answered, judged: either a verdict that can be applied as it stands, or the reason why the answer counts
 * as the hook's failure. An unknown or malformed answer is never a relay. Nothing a hook says reaches the peer or the
 * message unchecked: reply codes, US-ASCII text, header edits, and every octet of a replacement.
 */
import type { VerdictReply } from "./contract.ts";
import { LINE_LIMIT } from "./fold.ts";
import { editProblem, type HeaderEdit } from "./header-edit.ts";

/** The answer as it came: `BeforeRelayResponse` of the protocol fits it. */
export interface RawVerdict {
  readonly verdict:
    | { readonly case: "relay"; readonly value: unknown }
    | { readonly case: "reject"; readonly value: RawReject }
    | { readonly case: "addHeader"; readonly value: { readonly edits: readonly RawEdit[] } }
    | { readonly case: "replace"; readonly value: { readonly message: Uint8Array } }
    | { readonly case: "discard"; readonly value: unknown }
    | { readonly case: undefined; readonly value?: undefined };
  readonly score: number;
  readonly tags: readonly string[];
  readonly note: string;
}
export interface RawReject {
  readonly code: number;
  readonly enhancedCode: string;
  readonly text: string;
}
interface RawField {
  readonly name: string;
  readonly value: string;
}
export interface RawEdit {
  readonly edit:
    | { readonly case: "add" | "insert"; readonly value: RawField }
    | { readonly case: "set"; readonly value: RawField & { readonly occurrence: number } }
    | { readonly case: "remove"; readonly value: { readonly name: string; readonly occurrence: number } }
    | { readonly case: undefined; readonly value?: undefined };
}

/** What may be done to this message. */
export interface VerdictRules {
  /** MAIL said SMTPUTF8 and the leg takes it: 8-bit in header fields. */
  readonly smtputf8: boolean;
  /** MAIL said BODY=8BITMIME. */
  readonly eightBit: boolean;
  /** Largest message that the leg and warp's own limit allow; undefined: none. */
  readonly maxOctets: number | undefined;
  readonly discardAllowed: boolean;
  /** The hook saw all of the message; one that saw a part must not replace the whole. */
  readonly sawWhole: boolean;
}

export type Verdict =
  | { readonly kind: "relay" }
  | { readonly kind: "reject"; readonly reply: VerdictReply }
  | { readonly kind: "add_header"; readonly edits: readonly HeaderEdit[] }
  | {
      readonly kind: "replace";
      /** With its last CRLF. */
      readonly message: Buffer;
      /** Lines over 998 octets in it: allowed only where the message before it had each of them too. */
      readonly longLines: readonly Buffer[];
      /** 8-bit octets that MAIL did not announce: allowed only where the message before it had some too. */
      readonly isUnannounced8Bit: boolean;
    }
  | { readonly kind: "discard" };

export interface Remarks {
  readonly score: number;
  readonly tags: readonly string[];
  readonly note: string;
}
export type Judged =
  | { readonly ok: true; readonly verdict: Verdict; readonly remarks: Remarks }
  | { readonly ok: false; readonly problem: string };

export const MAX_REJECT_TEXT = 400;
export const MAX_EDITS = 256;
const MAX_LONG_LINES = 1000;
const MAX_TAGS = 64;
const MAX_TAG = 128;
const MAX_NOTE = 1024;
const DEFAULT_CODE = 550;
const DEFAULT_TEXT = "Message rejected";

export function validateVerdict(response: RawVerdict, rules: VerdictRules): Judged {
  if (!Number.isFinite(response.score)) return problem("score is not a finite number");
  const verdict = judge(response.verdict, rules);
  return typeof verdict === "string" ? problem(verdict) : { ok: true, verdict, remarks: remarksOf(response) };
}

/**
 * A reply for the peer; a field that is absent gets its default (`550 5.7.0 Message rejected`). A string says what is wrong.
 */
export function validateReject(reject: RawReject): VerdictReply | string {
  const code = reject.code === 0 ? DEFAULT_CODE : reject.code;
  if (!Number.isInteger(code) || code < 400 || code > 599) return `reject with code ${code}, not 4xx or 5xx`;
  // Both announce that the connection ends, which is not the hook's to say.
  if (code === 421 || code === 521) return `reject with code ${code}, which would close the connection`;
  const codeClass = String(code)[0];
  const enhancedCode = reject.enhancedCode === "" ? `${codeClass}.7.0` : reject.enhancedCode;
  if (!/^[45]\.\d{1,3}\.\d{1,3}$/.test(enhancedCode)) {
    return `reject with enhanced code ${quoted(enhancedCode)}, not of the form 5.7.1`;
  }
  if (enhancedCode[0] !== codeClass)
    return `reject with enhanced code ${enhancedCode} of another class than ${code}`;
  const text = reject.text === "" ? DEFAULT_TEXT : reject.text;
  if (text.length > MAX_REJECT_TEXT) {
    return `reject with a text of ${text.length} octets, more than ${MAX_REJECT_TEXT}`;
  }
  if (!/^[\x20-\x7e]+$/.test(text))
    return `reject with a text that is not printable US-ASCII: ${quoted(text)}`;
  return { code, enhancedCode, text };
}

function judge(raw: RawVerdict["verdict"], rules: VerdictRules): Verdict | string {
  switch (raw.case) {
    case "relay":
      return { kind: "relay" };
    case "reject": {
      const reply = validateReject(raw.value);
      return typeof reply === "string" ? reply : { kind: "reject", reply };
    }
    case "addHeader":
      return judgeEdits(raw.value.edits, rules);
    case "replace":
      return judgeReplacement(raw.value.message, rules);
    case "discard":
      return rules.discardAllowed ? { kind: "discard" } : "discard is not enabled (filter.discard)";
    default:
      return "no verdict is set";
  }
}

function judgeEdits(raw: readonly RawEdit[], rules: VerdictRules): Verdict | string {
  if (raw.length === 0) return "add_header without an edit";
  if (raw.length > MAX_EDITS) return `add_header with ${raw.length} edits, more than ${MAX_EDITS}`;
  const edits: HeaderEdit[] = [];
  for (const { edit } of raw) {
    if (edit.case === undefined) return "a header edit says nothing";
    const made: HeaderEdit =
      edit.case === "remove"
        ? { kind: "remove", name: edit.value.name, occurrence: edit.value.occurrence }
        : edit.case === "set"
          ? { kind: "set", name: edit.value.name, value: edit.value.value, occurrence: edit.value.occurrence }
          : { kind: edit.case, name: edit.value.name, value: edit.value.value };
    const wrong = editProblem(made, rules);
    if (wrong !== undefined) return `invalid header edit: ${wrong}`;
    edits.push(made);
  }
  return { kind: "add_header", edits };
}

function judgeReplacement(message: Uint8Array, rules: VerdictRules): Verdict | string {
  if (!rules.sawWhole) return "replace by a hook that saw only a part of the message";
  if (message.length === 0) return "replacement is empty";
  const octets = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  const ended = octets.at(-1) === 0x0a ? octets : Buffer.concat([octets, Buffer.from("\r\n")]);
  if (rules.maxOctets !== undefined && ended.length > rules.maxOctets) {
    return `replacement of ${ended.length} octets, more than ${rules.maxOctets}`;
  }
  const longLines: Buffer[] = [];
  let start = 0;
  while (start < ended.length) {
    const newline = ended.indexOf(0x0a, start);
    // The text ends with LF, so there is one; a CR may only be right before it.
    const carriage = ended.indexOf(0x0d, start);
    if (carriage < 0 || carriage !== newline - 1) {
      return `replacement with a bare ${carriage >= 0 && carriage < newline ? "CR" : "LF"} in line at octet ${start}`;
    }
    if (newline - 1 - start > LINE_LIMIT) longLines.push(ended.subarray(start, newline - 1));
    if (longLines.length > MAX_LONG_LINES) return `replacement with too many lines over ${LINE_LIMIT} octets`;
    start = newline + 1;
  }
  if (octets.includes(0)) return "replacement with a NUL";
  const isUnannounced8Bit = !rules.eightBit && !rules.smtputf8 && hasEightBit(octets);
  return { kind: "replace", message: ended, longLines, isUnannounced8Bit };
}

export function hasEightBit(octets: Buffer): boolean {
  for (let i = 0; i < octets.length; i++) if ((octets[i] as number) > 0x7f) return true;
  return false;
}

/** For log and events only: cut rather than refused. */
function remarksOf(response: RawVerdict): Remarks {
  return {
    score: response.score,
    tags: response.tags.slice(0, MAX_TAGS).map((tag) => cut(tag, MAX_TAG)),
    note: cut(response.note, MAX_NOTE),
  };
}

/** At most so many octets of UTF-8, whole characters only. */
function cut(text: string, octets: number): string {
  if (Buffer.byteLength(text, "utf8") <= octets) return text;
  const whole = Buffer.from(text, "utf8");
  let end = octets;
  while (((whole[end] as number) & 0xc0) === 0x80) end--;
  return whole.toString("utf8", 0, end);
}

function problem(text: string): Judged {
  return { ok: false, problem: text };
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
