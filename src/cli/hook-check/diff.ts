/**
 * Unified diff of two messages, line by line (Myers, "An O(ND) Difference Algorithm", 1986). Lines are compared as octets;
 * what a terminal must not get is shown escaped. Beyond `MAX_CHANGES` changed lines the rest is shown as one block.
 */

const CONTEXT = 3;
const MAX_CHANGES = 1000;

interface Change {
  readonly kind: " " | "-" | "+";
  readonly line: string;
}

/** Empty where there is no difference. `before` and `after` name the two. */
export function unifiedDiff(a: Buffer, b: Buffer, before: string, after: string): string {
  if (a.equals(b)) return "";
  const changes = compare(linesOf(a), linesOf(b));
  return `--- ${before}\n+++ ${after}\n${hunks(changes).join("")}`;
}

/** Lines as latin1, so that each octet is one character, with their line end unless that is CRLF. */
function linesOf(octets: Buffer): string[] {
  const lines = octets.toString("latin1").split("\r\n");
  const last = lines.pop()!;
  if (last !== "") lines.push(`${last}${NO_END}`);
  return lines;
}
const NO_END = "\u{10FFFF}"; // not in latin1: a last line without CRLF differs from one with it

function compare(a: readonly string[], b: readonly string[]): Change[] {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  const same = (lines: readonly string[]): Change[] => lines.map((line) => ({ kind: " ", line }));
  return [
    ...same(a.slice(0, head)),
    ...middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail)),
    ...same(a.slice(a.length - tail)),
  ];
}

function middle(a: readonly string[], b: readonly string[]): Change[] {
  const trace: Int32Array[] = [];
  const limit = Math.min(a.length + b.length, MAX_CHANGES);
  const offset = limit + 1;
  const furthest = new Int32Array(2 * limit + 3);
  for (let d = 0; d <= limit; d++) {
    trace.push(furthest.slice());
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest[offset + k - 1]! < furthest[offset + k + 1]!);
      let x = down ? furthest[offset + k + 1]! : furthest[offset + k - 1]! + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      furthest[offset + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace, offset);
    }
  }
  return [
    ...a.map((line): Change => ({ kind: "-", line })),
    ...b.map((line): Change => ({ kind: "+", line })),
  ];
}

function walkBack(
  a: readonly string[],
  b: readonly string[],
  trace: readonly Int32Array[],
  offset: number,
): Change[] {
  const changes: Change[] = [];
  let x = a.length;
  let y = b.length;
  for (let d = trace.length - 1; x > 0 || y > 0; d--) {
    const furthest = trace[d]!;
    const k = x - y;
    const down = k === -d || (k !== d && furthest[offset + k - 1]! < furthest[offset + k + 1]!);
    const fromX = d === 0 ? 0 : down ? furthest[offset + k + 1]! : furthest[offset + k - 1]!;
    const fromY = d === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
    while (x > fromX && y > fromY && (d === 0 || x - fromX > (down ? 0 : 1) || y - fromY > (down ? 1 : 0))) {
      changes.push({ kind: " ", line: a[--x]! });
      y--;
    }
    if (d === 0) break;
    if (down) changes.push({ kind: "+", line: b[--y]! });
    else changes.push({ kind: "-", line: a[--x]! });
  }
  return changes.reverse();
}

function hunks(changes: readonly Change[]): string[] {
  const out: string[] = [];
  let at = 0;
  let lineA = 1;
  let lineB = 1;
  const pass = (until: number): void => {
    for (; at < until; at++) {
      if (changes[at]!.kind !== "+") lineA++;
      if (changes[at]!.kind !== "-") lineB++;
    }
  };
  for (;;) {
    const first = changes.findIndex(({ kind }, index) => index >= at && kind !== " ");
    if (first === -1) return out;
    pass(Math.max(at, first - CONTEXT));
    const end = hunkEnd(changes, first);
    const lines = changes.slice(at, end);
    const countA = lines.filter(({ kind }) => kind !== "+").length;
    const countB = lines.filter(({ kind }) => kind !== "-").length;
    out.push(`@@ -${range(lineA, countA)} +${range(lineB, countB)} @@\n`, ...lines.map(printed));
    pass(end);
  }
}

/** Behind the context of the last change that is near enough to the one before. */
function hunkEnd(changes: readonly Change[], first: number): number {
  let last = first;
  for (let index = first; index < changes.length && index - last <= 2 * CONTEXT; index++) {
    if (changes[index]!.kind !== " ") last = index;
  }
  return Math.min(changes.length, last + CONTEXT + 1);
}

function range(line: number, count: number): string {
  return count === 1 ? String(line) : `${count === 0 ? line - 1 : line},${count}`;
}

function printed({ kind, line }: Change): string {
  if (line.endsWith(NO_END))
    return `${kind}${visible(line.slice(0, -NO_END.length))}\n\\ No CRLF at the end\n`;
  return `${kind}${visible(line)}\n`;
}

/** UTF-8 where it is, every other octet that is no printable text as \xNN. */
function visible(line: string): string {
  const octets = Buffer.from(line, "latin1");
  const text = octets.toString("utf8");
  const whole = Buffer.from(text, "utf8").equals(octets) ? text : line;
  return whole
    .replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, escapeOctet)
    .replace(/[\u00a0-\u00ff]/g, (character) => (whole === text ? character : escapeOctet(character)));
}

function escapeOctet(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
