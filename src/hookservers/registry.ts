/**
 * The kinds that `warp hook` can run. A kind makes a sink, or a filter, or both; it is loaded when it is asked for, so
 * that a file sink needs no MySQL client in memory. Others are added with `registerKind`.
 */
import type { HookOptions } from "../sdk/index.ts";
import type { Sink, SinkContext } from "./sink.ts";

/** What a kind brings into the server. */
export interface HookPart {
  readonly sink?: Sink;
  /** A filter's handlers and limits; at most one kind of a server may have them. */
  readonly filter?: Pick<
    HookOptions,
    "beforeRelay" | "selectRoute" | "maxMessageOctets" | "headerOnly" | "concurrentMessages"
  >;
  /** Gives back what the part without a sink holds. */
  close?(): Promise<void>;
}
/** `settings` is the kind's section, checked by whoever made it. Rejects with a `SettingError` of one line. */
export type OpenKind = (settings: object, context: SinkContext) => Promise<HookPart>;

const kinds = new Map<string, OpenKind>([
  [
    "file",
    async (settings, context) => ({
      sink: await (await import("./file.ts")).FileSink.open(settings, context),
    }),
  ],
  [
    "sqlite",
    async (settings, context) => ({ sink: (await import("./sqlite.ts")).SqliteSink.open(settings, context) }),
  ],
  [
    "mysql",
    async (settings, context) => ({
      sink: await (await import("./mysql.ts")).MysqlSink.open(settings, context),
    }),
  ],
  [
    "slack",
    async (settings, context) => ({
      sink: await (await import("./slack.ts")).SlackSink.open(settings, context),
    }),
  ],
  ["rspamd", async (settings, context) => (await import("./rspamd.ts")).openRspamd(settings, context)],
]);

/** Adds a kind, or replaces one. */
export function registerKind(name: string, open: OpenKind): void {
  kinds.set(name, open);
}
export function kindNames(): string[] {
  return [...kinds.keys()];
}
export function openerOf(name: string): OpenKind | undefined {
  return kinds.get(name);
}
