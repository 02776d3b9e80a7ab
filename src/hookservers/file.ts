/**
 * The file sink: one JSON object per line (lines.ts), appended. A batch is stored when its lines are in the file, and on
 * the disk where `fsync` is `always`. A write that fails is taken back, so that the file always ends with a whole line;
 * what is sent again is known by its sequence and not written again (source-state.ts, file-recovery.ts).
 *
 * One server per file: two that append to the same one would not know of each other's lines.
 */
import { constants } from "node:fs";
import { type FileHandle, open, readdir, rename, unlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type FileState, readState, recover, repairEnd } from "./file-recovery.ts";
import { Grouper } from "./grouper.ts";
import { lineOf } from "./lines.ts";
import type { Item } from "./rows.ts";
import { type Batch, SettingError, type Sink, type SinkContext, SinkError } from "./sink.ts";
import { SourceState } from "./source-state.ts";

/** What may be set; a member that is missing has its default. */
export interface FileSettings {
  /** Default: the original's `FILE_PATH`. */
  readonly path?: string | undefined;
  /** `always` (default): before each acknowledgement; `interval`: once a second; `never`: the system decides. */
  readonly fsync?: "always" | "interval" | "never" | undefined;
  /** Octets after which the file is put aside; default: never. */
  readonly rotateSizeOctets?: number | undefined;
  /** ms after which it is; default: never. */
  readonly rotateAgeMs?: number | undefined;
  /** How many put aside are kept; 0 (default): all. */
  readonly rotateKeep?: number | undefined;
}

const groupItems = 4096;
const saveEveryOctets = 4 * 1024 * 1024;
const intervalMs = 1000;

export class FileSink implements Sink {
  readonly name = "file";
  readonly durable = true;
  readonly #settings: FileSettings;
  readonly #path: string;
  readonly #context: SinkContext;
  readonly #sources = new SourceState();
  readonly #grouper: Grouper<Item>;
  readonly #timer: NodeJS.Timeout;
  #file: FileHandle;
  /** False for a pipe or a device: nothing to repair, rotate or remember. */
  #regular = true;
  #openedMs: number;
  #unsaved = 0;
  #unsynced = false;
  /** A write that failed could not be taken back: its rest has to go before the next one. */
  #damaged = false;
  /** Why the state could not be written last; it is said once. */
  #stateTrouble = "";
  #closed: Promise<void> | undefined;

  /** Opens (or makes) the file, repairs its end, and learns what it has. Rejects with a `SettingError` when it can't. */
  static async open(settings: FileSettings, context: SinkContext): Promise<FileSink> {
    const path = settings.path || context.env.FILE_PATH || "";
    if (path === "") throw new SettingError("missing path for file, please set `FILE_PATH`");
    const file = await openFile(path).catch((error: Error) => {
      throw new SettingError(`file: ${path} cannot be opened: ${error.message}`);
    });
    const sink = new FileSink(settings, path, context, file);
    try {
      await sink.#begin(await readState(`${path}.state`));
    } catch (error) {
      await sink.#giveUp();
      throw new SettingError(`file: ${path} cannot be read: ${(error as Error).message}`);
    }
    return sink;
  }

  private constructor(settings: FileSettings, path: string, context: SinkContext, file: FileHandle) {
    this.#settings = settings;
    this.#path = path;
    this.#context = context;
    this.#file = file;
    this.#openedMs = context.now();
    this.#grouper = new Grouper((items) => this.#write(items), groupItems);
    this.#timer = setInterval(() => void this.#tick(), intervalMs);
    this.#timer.unref();
  }

