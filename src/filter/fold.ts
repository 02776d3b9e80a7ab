/**
 * One header field as octets (RFC 5322 §2.2, §3.2.2; RFC 6532 for 8-bit values): checked, then folded. Values come
 * unfolded; lines are folded at white space to 78 octets, and none is ever longer than 998 (§2.1.1). Unfolding the
 * result gives the value back, octet for octet.
 */

export interface FieldRules {
  /** Octets above 127 are allowed in values: MAIL said SMTPUTF8. */
  readonly smtputf8: boolean;
}

const SOFT_LIMIT = 78;
export const LINE_LIMIT = 998;
/** A name that long still leaves room for a word of its value. */
const NAME_LIMIT = 256;
const SPACE = 0x20;
const TAB = 0x09;

/** Undefined: the field may be written. Else what is wrong with it, in words. */
export function fieldProblem(name: string, value: string, rules: FieldRules): string | undefined {
  const named = nameProblem(name);
  if (named !== undefined) return named;
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(value)) {
    return `value of ${name} has ${/[\r\n]/.test(value) ? "a CR or LF" : "a control character"}`;
  }
  if (!value.isWellFormed()) return `value of ${name} is not well-formed Unicode`;
  // C1 controls include NEL, which some software takes for a line end.
  if (/[\x80-\x9f]/.test(value)) return `value of ${name} has a control character`;
  if (!rules.smtputf8 && /[^\x00-\x7f]/.test(value)) {
    return `value of ${name} has 8-bit characters, and the message is not SMTPUTF8`;
  }
  if (foldField(name, value) === undefined) {
    return `field ${name} has a word that does not fit into a line of ${LINE_LIMIT} octets`;
  }
  return undefined;
}

/** A field name: one or more of US-ASCII 33 to 126, without a colon. */
export function nameProblem(name: string): string | undefined {
  if (name.length === 0) return "a field name is empty";
  if (name.length > NAME_LIMIT) return `a field name is longer than ${NAME_LIMIT} octets`;
  if (!/^[\x21-\x39\x3b-\x7e]+$/.test(name)) return `${JSON.stringify(name)} is no field name`;
  return undefined;
}

/** `Name: value` with its CRLFs; undefined where a word is too long for any line. The field was checked before. */
export function foldField(name: string, value: string): Buffer | undefined {
  const text = Buffer.from(value === "" ? `${name}:` : `${name}: ${value}`, "utf8");
  const lines: Buffer[] = [];
  let start = 0;
  // The blank behind the colon is no place to fold: a first line without a value confuses readers.
  let floor = name.length + 2;
  while (text.length - start > SOFT_LIMIT) {
    const at = foldPoint(text, start, floor);
    if (at === undefined) break;
    if (at - start > LINE_LIMIT) return undefined;
    lines.push(text.subarray(start, at), CRLF);
    start = at;
    floor = at + 1;
  }
  if (text.length - start > LINE_LIMIT) return undefined;
  lines.push(text.subarray(start), CRLF);
  return Buffer.concat(lines);
}

const CRLF = Buffer.from("\r\n");

/**
 * The white space before which to break: the last one within the soft limit, else the first behind it. What follows it
 * must hold something else than white space, and so must what precedes it (no line of blanks alone, §3.2.2).
 */
function foldPoint(text: Buffer, start: number, floor: number): number | undefined {
  let best: number | undefined;
  let end = text.length;
  while (end > floor && isBlank(text[end - 1])) end--;
  let wordSeen = false;
  for (let i = floor; i < end; i++) {
    const blank = isBlank(text[i]);
    // Within a run of blanks only the last one is a candidate: the next line then starts with one blank and a word.
    if (blank && wordSeen && !isBlank(text[i + 1])) {
      if (i - start <= SOFT_LIMIT || best === undefined) best = i;
      if (i - start >= SOFT_LIMIT) break;
    }
    if (!blank) wordSeen = true;
  }
  return best;
}

function isBlank(octet: number | undefined): boolean {
  return octet === SPACE || octet === TAB;
}
