/**
 * Events on disk until every observer has acknowledged them: what lets a hook be away for an hour, and a proxy be killed,
 * without losing one.
 *
 *   DIR/EPOCH/source.json   whose events these are (proxy, worker, epoch)
 *   DIR/EPOCH/lock          held while a process lives that writes or sends them
 *   DIR/EPOCH/cursors.json  the last acknowledged sequence of each observer
 *   DIR/EPOCH/NUMBER.seg    the records, by first sequence (`journal-record.ts`)
 *
 * Each start of a worker begins a new epoch; epochs whose lock is free are taken over and sent first. An event is written
 * before any observer gets it. What is lost when the process is killed (SIGKILL): the events of the last few ms that were
 * not written yet (EventLog's `gatherMs`, 5 ms, and the write under way). When the machine itself fails: in addition what
 * was written within `fsyncMs`.
 */
import { randomBytes } from "node:crypto";
import {
  close,
  closeSync,
  existsSync,
  fdatasync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writev,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Telemetry } from "../events/telemetry.ts";
import type { Block } from "../hooks/block.ts";
import type { SourceFacts } from "../hooks/event-encoding.ts";
import type { LogStore } from "../hooks/event-log.ts";
import { lockDirectory } from "./directory-lock.ts";
import { JournalReader, type Segment } from "./journal-reader.ts";
import { lastDamaged, recordHeader, wholeRecords } from "./journal-record.ts";
import { makeDirectory } from "./make-directory.ts";

export interface JournalOptions {
  readonly directory: string;
  readonly source: SourceFacts;
  /** Of this journal and of what was left by others; beyond it the oldest events are dropped. */
  readonly maxOctets: number;
  /** Longest time that a written event is not synced; 0: each write is synced. */
  readonly fsyncMs: number;
  /** Names of the hooks that may be observers. */
  readonly observers: readonly string[];
  readonly telemetry: Pick<Telemetry, "log" | "journalOctets">;
}

/** Makes a new epoch and takes over those that nobody holds. Throws where the directory cannot be used. */
export function openJournal(options: JournalOptions): { own: Journal; left: readonly LeftJournal[] } {
  makeDirectory(options.directory);
  const own = Journal.create(options);
  const left = adopt(options);
  return { own, left };
}

const SEGMENT_OCTETS = 16 * 1024 * 1024;
const CURSORS_MS = 200;
const REPEAT_LOG_MS = 60_000;
const syncFile = promisify(fdatasync);

/** Cursors of the observers of one epoch, kept on disk. */
class Cursors {
  readonly acked: Map<string, number>;
  private readonly path: string;
  private timer: NodeJS.Timeout | undefined;

  constructor(directory: string, acked: Map<string, number>) {
    this.path = join(directory, "cursors.json");
    this.acked = acked;
  }

  static read(directory: string, observers: readonly string[]): Cursors {
    try {
      const found = JSON.parse(readFileSync(join(directory, "cursors.json"), "utf8")) as Record<
        string,
        number
      >;
      return new Cursors(directory, new Map(Object.entries(found)));
    } catch {
      // Written at the begin and replaced as a whole; without it, everything is sent to everybody again.
      return new Cursors(directory, new Map(observers.map((name) => [name, 0])));
    }
  }

  set(observer: string, sequence: number): void {
    this.acked.set(observer, sequence);
    this.timer ??= setTimeout(() => this.save(), CURSORS_MS);
  }

  remove(observer: string): void {
    if (this.acked.delete(observer)) this.timer ??= setTimeout(() => this.save(), CURSORS_MS);
  }

  /** An acknowledgement that is not saved costs sending again, so errors here wait for the next one. */
  save(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      const temporary = `${this.path}.new`;
      writeFileSync(temporary, JSON.stringify(Object.fromEntries(this.acked)), { mode: 0o600 });
      renameSync(temporary, this.path);
    } catch {
      // The disk is full, or the directory gone: writing events says so.
    }
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}

