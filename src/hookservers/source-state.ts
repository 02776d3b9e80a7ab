/**
 * How far each stream has been written, so that what is sent again is not written twice. The protocol makes this exact
 * with little memory: sequences grow within a source's epoch, so the highest one written says it for all before. Where a
 * client gives no epoch (a ULID), the last ids are remembered instead.
 *
 * Bounded: the `maxSources` last used sources, and `maxIds` ids.
 */
import type { Source } from "../gen/warp/hook/v1/hook_pb.ts";
import type { Item } from "./rows.ts";
import { isEpoch, sourceKey } from "./words.ts";

const maxSources = 10_000;
const maxIds = 65_536;

export interface SavedSources {
  readonly sources: Readonly<Record<string, string>>;
  readonly ids: readonly string[];
}

export class SourceState {
  /** Least recently used first. */
  readonly #highest = new Map<string, bigint>();
  readonly #ids = new Set<string>();
  /** The last one used: it is at the end already. */
  #newest = "";
  /** All items of a batch have the same. */
  #source: Source | undefined;
  #key: string | undefined;

  /** True where the item is one that `mark` has seen. */
  has({ event, source }: Item): boolean {
    const key = this.#keyOf(source);
    if (key !== undefined) return event.sequence <= (this.#highest.get(key) ?? 0n);
    return event.id !== "" && this.#ids.has(event.id);
  }

  /** The item is written now. */
  mark({ event, source }: Item): void {
    const key = this.#keyOf(source);
    if (key !== undefined) this.#raise(key, event.sequence);
    else if (event.id !== "") this.#remember(event.id);
  }

  /** The same from a line of the file, for what was written after the last save. */
  markLine(line: LineFields): void {
    const { proxy = "", worker = 0, epoch = "", sequence, id } = line;
    if (isEpoch(epoch) && typeof sequence === "number")
      this.#raise(`${proxy} ${worker} ${epoch}`, BigInt(sequence));
    else if (typeof id === "string" && id !== "") this.#remember(id);
  }

  save(): SavedSources {
    const sources = Object.fromEntries([...this.#highest].map(([key, sequence]) => [key, String(sequence)]));
    return { sources, ids: [...this.#ids] };
  }

  load(saved: SavedSources): void {
    for (const [key, sequence] of Object.entries(saved.sources)) this.#raise(key, BigInt(sequence));
    for (const id of saved.ids) this.#remember(id);
  }

  /** Undefined: its sequences say nothing. */
  #keyOf(source: Source | undefined): string | undefined {
    if (source === this.#source) return this.#key;
    this.#source = source;
    this.#key = source !== undefined && isEpoch(source.epoch) ? sourceKey(source) : undefined;
    return this.#key;
  }

  #raise(key: string, sequence: bigint): void {
    const before = this.#highest.get(key) ?? 0n;
    if (key !== this.#newest) this.#highest.delete(key);
    this.#newest = key;
    this.#highest.set(key, sequence > before ? sequence : before);
    if (this.#highest.size > maxSources) this.#highest.delete(this.#highest.keys().next().value!);
  }

  #remember(id: string): void {
    this.#ids.add(id);
    if (this.#ids.size > maxIds) this.#ids.delete(this.#ids.values().next().value!);
  }
}

/** What of a line says whose event it is. */
export interface LineFields {
  readonly id?: string;
  readonly proxy?: string;
  readonly worker?: number;
  readonly epoch?: string;
  readonly sequence?: number;
}
