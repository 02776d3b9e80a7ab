/**
 * What Rspamd answered, as a verdict. Pure. Its shapes: `add_headers` maps a name to a value, to `{ value, order }` or to a
 * list of those (order -1 or none: at the end, else on top); `remove_headers` maps a name to an occurrence (0: all, 1: the
 * topmost, -1: the lowest) or to a list.
 */
import {
  add,
  addHeader,
  asFieldValue,
  asReplyText,
  cutOctets,
  discard,
  type Edit,
  type Findings,
  type HeaderSection,
  insert,
  reject,
  relay,
  remove,
  set,
  type Verdict,
} from "../sdk/index.ts";

export interface VerdictSettings {
  /**
   * What the action «greylist» means. `tempfail`: 451. `relay`: let it pass, for an Rspamd whose greylisting module does
   * the deferring itself (by «soft reject»).
   */
  readonly greylist: "tempfail" | "relay";
}

/** The part of an answer that we read; all of it is checked, since another program made it. */
export interface RspamdAnswer {
  readonly action?: unknown;
  readonly score?: unknown;
  readonly required_score?: unknown;
  readonly is_skipped?: unknown;
  readonly symbols?: unknown;
  readonly messages?: unknown;
  readonly subject?: unknown;
  readonly milter?: unknown;
  readonly "dkim-signature"?: unknown;
}

const MAX_TAGS = 64;

/** Throws an Error in plain words for an answer that is none, or an action that is not known. */
export function verdictOf(
  answer: RspamdAnswer,
  header: HeaderSection,
  discardAllowed: boolean,
  settings: VerdictSettings,
): Verdict {
  if (!isRecord(answer) || typeof answer.action !== "string")
    throw new Error("Rspamd's answer names no action");
  const findings = findingsOf(answer);
  switch (answer.action) {
    case "no action":
      return edited(milterEdits(answer, header), findings);
    case "greylist":
      if (settings.greylist === "relay") return edited(milterEdits(answer, header), findings);
      return deferral(answer, "Greylisted, please try again later", findings);
    case "soft reject":
      return deferral(answer, "Try again later", findings);
    case "add header":
      return edited([...milterEdits(answer, header), ...spamMarks(answer, findings)], findings);
    case "rewrite subject":
      return edited([...milterEdits(answer, header), ...subjectEdit(answer, header)], findings);
    case "discard":
      return discardAllowed ? discard(findings) : refusal(answer, findings);
    case "reject":
    case "quarantine": // there is no place to keep it: the sender has to know
      return refusal(answer, findings);
    default:
      throw new Error(`Rspamd's action "${answer.action}" is not known`);
  }
}

function edited(edits: readonly Edit[], findings: Findings): Verdict {
  return edits.length === 0 ? relay(findings) : addHeader(edits, findings);
}

function refusal(answer: RspamdAnswer, findings: Findings): Verdict {
  return reject(
    { code: 550, enhancedCode: "5.7.1", text: smtpMessage(answer) ?? "Message rejected" },
    findings,
  );
}

function deferral(answer: RspamdAnswer, text: string, findings: Findings): Verdict {
  return reject({ code: 451, enhancedCode: "4.7.1", text: smtpMessage(answer) ?? text }, findings);
}

/** The text that Rspamd wants the peer to hear; codes in front of it are ours to give. */
function smtpMessage({ messages }: RspamdAnswer): string | undefined {
  const given = isRecord(messages)
    ? messages.smtp_message
    : Array.isArray(messages)
      ? messages[0]
      : undefined;
  if (typeof given !== "string") return undefined;
  const text = asReplyText(given).replace(/^[45]\d\d[ -](?:[45]\.\d{1,3}\.\d{1,3} )?/, "");
  return text === "" ? undefined : text;
}

function findingsOf(answer: RspamdAnswer): Findings {
  const score = typeof answer.score === "number" && Number.isFinite(answer.score) ? answer.score : 0;
  const required = typeof answer.required_score === "number" ? `/${answer.required_score}` : "";
  const skipped = answer.is_skipped === true ? ", skipped" : "";
  return {
    score,
    tags: tagsOf(answer.symbols),
    note: cutOctets(`${answer.action} ${score}${required}${skipped}`, 1024),
  };
}

/** Names of symbols, those that weigh most first. */
function tagsOf(symbols: unknown): string[] {
  if (!isRecord(symbols)) return [];
  const weight = (symbol: unknown): number =>
    isRecord(symbol) && typeof symbol.score === "number" ? Math.abs(symbol.score) : 0;
  return Object.entries(symbols)
    .sort(([, a], [, b]) => weight(b) - weight(a))
    .slice(0, MAX_TAGS)
    .map(([name]) => cutOctets(name, 128));
}

/** `X-Spam: Yes` and the score, in place of what the sender may have put there; unless Rspamd made its own. */
function spamMarks(answer: RspamdAnswer, { score }: Findings): Edit[] {
  const own =
    isRecord(answer.milter) && isRecord(answer.milter.add_headers)
      ? Object.keys(answer.milter.add_headers)
      : [];
  const marks: [string, string][] = [
    ["X-Spam", "Yes"],
    ["X-Spam-Score", String(Math.round((score ?? 0) * 100) / 100)],
  ];
  return marks
    .filter(([name]) => !own.some((other) => other.toLowerCase() === name.toLowerCase()))
    .flatMap(([name, value]) => [remove(name), insert(name, value)]);
}

function subjectEdit({ subject }: RspamdAnswer, header: HeaderSection): Edit[] {
  const wanted = typeof subject === "string" ? subject : `*** SPAM *** ${header.get("Subject") ?? ""}`;
  return [set("Subject", asFieldValue(wanted))];
}

function milterEdits({ milter, "dkim-signature": signature }: RspamdAnswer, header: HeaderSection): Edit[] {
  const parts = isRecord(milter) ? milter : {};
  return [
    ...entries(parts.remove_headers).flatMap(([name, value]) => removals(name, value, header)),
    ...entries(parts.add_headers).map(([name, value]) => addition(name, value)),
    ...[signature ?? []].flat().map((value) => addition("DKIM-Signature", { value, order: 1 })),
  ];
}

/** Name and value pairs of an object whose values may be lists. */
function entries(map: unknown): [string, unknown][] {
  if (!isRecord(map)) return [];
  return Object.entries(map).flatMap(([name, values]) =>
    [values].flat().map((value): [string, unknown] => [name, value]),
  );
}

function addition(name: string, given: unknown): Edit {
  const value = isRecord(given) ? given.value : given;
  const order = isRecord(given) ? given.order : undefined;
  if (typeof value !== "string" && typeof value !== "number") {
    throw new Error(`Rspamd's header ${JSON.stringify(name)} has no value`);
  }
  const text = asFieldValue(String(value));
  return typeof order === "number" && order >= 0 ? insert(name, text) : add(name, text);
}

function removals(name: string, occurrence: unknown, header: HeaderSection): Edit[] {
  if (typeof occurrence !== "number" || !Number.isInteger(occurrence)) {
    throw new Error(`Rspamd's removal of ${JSON.stringify(name)} names no occurrence`);
  }
  if (occurrence >= 0) return [remove(name, occurrence)];
  const fromTop = header.all(name).length + occurrence + 1;
  return fromTop < 1 ? [] : [remove(name, fromTop)];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