/** What observers read, of this process or of one before it. */
export interface JournalSource {
  readonly source: SourceFacts;
  /** The oldest sequence on disk. */
  readonly first: number;
  readonly last: number;
  /** Undefined: this observer has no part in it. */
  ackedSequence(observer: string): number | undefined;
  acknowledged(observer: string, sequence: number): void;
  reader(): JournalReader;
}

export class Journal implements LogStore, JournalSource {
  readonly source: SourceFacts;
  /** Octets of the journals that were left. */
  alsoOnDisk: () => number = () => 0;
  /** Gives some of those up that no observer of now waits for; false: there are none. */
  makeRoom: () => boolean = () => false;
  private readonly options: JournalOptions;
  private readonly directory: string;
  private readonly cursors: Cursors;
  private readonly unlock: () => void;
  private segments: Segment[] = [];
  private fd: number | undefined;
  private dirty = false;
  private syncTimer: NodeJS.Timeout | undefined;
  private octets = 0;
  private lastSequence = 0;
  private loggedAt = Number.NEGATIVE_INFINITY;
  private failing = false;

  private constructor(options: JournalOptions, directory: string, cursors: Cursors, unlock: () => void) {
    this.options = options;
    this.source = options.source;
    this.directory = directory;
    this.cursors = cursors;
    this.unlock = unlock;
  }

  static create(options: JournalOptions): Journal {
    // Under another name until it is locked, so that nobody takes it over in between.
    const temporary = join(options.directory, `.new-${randomBytes(8).toString("hex")}`);
    mkdirSync(temporary, { mode: 0o700 });
    const unlock = lockDirectory(temporary);
    if (unlock === undefined) throw new Error(`cannot lock ${temporary}`);
    writeFileSync(join(temporary, "source.json"), JSON.stringify(options.source), { mode: 0o600 });
    const directory = join(options.directory, options.source.epoch);
    renameSync(temporary, directory);
    const cursors = new Cursors(directory, new Map(options.observers.map((name) => [name, 0])));
    cursors.save();
    return new Journal(options, directory, cursors, unlock);
  }

  get first(): number {
    return this.segments[0]?.firstSequence ?? this.lastSequence + 1;
  }

  get last(): number {
    return this.lastSequence;
  }

  ackedSequence(observer: string): number | undefined {
    return this.cursors.acked.get(observer);
  }

  acknowledged(observer: string, sequence: number): void {
    this.cursors.set(observer, sequence);
    const needed = Math.min(...this.cursors.acked.values());
    while (this.segments.length > 1 && (this.segments[0] as Segment).lastSequence <= needed)
      this.dropOldest();
  }

  /** This hook turned out to be no observer: nothing is kept for it. */
  forget(observer: string): void {
    this.cursors.remove(observer);
  }

  reader(): JournalReader {
    return new JournalReader(
      () => this.segments,
      (path, offset) => this.damaged(path, offset),
    );
  }

  /** Never rejects: what cannot be written is reported, and stays in memory only. */
  async write(blocks: readonly Block[]): Promise<void> {
    const first = blocks[0];
    const last = blocks.at(-1);
    if (first === undefined || last === undefined) return;
    const pieces = blocks.flatMap((block) => [recordHeader(block), block.octets]);
    const octets = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const segment = this.segmentFor(first.firstSequence, octets);
    if (segment === undefined) return;
    try {
      await this.writeAll(this.fd as number, pieces, segment.octets);
    } catch (cause) {
      this.undo(segment);
      this.trouble("journal_write_failed", "events could not be written to the journal", cause);
      return;
    }
    segment.octets += octets;
    segment.lastSequence = last.firstSequence + last.count - 1;
    this.lastSequence = segment.lastSequence;
    this.octets += octets;
    this.recovered();
    this.keepSize();
    this.options.telemetry.journalOctets(this.octets + this.alsoOnDisk());
    await this.written();
  }

  /** Syncs and gives the lock back; an epoch that everybody has acknowledged is removed. */
  async close(): Promise<void> {
    clearTimeout(this.syncTimer);
    this.cursors.stop();
    if (this.fd !== undefined) {
      await this.sync();
      closeSync(this.fd);
      this.fd = undefined;
    }
    const needed = Math.min(...this.cursors.acked.values());
    if (this.lastSequence <= needed) rmSync(this.directory, { recursive: true, force: true });
    else this.cursors.save();
    this.unlock();
  }

