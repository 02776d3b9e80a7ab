/**
 * What a start finds of the run before: a last line that was cut off by a crash, and events that were written after the
 * state beside the file (`PATH.state`) was saved last. Both are repaired with bounded reading: the state is saved at least
 * every 4 MiB, so there is about that much to read behind its offset; without a usable state the last 64 MiB are read.
 */
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { LineFields, SavedSources, SourceState } from "./source-state.ts";

/** `PATH.state`: all that was written up to `offset` of the file with this inode is in `sources` and `ids`. */
export interface FileState extends SavedSources {
  readonly version: 1;
  readonly inode: number;
  readonly offset: number;
}

const maxScanOctets = 64 * 1024 * 1024;
/** A line is at most some MiB: an event has 64 KiB of data, a transaction 1,000 recipients. */
const maxLineOctets = 16 * 1024 * 1024;
const chunkOctets = 1024 * 1024;

/** Reads `PATH.state`; undefined where there is none that can be used. */
export async function readState(path: string): Promise<FileState | undefined> {
  try {
    const handle = await open(path, "r");
    try {
      const state = JSON.parse(await handle.readFile("utf8")) as FileState;
      const usable = state.version === 1 && typeof state.sources === "object" && Array.isArray(state.ids);
      return usable && Number.isSafeInteger(state.offset) ? state : undefined;
    } finally {
      await handle.close();
    }
  } catch {
    // Missing, unreadable or cut off: the file itself is read instead.
    return undefined;
  }
}

/** Brings `sources` up to what the file at `path` (open as `file`) has. */
export async function recover(
  path: string,
  file: FileHandle,
  state: FileState | undefined,
  sources: SourceState,
): Promise<void> {
  const { ino, size } = await file.stat();
  if (state === undefined) return scan(file, size - maxScanOctets, size, sources);
  sources.load(state);
  if (state.inode === ino) {
    // Shorter than it was: a rotation copied and truncated it.
    const behind = state.offset <= size ? state.offset : 0;
    return scan(file, Math.max(behind, size - maxScanOctets), size, sources);
  }
  // Rotated while we were away: what came after the state is in the file that has this inode now, and in the new one.
  const rotated = await fileWithInode(dirname(path), basename(path), state.inode);
  if (rotated !== undefined) {
    const before = await open(rotated, "r");
    try {
      await scan(before, state.offset, (await before.stat()).size, sources);
    } finally {
      await before.close();
    }
  }
  return scan(file, size - maxScanOctets, size, sources);
}

async function fileWithInode(folder: string, prefix: string, inode: number): Promise<string | undefined> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile() && found.ino === inode) return path;
  }
  return undefined;
}

async function scan(file: FileHandle, from: number, to: number, sources: SourceState): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  for (let at = Math.max(0, from); at < to; ) {
    const chunk = await readAt(file, at, Math.min(chunkOctets, to - at));
    if (chunk.length === 0) return;
    at += chunk.length;
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, start)) {
      markLine(data.subarray(start, end), sources);
      start = end + 1;
    }
    rest = data.subarray(start);
    if (rest.length > maxLineOctets) rest = Buffer.alloc(0);
  }
}

function markLine(line: Buffer, sources: SourceState): void {
  // The original's lines have no id; its quotes are not even escaped.
  if (!line.includes('"id":"')) return;
  try {
    const fields = JSON.parse(line.toString("utf8")) as LineFields | null;
    if (typeof fields === "object" && fields !== null) sources.markLine(fields);
  } catch {
    // No line of ours.
  }
}

/**
 * Makes the file end with a whole line. One that a crash cut off was never acknowledged and comes again: it is removed.
 * Returns what was done, for the log; undefined: nothing was wrong.
 */
export async function repairEnd(file: FileHandle): Promise<string | undefined> {
  const { size } = await file.stat();
  if (size === 0) return undefined;
  const from = Math.max(0, size - maxLineOctets);
  const tail = await readAt(file, from, size - from);
  if (tail.at(-1) === 10) return undefined;
  const start = tail.lastIndexOf(10) + 1;
  const line = tail.subarray(start);
  if (!isOurs(line)) {
    await file.appendFile("\n");
    return "the last line had no end: ended it";
  }
  if (isWhole(line)) {
    await file.appendFile("\n");
    return "the last line had lost its newline: added it";
  }
  await file.truncate(from + start);
  return `the last line was cut off: removed its ${line.length} octets, the event comes again`;
}

/** Begins as our lines do, or is nothing but the NULs that a crash of the machine leaves. */
function isOurs(line: Buffer): boolean {
  const head = '{"type":"';
  return line.every((octet) => octet === 0) || head.startsWith(line.toString("latin1", 0, head.length));
}
function isWhole(line: Buffer): boolean {
  try {
    JSON.parse(line.toString("utf8"));
    return true;
  } catch {
    return false;
  }
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(buffer, read, length - read, at + read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return buffer.subarray(0, read);
}
