/**
 * The file that keeps in-memory reputation over a restart: JSON, mode 0600, written to a name beside it, synced, renamed.
 * `FILE.corrections` holds what `warp reputation set` and `reset` left for the proxy that has the file: one JSON object
 * per line, appended, taken by renaming it.
 */
import { constants } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { IpStateChange } from "../deliverability/throttle.ts";
import type { SenderRecord } from "../reputation/standing.ts";
import type { StandingChange } from "../reputation/store.ts";

export interface SavedState {
  readonly version: 1;
  readonly savedAt: number;
  readonly halfLivesMs: readonly number[];
  readonly senders: readonly (readonly [identity: string, record: SenderRecord])[];
  readonly day: string;
  readonly messages: readonly (readonly [pair: string, messages: number])[];
  readonly states: readonly IpStateChange[];
}
export interface Correction {
  readonly identity: string;
  /** null: forget the sender. */
  readonly change: StandingChange | null;
}

export class StateFileError extends Error {
  override readonly name = "StateFileError";
}

export class StateFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Undefined where there is no file yet. Rejects with StateFileError where it isn't one of ours. */
  async read(): Promise<SavedState | undefined> {
    const text = await contentOf(this.#path);
    if (text === undefined) return undefined;
    let saved: unknown;
    try {
      saved = JSON.parse(text);
    } catch (error) {
      throw new StateFileError(`${this.#path} is not JSON: move it away to begin anew`, { cause: error });
    }
    if (!isSavedState(saved)) throw new StateFileError(`${this.#path} is no reputation file of this version`);
    return saved;
  }

  async write(state: SavedState): Promise<void> {
    const beside = `${this.#path}.new`;
    const file = await open(beside, "w", 0o600);
    try {
      for (const chunk of chunks(state)) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, this.#path);
  }

  async leaveCorrection(correction: Correction): Promise<void> {
    while (!(await this.#leave(correction)));
  }

  /** False: the file was taken meanwhile, perhaps without this one. It may be left again: a correction adds nothing up. */
  async #leave(correction: Correction): Promise<boolean> {
    const file = await this.#openCorrections();
    try {
      await file.writeFile(`${JSON.stringify(correction)}\n`);
      const there = await ifThere(stat(this.#corrections));
      return there?.ino === (await file.stat()).ino;
    } finally {
      await file.close();
    }
  }

  /** The corrections in order; they are gone from the file then. */
  async takeCorrections(): Promise<readonly Correction[]> {
    // Opened first: what cannot be read stays where the next try finds it.
    const file = await ifThere(open(this.#corrections, "r"));
    if (file === undefined) return [];
    try {
      const taken = `${this.#corrections}.taken`;
      await rename(this.#corrections, taken);
      const text = await file.readFile("utf8");
      await rm(taken, { force: true });
      return correctionsOf(text);
    } finally {
      await file.close();
    }
  }

  /** Corrections that no proxy has taken yet. */
  async pendingCorrections(): Promise<readonly Correction[]> {
    return correctionsOf((await contentOf(this.#corrections)) ?? "");
  }

  /**
   * To append to. Root makes it for the user that the proxy runs as, and follows no link and gives nothing away that was there
   * already: the folder is that user's.
   */
  async #openCorrections(): Promise<FileHandle> {
    const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
    const flags = O_WRONLY | O_APPEND | O_NOFOLLOW;
    let made: FileHandle;
    try {
      made = await open(this.#corrections, flags | O_CREAT | O_EXCL, 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      // Taken in this very moment: then there is one to make.
      return (await ifThere(open(this.#corrections, flags))) ?? this.#openCorrections();
    }
    if (process.getuid?.() === 0) {
      const owner = (await ifThere(stat(this.#path))) ?? (await stat(dirname(this.#path)));
      await made.chown(owner.uid, owner.gid);
    }
    return made;
  }

  get #corrections(): string {
    return `${this.#path}.corrections`;
  }
}

function correctionsOf(text: string): Correction[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Correction);
}

function contentOf(path: string): Promise<string | undefined> {
  return ifThere(readFile(path, "utf8"));
}

/** Undefined where there is no such file. */
async function ifThere<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

const SENDERS_PER_CHUNK = 1_000;

/** The state as JSON in pieces: a hundred thousand senders in one go would hold the process up. */
function* chunks({ senders, ...rest }: SavedState): Generator<string> {
  yield `${JSON.stringify(rest).slice(0, -1)},"senders":[`;
  for (let at = 0; at < senders.length; at += SENDERS_PER_CHUNK) {
    const some = JSON.stringify(senders.slice(at, at + SENDERS_PER_CHUNK)).slice(1, -1);
    yield at === 0 ? some : `,${some}`;
  }
  yield "]}";
}

function isSavedState(value: unknown): value is SavedState {
  if (typeof value !== "object" || value === null) return false;
  const state = value as Partial<SavedState>;
  return (
    state.version === 1 &&
    Array.isArray(state.senders) &&
    Array.isArray(state.messages) &&
    Array.isArray(state.states) &&
    typeof state.day === "string"
  );
}
