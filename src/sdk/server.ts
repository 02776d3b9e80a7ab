/**
 * A hook server: give `serveHook` your handlers and an address, get `Describe`, `Observe`, `BeforeRelay`, `SelectRoute`,
 * the health service, and a graceful stop. What the handlers promise is in observe.ts and filter.ts.
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  Capability,
  type DescribeResponseSchema,
  HookService,
  type SelectRouteRequest,
  type SelectRouteResponseSchema,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { clearStaleSocket, grpcTarget, isLocal, parseAddress, setSocketMode } from "./address.ts";
import { type ServerTls, serverCredentials } from "./credentials.ts";
import { asError, StatusError } from "./failure.ts";
import { type FilterHandler, filterInterceptor } from "./filter.ts";
import { addService, type HandlersOf } from "./grpc.ts";
import { addHealth } from "./health.ts";
import { DEFAULT_MAX_MESSAGE_OCTETS } from "./message.ts";
import { type EventHandlers, type ObserveHandler, perEvent, serveObserve } from "./observe.ts";
import { checkedReject, type RejectReply } from "./verdict.ts";

/** Which IP a transaction leaves from; undefined: the proxy's rules decide. */
export type RouteChoice =
  | { readonly pool: string }
  | { readonly sourceIp: string }
  | { readonly refuse: RejectReply }
  | undefined;
/** Has 200 ms, then the proxy's rules decide. */
export type RouteHandler = (request: SelectRouteRequest) => RouteChoice | Promise<RouteChoice>;
export type ObservedKind = "afterComm" | "afterTransaction" | "afterConn";

export interface HookOptions extends EventHandlers {
  /** What the hook calls itself in `Describe`; the proxy's own name for it is in its configuration. */
  readonly name: string;
  readonly version?: string;
  /** `unix:/path` or `host:port`; port 0 takes a free one. */
  readonly listen: string;
  /** Needed on TCP beyond loopback, unless `insecure` says that the network is trusted. */
  readonly tls?: ServerTls;
  readonly insecure?: boolean;
  /** Permissions of a Unix socket. Default 0o660. */
  readonly socketMode?: number;

  /** Takes whole batches; or give handlers for single events (`afterComm`, …), not both. */
  readonly observe?: ObserveHandler;
  /** What `observe` wants to be sent. Default: all three. */
  readonly observes?: readonly ObservedKind[];
  readonly beforeRelay?: FilterHandler;
  readonly selectRoute?: RouteHandler;

  /** A longer message arrives cut, with `envelope.truncated`. Default: no limit. */
  readonly maxMessageOctets?: number;
  /** The filter looks at the header section only, so only that is sent. */
  readonly headerOnly?: boolean;
  /** Messages judged at once; more wait their turn, and their octets wait in the proxy. Default 100. */
  readonly concurrentMessages?: number;
  /** How long `observe` may take for one batch. Default 300,000 ms. */
  readonly batchTimeoutMs?: number;

  /** Aborting it stops the server, as `close()` does. Without it SIGTERM and SIGINT do. */
  readonly signal?: AbortSignal;
  /** Told of each call that failed in a handler. Default: one line on stderr. */
  readonly onError?: (error: Error, rpc: "Observe" | "BeforeRelay" | "SelectRoute") => void;
}

export interface HookServer {
  /** Where it listens, with the port that it got; in the form that the proxy's flags take. */
  readonly address: string;
  /**
   * Stops: health says NOT_SERVING, Observe streams end behind the batch at hand with what is stored acknowledged, calls in
   * progress finish. What is unfinished after `graceMs` (default 10,000) is cut off. Idempotent.
   */
  close(graceMs?: number): Promise<void>;
  /** Resolves once the server has stopped, for whatever reason. */
  readonly closed: Promise<void>;
}

const REPEAT_ACK_MS = 15_000;
/** The longest message of the protocol that comes in: a batch of 1 MiB, a chunk of 64 KiB. */
const MAX_RECEIVED_OCTETS = 16 * 1024 * 1024;

