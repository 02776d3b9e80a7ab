/**
 * How far each stream has been written, so that what is sent again is not written twice. The protocol makes this exact
 * with little memory: sequences grow within a source's epoch, so the highest one written says it for all before. It says
 * so for its own kind of event only: a server that is configured under several names gets the kinds of each name on a
 * stream of its own, from the same source and at its own pace. Every stream that has a kind has all of it. A gap is its
 * stream's own, and rare: it is known by its id. So is everything where a client gives no epoch (a ULID).
 *
 * Bounded: the `maxSources` last used sources, and `maxIds` ids.
 */
import type { Event, Source } from "../gen/warp/hook/v1/hook_pb.ts";
import type { Item } from "./rows.ts";
import { hasKind, isEpoch, sourceKey } from "./words.ts";

const maxSources = 10_000;
const maxIds = 65_536;
/** The kinds that are known by their sequences, as the words that their lines have. */
const countedKinds: Readonly<Record<string, string>> = {
  afterComm: "comm",
  afterTransaction: "transaction",
  afterConn: "conn",
  notice: "notice",
};
const countedWords = Object.values(countedKinds);

export interface SavedSources {
  /** `PROXY WORKER EPOCH KIND`; without the kind, as versions before wrote it, it is true of each. */
  readonly sources: Readonly<Record<string, string>>;
  readonly ids: readonly string[];
}

export class SourceState {
  /** By source, least recently used first, and by kind. */
  readonly #highest = new Map<string, Map<string, bigint>>();
  readonly #ids = new Set<string>();
  /** The last one used: it is at the end already. */
  #newest = "";
  /** All items of a batch have the same. */
  #source: Source | undefined;
  #key: string | undefined;

  /** True where the item is one that `mark` has seen. */
  has({ event, source }: Item): boolean {
    const key = this.#keyOf(source);
    const kind = countedKind(event);
    if (key !== undefined && kind !== undefined)
      return event.sequence <= (this.#highest.get(key)?.get(kind) ?? 0n);
    return event.id !== "" && this.#ids.has(event.id);
  }

  /** The item is written now. */
  mark({ event, source }: Item): void {
    const key = this.#keyOf(source);
    const kind = countedKind(event);
    if (key !== undefined && kind !== undefined) this.#raise(key, kind, event.sequence);
    else if (event.id !== "" && hasKind(event)) this.#remember(event.id);
  }

  /** The same from a line of the file, for what was written after the last save. */
  markLine(line: LineFields): void {
    const { type = "", proxy = "", worker = 0, epoch = "", sequence, id } = line;
    if (isEpoch(epoch) && typeof sequence === "number" && countedWords.includes(type))
      this.#raise(`${proxy} ${worker} ${epoch}`, type, BigInt(sequence));
    else if (typeof id === "string" && id !== "") this.#remember(id);
  }

  save(): SavedSources {
    const sources: Record<string, string> = {};
    for (const [key, kinds] of this.#highest)
      for (const [kind, sequence] of kinds) sources[`${key} ${kind}`] = String(sequence);
    return { sources, ids: [...this.#ids] };
  }

  load(saved: SavedSources): void {
    for (const [saidKey, sequence] of Object.entries(saved.sources)) {
      const end = saidKey.lastIndexOf(" ");
      const kind = saidKey.slice(end + 1);
      const hasKindBehind = countedWords.includes(kind);
      const key = hasKindBehind ? saidKey.slice(0, end) : saidKey;
      for (const each of hasKindBehind ? [kind] : countedWords) this.#raise(key, each, BigInt(sequence));
    }
    for (const id of saved.ids) this.#remember(id);
  }

  /** Undefined: its sequences say nothing. */
  #keyOf(source: Source | undefined): string | undefined {
    if (source === this.#source) return this.#key;
    this.#source = source;
    this.#key = source !== undefined && isEpoch(source.epoch) ? sourceKey(source) : undefined;
    return this.#key;
  }

  #raise(key: string, kind: string, sequence: bigint): void {
    const kinds = this.#highest.get(key) ?? new Map<string, bigint>();
    if (sequence > (kinds.get(kind) ?? 0n)) kinds.set(kind, sequence);
    if (key === this.#newest) return;
    this.#newest = key;
    this.#highest.delete(key);
    this.#highest.set(key, kinds);
    if (this.#highest.size > maxSources) this.#highest.delete(this.#highest.keys().next().value!);
  }

  #remember(id: string): void {
    this.#ids.add(id);
    if (this.#ids.size > maxIds) this.#ids.delete(this.#ids.values().next().value!);
  }
}

function countedKind({ kind }: Event): string | undefined {
  return kind.case === undefined ? undefined : countedKinds[kind.case];
}

/** What of a line says whose event it is. */
export interface LineFields {
  readonly type?: string;
  readonly id?: string;
  readonly proxy?: string;
  readonly worker?: number;
  readonly epoch?: string;
  readonly sequence?: number;
}
