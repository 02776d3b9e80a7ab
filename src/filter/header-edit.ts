/**
 * Edits of a message's header section: octets in, octets out. What is not touched stays byte for byte, malformed lines
 * included.
 *
 * Where the section ends (RFC 5322 §2.1): at the first empty line, else at the end of the message. A message whose first
 * line is no field has no header section: what is added becomes one, with an empty line behind it. A leading mbox line
 * ("From …") stays the first. Fields are added before the first malformed line, since a strict reader takes that line for
 * the begin of the body; `set` and `remove` also reach fields behind it, since a lenient reader doesn't.
 */
import { isNameOctet } from "../smtp/header-section.ts";
import { type FieldRules, fieldProblem, foldField, nameProblem } from "./fold.ts";

/** Applied in order; names and values as the hook gave them. `occurrence`: 1 = topmost, 0 = all. */
export type HeaderEdit =
  | { readonly kind: "add" | "insert"; readonly name: string; readonly value: string }
  | { readonly kind: "set"; readonly name: string; readonly value: string; readonly occurrence: number }
  | { readonly kind: "remove"; readonly name: string; readonly occurrence: number };

/** Undefined: the edit may be applied. Else what is wrong with it. */
export function editProblem(edit: HeaderEdit, rules: FieldRules): string | undefined {
  return edit.kind === "remove" ? nameProblem(edit.name) : fieldProblem(edit.name, edit.value, rules);
}

/**
 * The new header section, in pieces, since a client that names one field often can make it very long. `section` is all
 * octets before the empty line that ends it (its last CRLF included, the empty line not), as `HeaderScanner` gives it.
 * The edits were checked.
 */
export function editHeader(section: Buffer, edits: readonly HeaderEdit[]): Buffer[] {
  const header = parse(section);
  for (const edit of edits) apply(header, edit);
  return piecesOf(header);
}

interface Item {
  /** Lower case; empty for what is no field. */
  name: string;
  octets: Buffer;
}
interface Header {
  /** mbox line, if there is one. */
  readonly preamble: Buffer;
  items: Item[];
  /** First line is no field: everything there is body. */
  readonly headless: boolean;
}

const CRLF = Buffer.from("\r\n");
const EMPTY = Buffer.alloc(0);

function parse(section: Buffer): Header {
  let at = 0;
  let preamble: Buffer = EMPTY;
  if (/^>?From /.test(section.toString("latin1", 0, 6))) {
    const end = lineEnd(section, 0);
    // A line that does not end here cannot have a field behind it.
    if (endsLine(section.subarray(0, end))) at = end;
    preamble = section.subarray(0, at);
  }
  const first = at < section.length ? fieldName(section, at) : undefined;
  if (at < section.length && first === undefined) {
    return { preamble, items: [{ name: "", octets: section.subarray(at) }], headless: true };
  }
  const items: Item[] = [];
  while (at < section.length) {
    const start = at;
    const name = fieldName(section, at) ?? "";
    at = lineEnd(section, at);
    while (at < section.length && (section[at] === 0x20 || section[at] === 0x09)) at = lineEnd(section, at);
    items.push({ name, octets: section.subarray(start, at) });
  }
  return { preamble, items, headless: false };
}

/** Index behind the CRLF of the line that starts at `at`, or the end. */
function lineEnd(section: Buffer, at: number): number {
  const found = section.indexOf(CRLF, at);
  return found < 0 ? section.length : found + 2;
}

/** The name, in lower case, where the line is a field (obsolete syntax allows blanks before the colon, §4.5.8). */
function fieldName(section: Buffer, at: number): string | undefined {
  let i = at;
  while (i < section.length && isNameOctet(section[i] as number)) i++;
  const end = i;
  while (section[i] === 0x20 || section[i] === 0x09) i++;
  return end > at && section[i] === 0x3a ? section.toString("latin1", at, end).toLowerCase() : undefined;
}

function apply(header: Header, edit: HeaderEdit): void {
  const { items } = header;
  switch (edit.kind) {
    case "insert":
      items.unshift(made(edit.name, edit.value));
      return;
    case "add":
      items.splice(addIndex(header), 0, made(edit.name, edit.value));
      return;
    case "remove": {
      const found = new Set(occurrences(header, edit.name, edit.occurrence));
      if (found.size > 0) header.items = items.filter((item) => !found.has(item));
      return;
    }
    case "set": {
      const field = made(edit.name, edit.value);
      const found = occurrences(header, edit.name, edit.occurrence);
      if (found.length === 0) items.splice(addIndex(header), 0, field);
      for (const item of found) item.octets = field.octets;
    }
  }
}

/** Behind the last field before a malformed line. */
function addIndex(header: Header): number {
  const malformed = header.items.findIndex((item) => item.name === "");
  return malformed < 0 ? header.items.length : malformed;
}

function occurrences(header: Header, name: string, occurrence: number): Item[] {
  const wanted = name.toLowerCase();
  const found = header.items.filter((item) => item.name === wanted);
  return occurrence === 0 ? found : found.slice(occurrence - 1, occurrence);
}

function made(name: string, value: string): Item {
  const octets = foldField(name, value);
  if (octets === undefined) throw new Error(`field ${name} was not checked`);
  return { name: name.toLowerCase(), octets };
}

function piecesOf(header: Header): Buffer[] {
  const pieces: Buffer[] = [];
  let previous = header.preamble;
  if (previous.length > 0) pieces.push(previous);
  for (const item of header.items) {
    // The last line of a message need not have its CRLF.
    if (previous.length > 0 && !endsLine(previous)) pieces.push(CRLF);
    // What was a body without a header section begins behind an empty line, now that there is one.
    if (header.headless && item.name === "" && header.items.length > 1) pieces.push(CRLF);
    pieces.push(item.octets);
    previous = item.octets;
  }
  return pieces;
}

function endsLine(octets: Buffer): boolean {
  return octets.length >= 2 && octets[octets.length - 1] === 0x0a && octets[octets.length - 2] === 0x0d;
}