/** Starts a hook server. Rejects with an error in plain words when it cannot listen, or the options contradict each other. */
export async function serveHook(options: HookOptions): Promise<HookServer> {
  const address = parseAddress(options.listen);
  if (!isLocal(address) && options.tls === undefined && options.insecure !== true) {
    throw new Error(
      `${options.listen} can be reached from other hosts: give tls, or insecure: true where the network is trusted`,
    );
  }
  const description = describe(options);
  const stopping = new AbortController();
  const server = new grpc.Server({
    "grpc.max_receive_message_length": MAX_RECEIVED_OCTETS,
    interceptors: filters(options),
  });
  addService(server, HookService, handlers(options, description, stopping.signal), [
    "observe",
    "beforeRelay",
  ]);
  addHealth(server, HookService.typeName, stopping.signal);
  const credentials = serverCredentials(options.tls);
  if (address.kind === "unix") await clearStaleSocket(address.path);
  const port = await bind(server, grpcTarget(address), credentials, options.listen);
  if (address.kind === "unix") await setSocketMode(address.path, options.socketMode ?? 0o660);
  return running(
    server,
    stopping,
    options,
    address.kind === "unix" ? options.listen : grpcTarget({ ...address, port }),
  );
}

function describe(options: HookOptions): MessageInitShape<typeof DescribeResponseSchema> {
  const single =
    options.afterComm ??
    options.afterTransaction ??
    options.afterConn ??
    options.afterGap ??
    options.afterNotice;
  if (options.observe !== undefined && single !== undefined) {
    throw new TypeError(
      "give either observe (whole batches) or handlers for single events (afterComm, …), not both",
    );
  }
  if (options.observe === undefined && options.observes !== undefined) {
    throw new TypeError(
      "observes belongs to observe; handlers for single events say themselves what they want",
    );
  }
  const wants = (kind: ObservedKind): boolean =>
    options.observe === undefined ? options[kind] !== undefined : (options.observes?.includes(kind) ?? true);
  const capabilities = [
    wants("afterComm") && Capability.AFTER_COMM,
    wants("afterTransaction") && Capability.AFTER_TRANSACTION,
    wants("afterConn") && Capability.AFTER_CONN,
    options.beforeRelay !== undefined && Capability.BEFORE_RELAY,
    options.selectRoute !== undefined && Capability.SELECT_ROUTE,
  ].filter((capability) => capability !== false);
  if (capabilities.length === 0) {
    throw new TypeError(
      "a hook needs a handler: observe, afterComm, afterTransaction, afterConn, beforeRelay or selectRoute",
    );
  }
  return {
    name: options.name,
    version: options.version ?? "",
    capabilities,
    maxMessageOctets: BigInt(options.maxMessageOctets ?? 0),
    headerOnly: options.headerOnly ?? false,
  };
}

function handlers(
  options: HookOptions,
  description: MessageInitShape<typeof DescribeResponseSchema>,
  stopping: AbortSignal,
): HandlersOf<(typeof HookService)["method"]> {
  const { selectRoute } = options;
  const observes = description.capabilities!.some(
    (each) =>
      each === Capability.AFTER_COMM ||
      each === Capability.AFTER_TRANSACTION ||
      each === Capability.AFTER_CONN,
  );
  return {
    describe: (_call, done) => done(null, description),
    ...(observes && {
      observe: (call) =>
        void serveObserve(
          call,
          {
            handler: options.observe ?? perEvent(options),
            batchTimeoutMs: options.batchTimeoutMs ?? 300_000,
            keepAliveMs: REPEAT_ACK_MS,
            onError: failed(options, "Observe"),
          },
          stopping,
        ),
    }),
    // Registered, so that it exists; its calls end in `filters`.
    ...(options.beforeRelay !== undefined && { beforeRelay: () => {} }),
    ...(selectRoute !== undefined && {
      selectRoute: (call, done) =>
        void choose(selectRoute, call.request, done, failed(options, "SelectRoute")),
    }),
  };
}