  private segmentFor(firstSequence: number, octets: number): Segment | undefined {
    const current = this.segments.at(-1);
    const limit = Math.min(SEGMENT_OCTETS, Math.max(64 * 1024, this.options.maxOctets / 8));
    if (current !== undefined && this.fd !== undefined && current.octets + octets <= limit) return current;
    try {
      const path = segmentPath(this.directory, firstSequence);
      const fd = openSync(path, "wx", 0o600);
      if (this.fd !== undefined) finish(this.fd);
      this.fd = fd;
      const segment = { path, firstSequence, lastSequence: firstSequence - 1, octets: 0 };
      this.segments.push(segment);
      return segment;
    } catch (cause) {
      this.trouble("journal_write_failed", "a segment of the journal could not be made", cause);
      return undefined;
    }
  }

  private async writeAll(fd: number, pieces: readonly Buffer[], position: number): Promise<void> {
    let left: readonly Buffer[] = pieces;
    let at = position;
    while (left.length > 0) {
      const count = await new Promise<number>((resolve, reject) =>
        // 1,024 buffers are the most that the kernel takes at once.
        writev(fd, left.slice(0, 1024), at, (error, octets) =>
          error === null ? resolve(octets) : reject(error),
        ),
      );
      at += count;
      left = behind(left, count);
    }
  }

  /** A half-written record would end the segment for a reader: it is cut off. */
  private undo(segment: Segment): void {
    try {
      ftruncateSync(this.fd as number, segment.octets);
      if (segment.octets > 0) return;
      this.segments.pop();
      unlinkSync(segment.path);
    } catch {
      // Not to be helped: the checksum tells readers where the segment ends.
    }
    // What follows goes into a segment of its own.
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  private keepSize(): void {
    while (this.octets + this.alsoOnDisk() > this.options.maxOctets) {
      if (this.makeRoom()) continue;
      if (this.segments.length <= 1) return;
      this.dropOldest();
    }
  }

  private dropOldest(): void {
    const segment = this.segments.shift() as Segment;
    this.octets -= segment.octets;
    rmSync(segment.path, { force: true });
  }

  private async written(): Promise<void> {
    this.dirty = true;
    if (this.options.fsyncMs === 0) return this.sync();
    this.syncTimer ??= setTimeout(() => {
      this.syncTimer = undefined;
      void this.sync();
    }, this.options.fsyncMs);
  }

  private async sync(): Promise<void> {
    if (!this.dirty || this.fd === undefined) return;
    this.dirty = false;
    try {
      await syncFile(this.fd);
    } catch (cause) {
      // EBADF: the segment was changed meanwhile; the kernel writes the old one back by itself.
      if ((cause as NodeJS.ErrnoException).code !== "EBADF") {
        this.trouble("journal_sync_failed", "the journal could not be synced to disk", cause);
      }
    }
  }

  private trouble(code: string, text: string, cause: unknown): void {
    const now = performance.now();
    this.failing = true;
    if (now - this.loggedAt < REPEAT_LOG_MS) return;
    this.loggedAt = now;
    this.options.telemetry.log(
      "error",
      code,
      `${text}; they are kept in memory only`,
      { dir: this.directory },
      cause,
    );
  }

  private recovered(): void {
    if (!this.failing) return;
    this.failing = false;
    this.loggedAt = Number.NEGATIVE_INFINITY;
    this.options.telemetry.log("info", "journal_recovered", "the journal is written again", {
      dir: this.directory,
    });
  }

  private damaged(path: string, offset: number): void {
    this.options.telemetry.log("error", "journal_damaged", "a record of the journal is damaged", {
      path,
      offset,
    });
  }
}

/**
 * An epoch of a process that is gone. Only read, and removed once everybody has acknowledged it. A hook that is no observer
 * now (taken out, or under another name) may be one again: what it has not acknowledged is kept until there is no room.
 */
export class LeftJournal implements JournalSource {
  readonly source: SourceFacts;
  readonly last: number;
  private readonly directory: string;
  private readonly segments: Segment[];
  private readonly cursors: Cursors;
  private readonly unlock: () => void;
  private readonly options: Pick<JournalOptions, "observers" | "telemetry">;
  private gone = false;

