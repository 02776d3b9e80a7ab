/**
 * What a sink is: it takes batches of events and says when they are stored. A durable sink's `store` resolves only when
 * the batch would survive the death of this process (and, by its sync setting, of the machine), and storing the same
 * event twice is the same as storing it once: the proxy sends again whatever it has no acknowledgement for.
 */
import type { Event, Source } from "../gen/warp/hook/v1/hook_pb.ts";

/** Events of one stream, in its order. */
export interface Batch {
  /** Whose they are; undefined only where a client does not say. */
  readonly source: Source | undefined;
  readonly events: readonly Event[];
}

export interface Sink {
  readonly name: string;
  /** False: best effort. It is told of each batch, is never waited for, and its failures never hold the others up. */
  readonly durable: boolean;
  /** Resolves once the batch is stored. Rejects with a `SinkError` when it is not: nothing is acknowledged then. */
  store(batch: Batch): Promise<void>;
  /** Opens files anew (SIGHUP, after a rotation by others). */
  reopen?(): Promise<void>;
  /** Ends what is under way (bounded) and gives everything back. Idempotent. */
  close(): Promise<void>;
}

/** A batch that could not be stored now; the text is for the operator and names the file or server. */
export class SinkError extends Error {
  override readonly name = "SinkError";
}

/** A setting that is missing or wrong: one line, which stops the start. */
export class SettingError extends Error {
  override readonly name = "SettingError";
}

/** One line for the operator, without a newline. */
export type Log = (line: string) => void;

/** Where a sink gets what it must not take from the air. */
export interface SinkContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  /** ms since 1970. */
  readonly now: () => number;
}
