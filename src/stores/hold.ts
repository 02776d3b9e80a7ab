/**
 * Where messages wait for filters: in memory up to a threshold each, beyond it in an unlinked file (mode 0600) of the
 * spool directory, all under one budget of octets. Who finds the budget used up waits in turn, for a bounded time; then,
 * or when the disk is full, it is `HoldFull` (451 4.3.1) for the message and the cause goes into the log.
 *
 * Memory is what is counted: small chunks are copied together, so that none keeps a large receive buffer alive.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Telemetry } from "../events/telemetry.ts";
import { type HeldMessage, HoldFull, type HoldStore, type HoldWriter } from "../filter/contract.ts";
import { Budget, type OctetPool, type Share } from "./budget.ts";
import { makeDirectory } from "./make-directory.ts";
import { SpoolFile } from "./spool-file.ts";

export interface HoldOptions {
  /** Octets of one message that may be in memory. */
  readonly memoryOctets: number;
  /** Octets of all messages, in memory and spool. */
  readonly totalOctets: number;
  /** Directory of the spool files; undefined: the system's temporary directory. */
  readonly spool?: string | undefined;
  /** Where those octets come from, where several processes share them. */
  readonly pool?: OctetPool | undefined;
  /** Longest wait for room. Default 30 s. */
  readonly waitMs?: number;
  readonly telemetry: Pick<Telemetry, "log" | "heldOctets" | "heldWait">;
}

const PIECE = 64 * 1024;

export function createHoldStore(options: HoldOptions): HoldStore & {
  /** Says why spool files cannot be made; undefined: they can. */
  problem(): string | undefined;
  /** Octets held now. */
  readonly held: { readonly memory: number; readonly spool: number };
} {
  const store = new Store(options);
  return store;
}

class Store implements HoldStore {
  readonly held = { memory: 0, spool: 0 };
  readonly budget: Budget;
  readonly options: HoldOptions;
  readonly spool: string;

  constructor(options: HoldOptions) {
    this.options = options;
    this.spool = options.spool ?? tmpdir();
    this.budget = new Budget(
      options.totalOctets,
      options.waitMs ?? 30_000,
      (ms) => options.telemetry.heldWait(ms),
      options.pool,
    );
  }

  open(of?: HeldMessage): HoldWriter {
    return new Writer(this, of instanceof Held ? of.share : undefined);
  }

  problem(): string | undefined {
    try {
      makeDirectory(this.spool);
      fs.closeSync(openUnlinked(this.spool));
      return undefined;
    } catch (error) {
      return `filter.spool: cannot make files in ${this.spool}: ${(error as Error).message}`;
    }
  }

  count(where: "memory" | "spool", octets: number): void {
    this.held[where] += octets;
    this.options.telemetry.heldOctets(where, this.held[where]);
  }

  /** The error for the session; the cause goes into the log. */
  full(message: string, cause?: unknown): HoldFull {
    this.options.telemetry.log("error", "hold_full", message, {}, cause);
    return new HoldFull(message, { cause });
  }
}

/** A file that nobody else can open, and that is gone with its last descriptor. */
function openUnlinked(directory: string): number {
  const path = join(directory, `warp-held-${randomBytes(12).toString("hex")}`);
  const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600);
  fs.unlinkSync(path);
  return fd;
}

class Writer implements HoldWriter {
  private readonly store: Store;
  private readonly share: Share;
  private pieces: Buffer[] = [];
  /** The last piece, while it has room; `used` octets of it are taken. */
  private open: Buffer | undefined;
  private used = 0;
  private octets = 0;
  private inMemory = 0;
  private file: SpoolFile | undefined;
  private state: "open" | "finished" | "gone" = "open";

  constructor(store: Store, of: Share | undefined) {
    this.store = store;
    this.share = store.budget.open(of);
  }

  write(chunk: Buffer): true | Promise<void> {
    if (this.state !== "open") throw new HoldFull("the message was given up before");
    if (chunk.length === 0) return true;
    const room = this.share.take(chunk.length);
    if (room === true) return this.taken(chunk);
    return room.then(
      async () => {
        if (this.state !== "open") throw new HoldFull("the message was given up before");
        const next = this.taken(chunk);
        if (next !== true) await next;
      },
      (error: unknown) => {
        if (this.state !== "open") throw new HoldFull("the message was given up before");
        this.abort();
        throw this.store.full("the budget for held messages is used up (filter.hold_total)", error);
      },
    );
  }

  /** Given up, perhaps while the disk was waited for. */
  private get isGone(): boolean {
    return this.state === "gone";
  }

