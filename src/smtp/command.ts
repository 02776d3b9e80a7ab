/**
 * Command lines (RFC 5321 §4.1.1): a verb, upper-cased here, and its argument as it came. What warp doesn't know is an
 * unknown verb, and no error: it is passed on.
 */
import { FF, SPACE, TAB, VT } from "./octets.ts";

export type Verb =
  | "EHLO"
  | "HELO"
  | "MAIL"
  | "RCPT"
  | "DATA"
  | "BDAT"
  | "RSET"
  | "NOOP"
  | "QUIT"
  | "VRFY"
  | "EXPN"
  | "HELP"
  | "STARTTLS"
  | "AUTH"
  | "OTHER";

export interface Command {
  readonly verb: Verb;
  /** The verb's word, upper-cased, at most 32 octets: "XCLIENT" where verb is OTHER. */
  readonly word: string;
  /** The whole line without CRLF. */
  readonly line: Buffer;
  /** The same with its CRLF. */
  readonly wire: Buffer;
  /** What follows the verb, blanks in between removed. */
  readonly argument: Buffer;
}

const VERBS: ReadonlyMap<string, Verb> = new Map<string, Verb>([
  ["EHLO", "EHLO"],
  ["HELO", "HELO"],
  ["MAIL", "MAIL"],
  // RFC 821 §3.4: they begin a transaction, so they count as MAIL.
  ["SEND", "MAIL"],
  ["SOML", "MAIL"],
  ["SAML", "MAIL"],
  ["RCPT", "RCPT"],
  ["DATA", "DATA"],
  ["BDAT", "BDAT"],
  ["RSET", "RSET"],
  ["NOOP", "NOOP"],
  ["QUIT", "QUIT"],
  ["VRFY", "VRFY"],
  ["EXPN", "EXPN"],
  ["HELP", "HELP"],
  ["STARTTLS", "STARTTLS"],
  ["AUTH", "AUTH"],
  // Exchange's name for AUTH between its own servers (MS-SMTPNTLM).
  ["X-EXPS", "AUTH"],
]);

/**
 * Verbs that a client may send without waiting, in any number (RFC 2920 §3.1, with NOOP, VRFY, EXPN and HELP, whose
 * meaning no later command depends on). Behind all others the meaning of the next octets may change, so warp waits.
 */
const PIPELINED: ReadonlySet<Verb> = new Set<Verb>(["MAIL", "RCPT", "RSET", "NOOP", "VRFY", "EXPN", "HELP"]);

export function mayBePipelined(verb: Verb): boolean {
  return PIPELINED.has(verb);
}

/** `wire`: the line with its CRLF. */
export function parseCommand(wire: Buffer): Command {
  const line = wire.subarray(0, wire.length - 2);
  let start = 0;
  while (start < line.length && isBlank(line[start] as number)) start++;
  let end = start;
  while (end < line.length && !isBlank(line[end] as number) && end - start < 32) end++;
  let argument = end;
  while (argument < line.length && isBlank(line[argument] as number)) argument++;
  // Servers in JavaScript read UTF-8 and fold case as it does: `MAıL` (U+0131) is MAIL to them, `RſET` (U+017F) is RSET.
  const written = line.toString("utf8", start, end);
  let word = written.toUpperCase();
  let verb = VERBS.get(word) ?? "OTHER";
  if (verb === "OTHER" && /^(MAIL|RCPT)[<:]/i.test(written)) {
    // No blank behind the verb: upstream has to say what it thinks of it, but such a line can begin a transaction.
    word = word.slice(0, 4);
    verb = word as Verb;
    argument = start + 4;
  }
  return { verb, word, line, wire, argument: line.subarray(argument) };
}

/** Servers that go by C's `isspace` end a verb at VT and FF, too: no RCPT of theirs may be an unknown verb here. */
function isBlank(octet: number): boolean {
  return octet === SPACE || octet === TAB || octet === VT || octet === FF;
}

export interface BdatArgument {
  readonly octets: number;
  readonly last: boolean;
}

/** `BDAT 1234 LAST` (RFC 3030 §2). Undefined: no such argument, so nobody knows how many octets follow. */
export function parseBdat(argument: Buffer): BdatArgument | undefined {
  const match = /^(\d{1,15})(?:[ \t]+(LAST))?[ \t]*$/i.exec(argument.toString("latin1"));
  if (match === null) return undefined;
  return { octets: Number(match[1]), last: match[2] !== undefined };
}

const REDACTED = "[redacted]";

/** The name of a mechanism (RFC 4422 §3.1). */
const MECHANISM = /^[\w-]{1,20}(?=[ \t\v\f]|$)/;

/**
 * An AUTH command without its initial response (RFC 4954 §4): what may stand in events and logs. Where no mechanism comes
 * first, nothing of it may: it could be the response (`AUTH PLAIN:…`).
 */
export function redactAuth(command: Command): Buffer {
  const mechanism = MECHANISM.exec(command.argument.toString("latin1"))?.[0] ?? "";
  if (mechanism.length === command.argument.length) return command.line;
  return Buffer.from([command.word, mechanism, REDACTED].filter((word) => word !== "").join(" "), "latin1");
}

/** What stands for a line of an AUTH exchange. */
export const REDACTED_LINE: Buffer = Buffer.from(REDACTED);
