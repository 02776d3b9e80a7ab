/**
 * A client for one Redis, a master behind Sentinels, or a Cluster; TLS and ACL users for each. It never queues while it
 * is not connected and never repeats a command by itself: what to do with an unanswered write is the store's to decide.
 */
import { readFileSync } from "node:fs";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { StandaloneConnector } from "ioredis/built/connectors/index.js";

export interface RedisEndpoint {
  readonly host: string;
  readonly port: number;
}
export interface RedisSettings {
  /** `redis://[USER:PASSWORD@]HOST:PORT/DB`, `rediss://` for TLS. One of `url`, `sentinels`, `cluster`. */
  readonly url?: string | undefined;
  readonly sentinels?: readonly RedisEndpoint[] | undefined;
  /** Name of the master that the Sentinels watch. */
  readonly master?: string | undefined;
  readonly cluster?: readonly RedisEndpoint[] | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** With `url` only beside `rediss://`, of which it gives the files. */
  readonly tls?:
    | {
        /** Paths of PEM files. */
        readonly ca?: string | undefined;
        readonly cert?: string | undefined;
        readonly key?: string | undefined;
        readonly serverName?: string | undefined;
      }
    | undefined;
}

export type RedisClient = Redis | Cluster;
type ConnectorConstructor = NonNullable<RedisOptions["Connector"]>;

/** What ioredis says of a connection that ended, whatever ended it. */
const CLOSED = "Connection is closed.";

/** Not connected yet: call `connect()`. Throws where a TLS file can't be read. */
export function redisClient(settings: RedisSettings, name: string): RedisClient {
  const { url, sentinels, master = "mymaster", cluster } = settings;
  if (cluster !== undefined) return clusterClient(cluster, settings, name);
  const options = redisOptions(settings, name);
  if (sentinels !== undefined) {
    const sentinelTls =
      options.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: options.tls };
    return new Redis({
      ...options,
      ...sentinelTls,
      // A Sentinel that hangs would be waited for as long as it does, whatever the others know.
      sentinelCommandTimeout: options.connectTimeout,
      sentinels: [...sentinels],
      name: master,
    });
  }
  if (url === undefined) throw new TypeError("one of url, sentinels and cluster is needed");
  return new Redis(url, options);
}

/**
 * ioredis says of a Cluster that cannot be used only that it cannot, and of a node whose connection failed only that it is
 * closed: here the error's message names the cause, before anybody else hears of it.
 */
function clusterClient(nodes: readonly RedisEndpoint[], settings: RedisSettings, name: string): Cluster {
  let lost: Error | undefined;
  class Connector extends StandaloneConnector {
    override async connect(...args: Parameters<StandaloneConnector["connect"]>) {
      const stream = await super.connect(...args);
      stream.once("error", (error: Error) => {
        lost = error;
      });
      return stream;
    }
  }
  const options = clusterOptions(settings, name);
  const redis = { ...options.redisOptions, Connector: Connector as ConnectorConstructor };
  const client = new Cluster([...nodes], { ...options, redisOptions: redis });
  client.on("error", (error: Error & { readonly lastNodeError?: Error }) => {
    const said = error.lastNodeError;
    if (said === undefined) return;
    const cause = said.message === CLOSED ? (lost ?? said) : said;
    error.message = `the Cluster cannot be used: ${cause.message}`;
    lost = undefined;
  });
  return client;
}

function redisOptions({ username, password, tls }: RedisSettings, name: string) {
  return {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Zero: a lost connection rejects what was under way at once (with null and no resending it would never settle).
    maxRetriesPerRequest: 0,
    enableAutoPipelining: true,
    connectionName: name,
    connectTimeout: 2_000,
    // A server that answers nothing for so long is taken for dead; its commands are rejected then.
    socketTimeout: 5_000,
    retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 10), 1_000),
    // After a failover: a replica refuses writes, so look for the master again.
    reconnectOnError: (error: Error): 1 | false => (error.message.startsWith("READONLY") ? 1 : false),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
  };
}

function clusterOptions(settings: RedisSettings, name: string) {
  const {
    lazyConnect: _,
    enableAutoPipelining: __,
    retryStrategy: ___,
    ...redis
  } = redisOptions(settings, name);
  return {
    redisOptions: redis,
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 10), 1_000),
    slotsRefreshTimeout: 2_000,
    // With TLS the certificate names hosts, so they aren't resolved here.
    ...(settings.tls === undefined
      ? {}
      : {
          dnsLookup: (address: string, done: (error: null, address: string) => void) => done(null, address),
        }),
  };
}

function tlsOptions(tls: NonNullable<RedisSettings["tls"]>) {
  const read = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path));
  const { ca, cert, key, serverName } = tls;
  return {
    ...(ca === undefined ? {} : { ca: read(ca) }),
    ...(cert === undefined ? {} : { cert: read(cert) }),
    ...(key === undefined ? {} : { key: read(key) }),
    ...(serverName === undefined ? {} : { servername: serverName }),
  };
}
