/**
 * Several kinds as one hook server. A batch is acknowledged when every durable sink has stored it; if one of them has not,
 * it comes again, and those that have it already change nothing. Sinks that are best effort are told and never waited for.
 */
import { type Event, type HookServer, type ServerTls, serveHook } from "../sdk/index.ts";
import { type HookPart, kindNames, openerOf } from "./registry.ts";
import { SettingError, type Sink, type SinkContext } from "./sink.ts";

export interface ServerOptions {
  /** In this order; each once. */
  readonly kinds: readonly string[];
  /** `unix:/path` or `host:port`. */
  readonly listen: string;
  /** By kind; a section that is missing has its defaults and the environment. */
  readonly settings: Readonly<Record<string, object | undefined>>;
  readonly context: SinkContext;
  readonly tls?: ServerTls;
  readonly insecure?: boolean;
  readonly version?: string;
}

export interface RunningServer {
  readonly address: string;
  /** Files are opened anew (SIGHUP). */
  reopen(): Promise<void>;
  /** Stops taking batches, ends those at hand, closes the sinks. Idempotent. */
  close(graceMs?: number): Promise<void>;
}

/** Opens the sinks, then listens. Rejects with a `SettingError` of one line when a setting is missing or wrong. */
export async function serveKinds(options: ServerOptions): Promise<RunningServer> {
  const parts = await openAll(options);
  const sinks = parts.flatMap(({ sink }) => (sink === undefined ? [] : [sink]));
  const stopping = new AbortController();
  let server: HookServer;
  try {
    server = await serveHook({
      name: options.kinds.join(","),
      ...(options.version !== undefined && { version: options.version }),
      listen: options.listen,
      ...(options.tls !== undefined && { tls: options.tls }),
      ...(options.insecure !== undefined && { insecure: options.insecure }),
      ...(sinks.length > 0 && {
        observe: (events: readonly Event[], { source }) =>
          storeInAll(sinks, { events, source }, options.context),
      }),
      ...parts.find(({ filter }) => filter !== undefined)?.filter,
      signal: stopping.signal,
      onError: (error, rpc) => options.context.log(`${rpc}: ${error.message}`),
    });
  } catch (error) {
    await closeAll(parts, options.context);
    throw new SettingError((error as Error).message);
  }
  let closed: Promise<void> | undefined;
  return {
    address: server.address,
    reopen: async () => {
      for (const sink of sinks) await sink.reopen?.();
    },
    close: (graceMs) => {
      closed ??= server.close(graceMs).then(() => closeAll(parts, options.context));
      return closed;
    },
  };
}

/** Resolves once all durable sinks have the batch; rejects with what the first of those that failed says. */
async function storeInAll(
  sinks: readonly Sink[],
  batch: Parameters<Sink["store"]>[0],
  context: SinkContext,
): Promise<void> {
  for (const sink of sinks) {
    if (sink.durable) continue;
    sink.store(batch).catch((error: Error) => context.log(`${sink.name}: ${error.message}`));
  }
  // Settled, not raced: a batch that comes again must not meet its own first writing.
  const results = await Promise.allSettled(
    sinks.filter(({ durable }) => durable).map((sink) => sink.store(batch)),
  );
  const failed = results
    .filter((result) => result.status === "rejected")
    .map(({ reason }) => (reason as Error).message);
  if (failed.length > 0) throw new Error(failed.join("; "));
}

async function openAll({ kinds, settings, context }: ServerOptions): Promise<HookPart[]> {
  const parts: HookPart[] = [];
  try {
    for (const kind of kinds) {
      const open = openerOf(kind);
      if (open === undefined)
        throw new SettingError(`${kind} is no hook server; there are: ${kindNames().join(", ")}`);
      parts.push(await open(settings[kind] ?? {}, context));
    }
    if (parts.filter(({ filter }) => filter !== undefined).length > 1) {
      throw new SettingError(
        `${kinds.join(",")}: only one of them can be a filter; start one server for each`,
      );
    }
  } catch (error) {
    await closeAll(parts, context);
    throw error;
  }
  return parts;
}

async function closeAll(parts: readonly HookPart[], { log }: SinkContext): Promise<void> {
  for (const part of parts) {
    try {
      await part.sink?.close();
      await part.close?.();
    } catch (error) {
      log(`${part.sink?.name ?? "hook"}: closing failed: ${(error as Error).message}`);
    }
  }
}
