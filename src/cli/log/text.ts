/** What `warp log` prints: lines for a person, in which no data can drive the terminal, or JSON. */
import { printable } from "../../hookservers/text.ts";
import type { Dialogue, DialogueLine, LogEntry } from "./database.ts";

/** `2026-03-01 12:34:56 01J… from → to 550 5.7.1 blocked-ip … "reply"`. */
export function entryText(entry: LogEntry): string {
  const answer = [
    entry.code ?? entry.outcome ?? "-",
    entry.enhanced_code,
    entry.class,
    entry.hook === null ? null : `by ${entry.hook}`,
    entry.source_ip === null ? null : `from ${entry.source_ip}`,
    entry.tls_version ?? null,
    entry.elapse === null ? null : `${entry.elapse} ms`,
    entry.message_id,
    entry.reply === null ? null : `"${entry.reply}"`,
  ].filter((part) => part !== null);
  const time = entry.occurred_at.replace("T", " ").slice(0, 23);
  const line = `${time} ${entry.connection_id} ${entry.mail_from ?? "unknown"} → ${entry.rcpt_to ?? "-"} ${answer.join(" ")}`;
  return `${printable(line)}\n`;
}

/** The connection's facts, then each line with its direction and the ms since the first. */
export function dialogueText({ connection, lines, entries }: Dialogue): string {
  const facts = Object.entries(connection)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${printable(String(value))}\n`);
  const began = lines[0] === undefined ? 0 : moment(lines[0].occurred_at);
  const dialogue = lines.map((line) => lineText(line, moment(line.occurred_at) - began));
  const answers = entries.map(entryText);
  return [...facts, "\n", ...dialogue, ...(answers.length > 0 ? ["\n", ...answers] : [])].join("");
}

export function json(value: LogEntry | Dialogue): string {
  const plain = (_key: string, member: unknown) =>
    member instanceof Uint8Array ? Buffer.from(member).toString("base64") : member;
  return `${JSON.stringify(value, plain)}\n`;
}

/** A reply of several lines takes several, indented below its direction. */
function lineText(line: DialogueLine, ms: number): string {
  const marks = [
    line.tls === 1 ? "tls" : "",
    line.redacted === 1 ? "redacted" : "",
    line.truncated === 1 ? "cut" : "",
  ];
  const notes = marks.filter((mark) => mark !== "").join(",");
  const head = printable(`${ms.toFixed(1).padStart(10)} ${line.direction} `);
  const shown = line.data.split("\\r\\n").map(printable);
  return `${shown.map((text, index) => (index === 0 ? head : " ".repeat(head.length)) + text).join("\n")}${notes === "" ? "" : `  [${notes}]`}\n`;
}

/** ms since 1970; the original's times have no zone and up to six digits. */
function moment(time: string): number {
  const [, seconds = time, fraction = "0"] = /^(.*?)(?:\.(\d+))?Z?$/.exec(time) ?? [];
  return Date.parse(`${seconds.replace(" ", "T")}Z`) + Number(`0.${fraction}`) * 1000;
}