  constructor(
    directory: string,
    source: SourceFacts,
    segments: Segment[],
    cursors: Cursors,
    unlock: () => void,
    options: Pick<JournalOptions, "observers" | "telemetry">,
  ) {
    this.directory = directory;
    this.source = source;
    this.segments = segments;
    this.cursors = cursors;
    this.unlock = unlock;
    this.options = options;
    this.last = segments.at(-1)?.lastSequence ?? 0;
    this.removeIfHeard();
  }

  get first(): number {
    return this.segments[0]?.firstSequence ?? this.last + 1;
  }

  /** Everybody has acknowledged it, or it was given back. */
  get isGone(): boolean {
    return this.gone;
  }

  get octets(): number {
    return this.gone ? 0 : this.segments.reduce((sum, segment) => sum + segment.octets, 0);
  }

  ackedSequence(observer: string): number | undefined {
    return this.gone ? undefined : this.cursors.acked.get(observer);
  }

  acknowledged(observer: string, sequence: number): void {
    if (this.gone) return;
    this.cursors.set(observer, sequence);
    const needed = this.needed();
    while (this.segments.length > 1 && (this.segments[0] as Segment).lastSequence <= needed) {
      rmSync((this.segments.shift() as Segment).path, { force: true });
    }
    this.removeIfHeard();
  }

  /** What hooks have not acknowledged that are no observers now: events by name. */
  keptForAbsent(): Map<string, number> {
    const kept = new Map<string, number>();
    for (const [name, acked] of this.cursors.acked) {
      const from = Math.max(acked + 1, this.first);
      if (from <= this.last && !this.options.observers.includes(name)) kept.set(name, this.last - from + 1);
    }
    return kept;
  }

  /** Drops the oldest segment where no observer of now waits for this epoch; false: it has to stay, or there is none. */
  giveUpOldest(): boolean {
    const { observers, telemetry } = this.options;
    const isAwaited = observers.some((name) => (this.ackedSequence(name) ?? this.last) < this.last);
    const segment = this.segments[0];
    if (isAwaited || segment === undefined || this.octets === 0) return false;
    for (const name of this.keptForAbsent().keys()) {
      const count = segment.lastSequence - Math.max(segment.firstSequence - 1, this.ackedSequence(name) ?? 0);
      const text = `${count} events for ${name}, which is no observer now, were dropped: the journal is full`;
      if (count > 0) telemetry.log("warn", "events_dropped", text, { hook: name, count });
    }
    this.segments.shift();
    rmSync(segment.path, { force: true });
    if (this.segments.length === 0) this.segments.push(emptySegment(this.directory, this.last + 1));
    return true;
  }

  /** This hook turned out to be no observer: nothing is kept for it. */
  forget(observer: string): void {
    this.cursors.remove(observer);
    this.removeIfHeard();
  }

  reader(): JournalReader {
    return new JournalReader(
      () => this.segments,
      (path, offset) =>
        this.options.telemetry.log("error", "journal_damaged", "a record of the journal is damaged", {
          path,
          offset,
        }),
    );
  }

  /** Gives it back, for the next process to take over. */
  close(): void {
    if (this.gone) return;
    this.gone = true;
    this.cursors.save();
    this.unlock();
  }

  private needed(): number {
    return Math.min(...this.cursors.acked.values());
  }

