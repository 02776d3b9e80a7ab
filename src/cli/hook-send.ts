/**
 * `warp hook-send ADDRESS FILE`: sends a hook server one real message as the proxy would, and shows what would come of it.
 * Verdicts are judged and applied by the proxy's own code (src/filter).
 */
import { readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { replacementProblem, sectionEnd, tooLongToEdit } from "../filter/derived.ts";
import { editHeader } from "../filter/header-edit.ts";
import { type Judged, type Verdict, validateVerdict } from "../filter/verdict.ts";
import { parseAddress } from "../sdk/address.ts";
import { type HeaderSection, parseHeader } from "../sdk/header.ts";
import { escapeText } from "../telemetry/escape.ts";
import { type Asked, HookConnection, statusText } from "./hook-check/connection.ts";
import { filters } from "./hook-check/describe.ts";
import { unifiedDiff } from "./hook-check/diff.ts";
import { asDescribed } from "./hook-check/filter.ts";
import { type EnvelopeFields, session } from "./hook-check/samples.ts";
import { hookAddress, TLS_OPTIONS, tlsOf } from "./hook-check/tls-options.ts";
import { type CommandSpec, type ParsedOptions, runCommand, UsageError } from "./options.ts";

export const spec: CommandSpec = {
  name: "hook-send",
  summary: "Send a hook server one message and show its verdict",
  description: [
    "Sends the message in FILE (- for standard input) to the hook's BeforeRelay as the proxy would: cut or without its body where the hook asks for that. Prints verdict, score, tags, note and time, and a diff of the message that would leave. Lines that end in LF alone are sent with CRLF, as mail has them.",
    "Exit status: 0 a valid verdict, 1 the hook failed, 2 wrong usage.",
  ],
  operands: [
    { name: "ADDRESS", help: "unix:/path or host:port" },
    { name: "FILE", help: "The message (RFC 5322)", completes: "file" },
  ],
  options: [
    {
      name: "from",
      value: "ADDRESS",
      help: "MAIL FROM; <> for the null sender",
      default: "Return-Path or From",
    },
    { name: "to", value: "ADDRESS", repeatable: true, help: "RCPT TO", default: "To and Cc" },
    { name: "client", value: "IP", help: "The client's address", default: "192.0.2.10" },
    { name: "helo", value: "NAME", help: "Its EHLO", default: "client.example.org" },
    { name: "user", value: "NAME", help: "The user that it authenticated as" },
    { name: "allow-discard", help: "As if discard were enabled in the configuration" },
    { name: "timeout", value: "TIME", help: "How long the hook has", default: "30s" },
    { name: "output", value: "FILE", help: "Write the message that would leave", completes: "file" },
    ...TLS_OPTIONS,
    { name: "json", help: "One JSON object: ok, verdict, reply, score, tags, note, ms, failure, diff" },
  ],
  examples: [
    ["warp hook-send unix:/run/warp/spam.sock mail.eml", "What would this filter say of it?"],
    [
      "warp hook-send 127.0.0.1:7070 mail.eml --from a@example.org --to b@example.net --json",
      "For a program.",
    ],
  ],
};

export async function hookSendCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const address = parseAddress(hookAddress(options.operands[0]!));
    const timeoutMs = options.durationMs("timeout") ?? 30_000;
    const file = readMessage(options.operands[1]!);
    const envelope = envelopeOf(options, parseHeader(file.message));
    const connection = new HookConnection(address, tlsOf(options), timeoutMs);
    try {
      const answer = await ask(connection, file.message, envelope);
      const result = await resultOf(file.message, answer);
      if (result.leaving !== undefined && options.given("output"))
        writeFileSync(options.value("output")!, result.leaving);
      const { leaving: _octets, ...shown } = result;
      if (options.flag("json"))
        process.stdout.write(`${JSON.stringify({ ...shown, converted: file.converted })}\n`);
      else process.stdout.write(text(result, file.converted));
      return result.ok ? 0 : 1;
    } finally {
      connection.close();
    }
  });
}

interface Result {
  readonly ok: boolean;
  /** relay, reject, add_header, replace, discard; empty where the hook failed. */
  readonly verdict: string;
  /** What the client would hear, for a reject. */
  readonly reply: string;
  readonly score: number;
  readonly tags: readonly string[];
  readonly note: string;
  readonly ms: number;
  /** Why the hook failed. */
  readonly failure: string;
  readonly diff: string;
  /** The message that would leave; undefined where none would. */
  readonly leaving: Buffer | undefined;
}

interface Answer extends Asked {
  readonly judged: Judged | undefined;
  readonly sent: number;
}

async function ask(connection: HookConnection, message: Buffer, fields: EnvelopeFields): Promise<Answer> {
  const described = await connection.describe();
  if ("error" in described) throw new Error(`Describe: ${escapeText(statusText(described.error))}`);
  if (!filters(described.response)) {
    throw new Error(`"${escapeText(described.response.name)}" is no filter: it does not name BEFORE_RELAY`);
  }
  const { envelope, sent } = asDescribed(described.response, message, fields);
  const asked = await connection.ask(envelope, sent);
  const judged =
    "error" in asked.outcome
      ? undefined
      : validateVerdict(asked.outcome.response, {
          smtputf8: envelope.smtputf8 ?? false,
          eightBit: envelope.eightBit ?? false,
          maxOctets: undefined,
          discardAllowed: envelope.discardAllowed ?? false,
          sawWhole: envelope.truncated !== true && envelope.headerOnly !== true,
        });
  return { ...asked, judged, sent: sent.length };
}