  async finish(): Promise<HeldMessage> {
    if (this.state !== "open") throw new HoldFull("the message was given up before");
    try {
      await this.file?.written();
    } catch (error) {
      if (this.isGone) throw new HoldFull("the message was given up");
      this.abort();
      throw this.store.full(`cannot write to the spool in ${this.store.spool}`, error);
    }
    if (this.isGone) throw new HoldFull("the message was given up");
    this.state = "finished";
    this.share.complete();
    this.closePiece();
    return new Held(this.octets, this.share, this.pieces, this.file, () => this.free());
  }

  abort(): void {
    if (this.state !== "open") return;
    this.state = "gone";
    this.free();
  }

  /** The octets are within the budget now. */
  private taken(chunk: Buffer): true | Promise<void> {
    this.octets += chunk.length;
    if (this.file === undefined && this.octets <= this.store.options.memoryOctets) {
      this.keep(chunk);
      this.addMemory(chunk.length);
      return true;
    }
    try {
      this.file ??= this.spill();
      return this.append(chunk);
    } catch (error) {
      this.abort();
      throw this.store.full(`cannot make a file in the spool ${this.store.spool}`, error);
    }
  }

  private append(chunk: Buffer): true | Promise<void> {
    const file = this.file as SpoolFile;
    this.store.count("spool", chunk.length);
    const taken = file.append(chunk);
    if (taken === true) return true;
    return taken.catch((error: unknown) => {
      if (this.state !== "open") throw new HoldFull("the message was given up");
      this.abort();
      throw this.store.full(`cannot write to the spool in ${this.store.spool}`, error);
    });
  }

  /** What was in memory moves to the file. */
  private spill(): SpoolFile {
    const file = new SpoolFile(openUnlinked(this.store.spool));
    this.closePiece();
    for (const piece of this.pieces) {
      // Backpressure comes with the next chunk: this is the threshold at most.
      const taken = file.append(piece);
      if (taken !== true) taken.catch(() => {});
    }
    this.store.count("spool", this.inMemory);
    this.addMemory(-this.inMemory);
    this.pieces = [];
    return file;
  }

  private addMemory(octets: number): void {
    this.inMemory += octets;
    this.store.count("memory", octets);
  }

  private keep(chunk: Buffer): void {
    // A large chunk that is most of its buffer is kept as it is; all else is copied together.
    if (chunk.length >= 4096 && chunk.length * 2 >= chunk.buffer.byteLength && chunk.length <= PIECE) {
      this.closePiece();
      this.pieces.push(chunk);
      return;
    }
    for (let at = 0; at < chunk.length; ) {
      this.open ??= this.newPiece(chunk.length - at);
      const copied = chunk.copy(this.open, this.used, at);
      at += copied;
      this.used += copied;
      if (this.used === this.open.length) this.closePiece();
    }
  }

  /** Pieces grow with the message, so that a small one does not take 64 KiB. */
  private newPiece(atLeast: number): Buffer {
    this.used = 0;
    return Buffer.allocUnsafeSlow(Math.min(PIECE, Math.max(4096, atLeast, this.inMemory)));
  }

  private closePiece(): void {
    if (this.open !== undefined && this.used > 0) this.pieces.push(this.open.subarray(0, this.used));
    this.open = undefined;
  }

  private free(): void {
    this.pieces = [];
    this.open = undefined;
    if (this.file === undefined) this.addMemory(-this.inMemory);
    else this.store.count("spool", -this.octets);
    this.file?.close();
    this.share.close();
    this.octets = 0;
  }
}

class Held implements HeldMessage {
  readonly octets: number;
  readonly share: Share;
  private pieces: readonly Buffer[];
  private readonly file: SpoolFile | undefined;
  private readonly free: () => void;
  private released = false;

  constructor(
    octets: number,
    share: Share,
    pieces: readonly Buffer[],
    file: SpoolFile | undefined,
    free: () => void,
  ) {
    this.octets = octets;
    this.share = share;
    this.pieces = pieces;
    this.file = file;
    this.free = free;
  }

  async *chunks(): AsyncGenerator<Buffer> {
    if (this.released) throw new Error("the held message was released");
    if (this.file === undefined) {
      yield* this.pieces;
      return;
    }
    for (let at = 0; at < this.octets; ) {
      const chunk = await this.file.read(at, Math.min(PIECE, this.octets - at));
      at += chunk.length;
      yield chunk;
    }
  }

  release(): void {
    if (this.released) return;
    this.released = true;
    this.pieces = [];
    this.free();
  }
}