  async store(batch: Batch): Promise<void> {
    if (this.#closed !== undefined) throw new SinkError("file: closed");
    const receivedMs = this.#context.now();
    await this.#grouper.add(batch.events.map((event) => ({ event, source: batch.source, receivedMs })));
  }

  async reopen(): Promise<void> {
    await this.#grouper.exclusively(async () => {
      await this.#save();
      await this.#openAgain();
    });
    this.#context.log(`file: opened ${this.#path} again`);
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #begin(state: FileState | undefined): Promise<void> {
    const path = this.#path;
    const found = await this.#file.stat();
    this.#regular = found.isFile();
    if (!this.#regular) return;
    // An empty file has just been made, or will be treated as if.
    if (found.size > 0) this.#openedMs = Math.min(this.#openedMs, found.birthtimeMs || found.mtimeMs);
    const repaired = await repairEnd(this.#file);
    if (repaired !== undefined) this.#context.log(`file: ${path}: ${repaired}`);
    await recover(path, this.#file, state, this.#sources);
    await this.#save();
  }

  async #write(items: readonly Item[]): Promise<void> {
    await this.#rotateIfDue();
    const fresh = this.#fresh(items);
    if (fresh.length === 0) return;
    const lines = Buffer.from(fresh.map((item) => lineOf(item) ?? "").join(""), "utf8");
    await this.#append(lines);
    for (const item of fresh) this.#sources.mark(item);
    this.#unsaved += lines.length;
    if (this.#unsaved >= saveEveryOctets) await this.#save();
  }

  /** Those that are not in the file; also when the same event is there twice in one group. */
  #fresh(items: readonly Item[]): Item[] {
    const group = new SourceState();
    return items.filter((item) => {
      if (this.#sources.has(item) || group.has(item)) return false;
      group.mark(item);
      return true;
    });
  }

  async #append(lines: Buffer): Promise<void> {
    let written = 0;
    try {
      if (this.#damaged) await this.#mend();
      while (written < lines.length) written += (await this.#file.write(lines, written)).bytesWritten;
      if ((this.#settings.fsync ?? "always") === "always" && this.#regular) await this.#file.datasync();
      else this.#unsynced = true;
    } catch (error) {
      await this.#takeBack(written);
      throw new SinkError(plainError(this.#path, error as NodeJS.ErrnoException));
    }
  }

  /** The last octets of the file: nobody else appends to it. */
  async #takeBack(octets: number): Promise<void> {
    if (octets === 0 || !this.#regular) return;
    try {
      const { size } = await this.#file.stat();
      await this.#file.truncate(Math.max(0, size - octets));
    } catch (error) {
      this.#damaged = true;
      this.#context.log(`file: ${this.#path}: a failed write cannot be taken back: ${String(error)}`);
    }
  }

  async #mend(): Promise<void> {
    await repairEnd(this.#file);
    // Whole lines of the failed write may be there: they count as written.
    await recover(this.#path, this.#file, undefined, this.#sources);
    this.#damaged = false;
  }

  async #tick(): Promise<void> {
    if (this.#closed !== undefined) return;
    await this.#grouper.exclusively(async () => {
      try {
        if (this.#unsynced && this.#settings.fsync === "interval" && this.#regular)
          await this.#file.datasync();
        this.#unsynced = false;
        await this.#rotateIfDue();
      } catch (error) {
        this.#context.log(`file: ${plainError(this.#path, error as NodeJS.ErrnoException)}`);
      }
    });
  }

  /** Puts the file aside when it is due. Where that fails (a full disk), writing goes on in the file that is open. */
  async #rotateIfDue(): Promise<void> {
    try {
      await this.#rotate();
    } catch (error) {
      this.#context.log(`file: ${this.#path} cannot be put aside: ${String(error)}`);
    }
  }

  async #rotate(): Promise<void> {
    const { rotateSizeOctets, rotateAgeMs } = this.#settings;
    if (!this.#regular || (rotateSizeOctets === undefined && rotateAgeMs === undefined)) return;
    const path = this.#path;
    const { size } = await this.#file.stat();
    const old = rotateAgeMs !== undefined && this.#context.now() - this.#openedMs >= rotateAgeMs;
    if (size === 0 || !(old || (rotateSizeOctets !== undefined && size >= rotateSizeOctets))) return;
    const aside = await freeName(path, this.#context.now());
    await this.#save();
    await rename(path, aside).catch((error: NodeJS.ErrnoException) => {
      // Somebody else has: there is nothing to put aside, only to open anew.
      if (error.code !== "ENOENT") throw error;
    });
    await this.#openAgain();
    this.#context.log(`file: put ${path} aside as ${basename(aside)}`);
    await removeOldest(path, this.#settings.rotateKeep ?? 0);
  }

  async #openAgain(): Promise<void> {
    const file = await openFile(this.#path);
    await this.#file.close();
    this.#file = file;
    this.#openedMs = this.#context.now();
    this.#regular = (await file.stat()).isFile();
    if (this.#regular) await repairEnd(file);
    await this.#save();
  }

  /** The state only saves reading at the next start: where it can't be written, sinking and rotating go on. */
  async #save(): Promise<void> {
    if (!this.#regular) return;
    this.#unsaved = 0;
    try {
      await this.#writeState();
      this.#stateTrouble = "";
    } catch (error) {
      const trouble = `file: the state beside ${this.#path} cannot be kept: ${(error as Error).message}`;
      if (trouble !== this.#stateTrouble) this.#context.log(trouble);
      this.#stateTrouble = trouble;
    }
  }

  /** What is in the state is in the file, also after a crash of the machine: so the file is synced first. */
  async #writeState(): Promise<void> {
    await this.#file.datasync();
    const { ino, size } = await this.#file.stat();
    const state: FileState = { version: 1, inode: ino, offset: size, ...this.#sources.save() };
    const path = `${this.#path}.state`;
    await writeFile(`${path}.new`, JSON.stringify(state), { mode: 0o600, flush: true });
    await rename(`${path}.new`, path);
  }

  async #end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#grouper.idle();
    await this.#save();
    await this.#file.close();
  }

  async #giveUp(): Promise<void> {
    clearInterval(this.#timer);
    await this.#file.close();
  }
}

function openFile(path: string): Promise<FileHandle> {
  // Read as well, for the repair; a pipe or a terminal is only written.
  const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT;
  return open(path, flags, 0o644).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENXIO" && error.code !== "EACCES" && error.code !== "EINVAL") throw error;
    return open(path, constants.O_WRONLY | constants.O_APPEND, 0o644);
  });
}

function plainError(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === "ENOSPC")
    return `the disk of ${path} is full; nothing is acknowledged until there is room`;
  if (error.code === "EDQUOT")
    return `the quota for ${path} is used up; nothing is acknowledged until there is room`;
  return `cannot write ${path}: ${error.message}`;
}

/** `PATH.20261124T225818Z`; a further one of the same second has a number behind it, one above the highest there. */
async function freeName(path: string, nowMs: number): Promise<string> {
  const stamp = new Date(nowMs).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const first = `${basename(path)}.${stamp}`;
  const taken = (await readdir(dirname(path)))
    .filter((name) => name.startsWith(first))
    .map((name) => Number(name.slice(first.length + 1) || 0));
  const name = taken.length === 0 ? first : `${first}.${String(Math.max(...taken) + 1).padStart(4, "0")}`;
  return join(dirname(path), name);
}

async function removeOldest(path: string, keep: number): Promise<void> {
  if (keep === 0) return;
  const prefix = `${basename(path)}.`;
  const aside = (await readdir(dirname(path)))
    .filter((name) => name.startsWith(prefix) && /^\d{8}T\d{6}Z(\.\d{4})?$/.test(name.slice(prefix.length)))
    .sort();
  for (const name of aside.slice(0, Math.max(0, aside.length - keep)))
    await unlink(join(dirname(path), name));
}