async function resultOf(message: Buffer, answer: Answer): Promise<Result> {
  const { judged, outcome } = answer;
  const nothing = { score: 0, tags: [], note: "", verdict: "", reply: "", diff: "", leaving: undefined };
  const ms = Math.round(answer.ms * 10) / 10;
  if ("error" in outcome) return { ...nothing, ok: false, ms, failure: statusText(outcome.error) };
  if (judged?.ok !== true)
    return { ...nothing, ok: false, ms, failure: `invalid verdict: ${judged?.problem}` };
  const { verdict, remarks } = judged;
  const leaving = await applied(message, verdict);
  if (typeof leaving === "string") return { ...nothing, ok: false, ms, failure: leaving };
  return {
    ...remarks,
    ok: true,
    verdict: verdict.kind,
    reply:
      verdict.kind === "reject"
        ? `${verdict.reply.code} ${verdict.reply.enhancedCode} ${verdict.reply.text}`
        : "",
    ms,
    failure: "",
    diff:
      leaving === undefined
        ? ""
        : unifiedDiff(message, leaving, "the message as sent", "the message that would leave"),
    leaving,
  };
}

/** The message that would leave; undefined: none; a string: why the verdict cannot be applied. */
async function applied(message: Buffer, verdict: Verdict): Promise<Buffer | undefined | string> {
  switch (verdict.kind) {
    case "relay":
      return message;
    case "replace":
      return (await replacementProblem({ chunks: () => whole(message) }, verdict)) ?? verdict.message;
    case "add_header": {
      const end = sectionEnd(message) ?? message.length;
      const tooLong = tooLongToEdit(end, verdict.edits);
      if (tooLong !== undefined) return tooLong;
      return Buffer.concat([...editHeader(message.subarray(0, end), verdict.edits), message.subarray(end)]);
    }
    case "reject":
    case "discard":
      return undefined;
  }
}

async function* whole(message: Buffer): AsyncGenerator<Buffer> {
  yield message;
}

/** RFC 5322 octets of a file, or of standard input, with CRLF lines as mail has them. */
function readMessage(path: string): { readonly message: Buffer; readonly converted: number } {
  let octets: Buffer;
  try {
    octets = readFileSync(path === "-" ? 0 : path);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
  // By DATA, no message lacks its last CRLF.
  const latin1 =
    octets.length === 0 || octets.at(-1) === 0x0a
      ? octets.toString("latin1")
      : `${octets.toString("latin1")}\n`;
  const converted = latin1.match(/(?<!\r)\n|\r(?!\n)/g)?.length ?? 0;
  if (converted === 0) return { message: octets, converted };
  return { message: Buffer.from(latin1.replace(/\r\n|\r|\n/g, "\r\n"), "latin1"), converted };
}

function envelopeOf(options: ParsedOptions, header: HeaderSection): EnvelopeFields {
  const given = options.value("from");
  const from = given ?? addresses([header.get("Return-Path") ?? header.get("From") ?? ""])[0] ?? "";
  const recipients = options.given("to")
    ? options.list("to")
    : addresses([...header.all("To"), ...header.all("Cc")]);
  const client = options.value("client") ?? "192.0.2.10";
  if (isIP(client) === 0) throw new UsageError(`--client was "${client}", should be an IP`);
  return {
    session: {
      ...session(),
      client: { ip: client, port: 40_000 },
      helo: Buffer.from(options.value("helo") ?? "client.example.org"),
      authUser: options.value("user") ?? "",
    },
    mailFrom: addressOf(from),
    recipients: recipients.map(addressOf),
    smtputf8: [from, ...recipients].some((address) => /[^\x00-\x7f]/.test(address)),
    eightBit: true,
    discardAllowed: options.flag("allow-discard"),
  };
}

function addressOf(text: string): { address: string; raw: Buffer } {
  const address = text.replace(/^<|>$/g, "");
  return { address, raw: Buffer.from(`<${address}>`) };
}

/** The addresses in header fields: those in angle brackets, or bare ones. */
function addresses(values: readonly string[]): string[] {
  return values.flatMap((value) => {
    const bare = value.replace(/"(?:[^"\\]|\\.)*"/g, "").replace(/\([^()]*\)/g, "");
    return [...bare.matchAll(/<([^<>\s]*)>|([^\s<>,;:]+@[^\s<>,;:]+)/g)].map(
      (match) => match[1] ?? match[2]!,
    );
  });
}

function text(result: Result, converted: number): string {
  const lines: string[] = [];
  if (converted > 0) lines.push(`sent     with CRLF in place of ${converted} bare line ends`);
  if (!result.ok)
    lines.push(`failed   ${escapeText(result.failure)}`, "         on_failure decides over such a message");
  else lines.push(`verdict  ${result.verdict}${result.reply === "" ? "" : `: ${result.reply}`}`);
  if (result.ok) {
    lines.push(`score    ${result.score}`);
    if (result.tags.length > 0) lines.push(`tags     ${escapeText(result.tags.join(", "))}`);
    if (result.note !== "") lines.push(`note     ${escapeText(result.note)}`);
  }
  lines.push(`time     ${result.ms} ms`);
  if (result.diff !== "") lines.push("", result.diff.trimEnd());
  else if (result.leaving !== undefined) lines.push("", "The message would leave as it came.");
  return `${lines.join("\n")}\n`;
}
