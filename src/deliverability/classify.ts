/**
 * What a receiver's answer means (docs/reply-classes.md): the rules of its own provider first, then any other wording,
 * then the enhanced code, then the basic code. The table is reply-classes.ts.
 */
import {
  BASIC_RULES,
  ENHANCED_RULES,
  GENERIC_RULES,
  PROVIDER_RULES,
  type ReplyClass,
  type TextRule,
} from "./reply-classes.ts";

export interface ClassifiableReply {
  readonly code: number;
  /** "4.7.1", or empty: then it is looked for at the start of the text. */
  readonly enhancedCode: string;
  /** The whole reply, with or without codes, one line or several. Octets are read as latin1. */
  readonly text: string | Uint8Array;
}
export interface Classification {
  readonly class: ReplyClass;
  /** In words, for a person. */
  readonly detail: string;
  /** Which rule decided: an id of the table, "enhanced-4.7.1", "basic-450". */
  readonly rule: string;
}

/** What events say: empty for a 3xx, which asks for the message (RFC 5321 §4.2.1) and is no answer about it. */
export function replyClassOf(
  code: number,
  enhancedCode: string,
  text: string | Uint8Array,
  provider?: string,
): ReplyClass | "" {
  if (code < 300) return "accepted";
  return code < 400 ? "" : classifyReply({ code, enhancedCode, text }, provider).class;
}

/** A longer text is cut: nothing that matters stands further behind, and the work stays bounded. */
const MAX_TEXT = 2048;

export function classifyReply(reply: ClassifiableReply, provider?: string): Classification {
  const first = Math.floor(reply.code / 100);
  if (first === 2) return { class: "accepted", detail: "accepted", rule: "basic-2**" };
  if (first === 4 || first === 5) {
    const { text, enhancedCode } = plainText(reply);
    const rule = textRule(text, String(first) as "4" | "5", provider);
    if (rule !== undefined) return { class: rule.class, detail: rule.detail, rule: rule.id };
    const enhanced = enhancedRule(enhancedCode);
    if (enhanced !== undefined) {
      return { class: enhanced.class, detail: enhanced.detail, rule: `enhanced-${enhanced.code}` };
    }
  }
  const basic = BASIC_RULES.find(({ code }) => matchesDigits(code, String(reply.code)))!;
  return { class: basic.class, detail: basic.detail, rule: `basic-${basic.code}` };
}

function textRule(text: string, first: "4" | "5", provider: string | undefined): TextRule | undefined {
  const applies = (rule: TextRule) =>
    (rule.codes === undefined || rule.codes === first) && rule.pattern.test(text);
  const own =
    provider === undefined || provider === ""
      ? undefined
      : PROVIDER_RULES.find((rule) => rule.provider === provider && applies(rule));
  // Another provider's wording goes before the generic ones: it is narrower, and many receivers say what a large one says
  // (of the fixtures with a provider, generic rules first would get 25 wrong where the provider isn't known).
  return own ?? PROVIDER_RULES.find(applies) ?? GENERIC_RULES.find(applies);
}

function enhancedRule(enhancedCode: string): (typeof ENHANCED_RULES)[number] | undefined {
  const parts = enhancedCode.split(".");
  if (parts.length !== 3) return undefined;
  return ENHANCED_RULES.find(({ code }) =>
    code.split(".").every((part, i) => part === "*" || part === parts[i]),
  );
}

function matchesDigits(pattern: string, code: string): boolean {
  return [...pattern].every((digit, i) => digit === "*" || digit === code[i]);
}

/** Lines joined by a blank, their codes cut off; the enhanced code of the first line that has one. */
function plainText(reply: ClassifiableReply): { text: string; enhancedCode: string } {
  const raw = typeof reply.text === "string" ? reply.text : Buffer.from(reply.text).toString("latin1");
  let enhancedCode = reply.enhancedCode;
  const lines = raw
    .slice(0, MAX_TEXT)
    .split(/\r?\n/)
    .map((line) => {
      const bare = line.replace(/^\d{3}(?:[ -]|$)/, "");
      const code = /^[245]\.\d{1,3}\.\d{1,3}(?=\s|$)/.exec(bare)?.[0];
      if (code === undefined) return bare.trim();
      if (enhancedCode === "") enhancedCode = code;
      return bare.slice(code.length).trim();
    });
  return { text: lines.join(" "), enhancedCode };
}

/** Reads what a person pastes: a reply as it stands in a log. Undefined where there is no code in it. */
export function parseReplyText(line: string): ClassifiableReply | undefined {
  // Logs put things before the reply: "said: 550 5.1.1 …", "smtp;550 …", "<250 2.0.0 OK>".
  const match = /(?:^|[\s;:<("'])([2-5][0-9]{2})(?=[ -]|$)/.exec(line);
  if (match === null) return undefined;
  const code = Number(match[1]);
  const text = line.slice(match.index + match[0].length - 3);
  const enhancedCode = /^\d{3}[ -]#?([245]\.\d{1,3}\.\d{1,3})(?=\s|$)/.exec(text)?.[1] ?? "";
  return { code, enhancedCode, text };
}