function filters(options: HookOptions): grpc.ServerInterceptor[] {
  if (options.beforeRelay === undefined) return [];
  return [
    filterInterceptor({
      handler: options.beforeRelay,
      maxMessageOctets: options.maxMessageOctets ?? DEFAULT_MAX_MESSAGE_OCTETS,
      onError: failed(options, "BeforeRelay"),
      turn: takeTurns(options.concurrentMessages ?? 100),
    }),
  ];
}

function failed(
  options: Pick<HookOptions, "name" | "onError">,
  rpc: "Observe" | "BeforeRelay" | "SelectRoute",
): (error: Error) => void {
  return (error) => {
    if (options.onError) options.onError(error, rpc);
    else process.stderr.write(`${options.name}: ${rpc} failed: ${error.message}\n`);
  };
}

async function choose(
  handler: RouteHandler,
  request: SelectRouteRequest,
  done: grpc.sendUnaryData<MessageInitShape<typeof SelectRouteResponseSchema>>,
  onError: (error: Error) => void,
): Promise<void> {
  try {
    const choice = await handler(request);
    if (choice === undefined) done(null, {});
    else if ("pool" in choice) done(null, { route: { case: "pool", value: choice.pool } });
    else if ("sourceIp" in choice) done(null, { route: { case: "sourceIp", value: choice.sourceIp } });
    else done(null, { route: { case: "refuse", value: checkedReject(choice.refuse) } });
  } catch (cause) {
    const error = asError(cause);
    onError(error);
    done(new StatusError(grpc.status.INTERNAL, error.message));
  }
}

/** Runs at most `limit` at once, the others in the order they came. */
function takeTurns(limit: number): (work: () => Promise<void>) => Promise<void> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

function bind(
  server: grpc.Server,
  target: string,
  credentials: grpc.ServerCredentials,
  listen: string,
): Promise<number> {
  // What grpc-js would print of a failure is said better by the error below.
  const quiet = process.env.GRPC_VERBOSITY === undefined && process.env.GRPC_NODE_VERBOSITY === undefined;
  if (quiet) grpc.setLogVerbosity(grpc.logVerbosity.NONE);
  return new Promise((resolve, reject) => {
    server.bindAsync(target, credentials, (error, port) => {
      if (quiet) grpc.setLogVerbosity(grpc.logVerbosity.ERROR);
      if (error === null) {
        resolve(port);
        return;
      }
      server.forceShutdown();
      reject(new Error(`cannot listen on ${listen}: ${plainBindError(error.message)}`));
    });
  });
}

function plainBindError(message: string): string {
  if (message.includes("EADDRINUSE")) return "the address is already in use";
  if (message.includes("EACCES")) return "permission denied";
  if (message.includes("EADDRNOTAVAIL")) return "this host has no such address";
  if (message.includes("ENOTFOUND")) return "the host name is not known";
  return message;
}

function running(
  server: grpc.Server,
  stopping: AbortController,
  options: HookOptions,
  address: string,
): HookServer {
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>();
  const close = (graceMs = 10_000): Promise<void> => {
    if (stopping.signal.aborted) return closed;
    forget();
    stopping.abort();
    const cutOff = setTimeout(() => server.forceShutdown(), graceMs);
    server.tryShutdown(() => {
      clearTimeout(cutOff);
      resolveClosed();
    });
    return closed;
  };
  const stop = (): void => void close();
  const forget = (): void => {
    options.signal?.removeEventListener("abort", stop);
    process.off("SIGTERM", stop);
    process.off("SIGINT", stop);
  };
  if (options.signal === undefined) {
    process.once("SIGTERM", stop);
    process.once("SIGINT", stop);
  } else if (options.signal.aborted) stop();
  else options.signal.addEventListener("abort", stop, { once: true });
  return { address, close, closed };
}
