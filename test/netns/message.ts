/**
 * Messages that carry the sum of their own body: whoever receives one can tell whether it arrived byte for byte, whatever
 * fields were added to its header on the way.
 */

import { createHash } from "node:crypto";

export interface SentMessage {
  readonly id: string;
  /** CRLF lines, not dot-stuffed. */
  readonly octets: Buffer;
}

export interface ReceivedMessage {
  readonly id: string;
  /** What the sender said of the body: octets and SHA-256. */
  readonly claimed: string;
  /** The same, of what arrived. */
  readonly found: string;
  /** The header section, with LF lines. */
  readonly header: string;
}

/** A message whose body has so many octets: lines with dots in all the places where dots matter. */
export function makeMessage(id: string, bodyOctets: number, from = "alice@sender.example"): SentMessage {
  const body = makeBody(id, bodyOctets);
  const header = [
    `From: <${from}>`,
    "To: <bob@destination.example>",
    `Subject: message ${id}`,
    `Message-ID: <${id}@sender.example>`,
    "Date: Tue, 1 Sep 2026 10:00:00 +0000",
    `X-Test-Id: ${id}`,
    `X-Test-Body: ${sum(body)}`,
    "",
    "",
  ].join("\r\n");
  return { id, octets: Buffer.concat([Buffer.from(header), body]) };
}

/** `lines` says how the receiver keeps lines: as on the wire, or (a maildir) with LF alone. */
export function readMessage(octets: Buffer, lines: "crlf" | "lf"): ReceivedMessage {
  const wire =
    lines === "crlf" ? octets : Buffer.from(octets.toString("latin1").replace(/\r?\n/g, "\r\n"), "latin1");
  const end = wire.indexOf("\r\n\r\n");
  const header = wire
    .subarray(0, end < 0 ? wire.length : end)
    .toString("latin1")
    .replaceAll("\r\n", "\n");
  const body = end < 0 ? Buffer.alloc(0) : wire.subarray(end + 4);
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, "mi").exec(header)?.[1] ?? "";
  return { id: field("X-Test-Id"), claimed: field("X-Test-Body"), found: sum(body), header };
}

function sum(body: Buffer): string {
  return `${body.length} ${createHash("sha256").update(body).digest("hex")}`;
}

function makeBody(id: string, octets: number): Buffer {
  if (octets === 0) return Buffer.alloc(0);
  const samples = [".", "..", ". dot and blank", `.${id}`, "a line", "", "ends in a dot.", "x".repeat(70)];
  const parts: string[] = [];
  let length = 0;
  for (let number = 0; length < octets; number++) {
    const line = `${samples[number % samples.length]}${number % 3 === 0 ? ` ${id} ${number}` : ""}\r\n`;
    parts.push(line);
    length += line.length;
  }
  const text = parts.join("").slice(0, octets);
  // The last line is whole too: a message ends in CRLF.
  return Buffer.from(octets < 2 ? "\r\n" : `${text.slice(0, octets - 2).replace(/\r$/, "x")}\r\n`);
}