  private removeIfHeard(): void {
    if (this.gone || this.needed() < this.last) return;
    this.gone = true;
    this.cursors.stop();
    rmSync(this.directory, { recursive: true, force: true });
    this.unlock();
  }
}

/** Takes over the epochs that nobody holds now: of processes that ended without having been heard to the end. */
export function adopt(options: JournalOptions): LeftJournal[] {
  const left: LeftJournal[] = [];
  // ULIDs: in the order in which they began.
  for (const name of readdirSync(options.directory).sort()) {
    const directory = join(options.directory, name);
    if (name === options.source.epoch || !existsSync(join(directory, "source.json"))) continue;
    const unlock = lockDirectory(directory);
    if (unlock === undefined) continue;
    try {
      const source = JSON.parse(readFileSync(join(directory, "source.json"), "utf8")) as SourceFacts;
      const journal = new LeftJournal(
        directory,
        source,
        findSegments(directory, options),
        Cursors.read(directory, options.observers),
        unlock,
        options,
      );
      if (!journal.isGone) left.push(journal);
    } catch (cause) {
      unlock();
      options.telemetry.log(
        "error",
        "journal_not_taken_over",
        "a journal cannot be read",
        { dir: directory },
        cause,
      );
    }
  }
  sayKept(left, options.telemetry);
  return left;
}

function sayKept(left: readonly LeftJournal[], telemetry: JournalOptions["telemetry"]): void {
  const kept = new Map<string, number>();
  for (const journal of left)
    for (const [name, count] of journal.keptForAbsent()) kept.set(name, (kept.get(name) ?? 0) + count);
  for (const [name, count] of kept) {
    const text = `the journal has ${count} events for ${name}, which is no observer now: they are kept until it is one again, or the journal is full`;
    telemetry.log("warn", "journal_kept", text, { hook: name, count });
  }
}

/** The segments of a directory; what a crash left unfinished at the end of the last one is cut off. */
function findSegments(directory: string, options: JournalOptions): Segment[] {
  const names = readdirSync(directory)
    .filter((name) => /^\d{16}\.seg$/.test(name))
    .sort();
  const segments: Segment[] = [];
  for (const [index, name] of names.entries()) {
    const path = join(directory, name);
    const firstSequence = Number.parseInt(name, 10);
    const following = names[index + 1];
    if (following !== undefined) {
      const lastSequence = Number.parseInt(following, 10) - 1;
      segments.push({ path, firstSequence, lastSequence, octets: statSync(path).size });
      continue;
    }
    segments.push(lastSegment(path, firstSequence, options));
  }
  return segments;
}

function lastSegment(path: string, firstSequence: number, options: JournalOptions): Segment {
  const octets = readFileSync(path);
  const { blocks, end } = wholeRecords(octets);
  const last = blocks.at(-1);
  const lastSequence = last === undefined ? firstSequence - 1 : last.firstSequence + last.count - 1;
  // One that is whole but damaged stays: its readers report it, and announce its events as missing.
  const lastMissing = lastDamaged(octets, end, lastSequence + 1);
  if (lastMissing !== undefined)
    return { path, firstSequence, lastSequence: lastMissing, octets: octets.length };
  if (end < octets.length) {
    options.telemetry.log("warn", "journal_cut", "an unfinished record was cut off", {
      path,
      octets: octets.length - end,
    });
    truncateSync(path, end);
  }
  return { path, firstSequence, lastSequence, octets: end };
}

/** Says which sequence would come next, where everything before it is gone: a hook that returns finds a gap. */
function emptySegment(directory: string, firstSequence: number): Segment {
  const path = segmentPath(directory, firstSequence);
  try {
    writeFileSync(path, "", { mode: 0o600 });
  } catch {
    // No room for a name even: what was dropped is in the log, and this process knows of the gap.
  }
  return { path, firstSequence, lastSequence: firstSequence - 1, octets: 0 };
}

function segmentPath(directory: string, firstSequence: number): string {
  return join(directory, `${String(firstSequence).padStart(16, "0")}.seg`);
}

/** Syncs and closes a segment that is full. Errors show at the next write to this disk. */
function finish(fd: number): void {
  fdatasync(fd, () => close(fd, () => {}));
}

function behind(pieces: readonly Buffer[], count: number): Buffer[] {
  let skip = count;
  const rest: Buffer[] = [];
  for (const piece of pieces) {
    if (skip >= piece.length) skip -= piece.length;
    else {
      rest.push(piece.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
