// Real redis-server processes on free ports of loopback, each in a directory of its own.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";

export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;

/** For `describe`: skipped where redis-server is missing, which CI=true does not accept. */
export const needsRedis =
  hasRedis || process.env.CI === "true"
    ? {}
    : { skip: "redis-server is missing: apt-get install redis-server" };

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

export class RedisServer {
  readonly port: number;
  readonly #directory: string;
  readonly #arguments: readonly string[];
  #child: ChildProcess | undefined;

  constructor(port: number, directory: string, args: readonly string[]) {
    this.port = port;
    this.#directory = directory;
    this.#arguments = args;
  }

  static async start(...args: string[]): Promise<RedisServer> {
    const directory = await mkdtemp(join(tmpdir(), "warp-redis-"));
    const server = new RedisServer(await freePort(), directory, args);
    await server.run();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/0`;
  }

  async run(): Promise<void> {
    const fixed = [
      "--port",
      String(this.port),
      "--bind",
      "127.0.0.1",
      "--dir",
      this.#directory,
      "--save",
      "",
    ];
    const child = spawn("redis-server", [...fixed, ...this.#arguments], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    await ready(child);
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }

  client(): Redis {
    return new Redis(this.url);
  }
}

/** A master, its replica, and the Sentinel that watches them. */
export class WatchedRedis {
  readonly master: RedisServer;
  readonly replica: RedisServer;
  readonly sentinelPort: number;
  readonly #directory: string;
  readonly #sentinel: ChildProcess;

  private constructor(
    servers: readonly [master: RedisServer, replica: RedisServer],
    sentinelPort: number,
    directory: string,
    sentinel: ChildProcess,
  ) {
    [this.master, this.replica] = servers;
    this.sentinelPort = sentinelPort;
    this.#directory = directory;
    this.#sentinel = sentinel;
  }

  static async start(): Promise<WatchedRedis> {
    const master = await RedisServer.start("--repl-diskless-sync-delay", "0");
    const replica = await RedisServer.start("--replicaof", "127.0.0.1", String(master.port));
    const port = await freePort();
    const directory = await mkdtemp(join(tmpdir(), "warp-sentinel-"));
    const file = join(directory, "sentinel.conf");
    const settings = [
      `port ${port}`,
      "bind 127.0.0.1",
      `dir ${directory}`,
      `sentinel monitor mymaster 127.0.0.1 ${master.port} 1`,
      "sentinel down-after-milliseconds mymaster 1000",
      "sentinel failover-timeout mymaster 5000",
    ];
    await writeFile(file, `${settings.join("\n")}\n`);
    const child = spawn("redis-server", [file, "--sentinel"], { stdio: ["ignore", "pipe", "inherit"] });
    // It has to know the replica before it can promote it.
    await ready(child, `+slave slave 127.0.0.1:${replica.port}`);
    return new WatchedRedis([master, replica], port, directory, child);
  }

  async stop(): Promise<void> {
    const gone = once(this.#sentinel, "exit");
    this.#sentinel.kill("SIGKILL");
    await Promise.all([gone, this.master.stop(), this.replica.stop()]);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Three masters that share the slots. */
export class RedisClusterServers {
  readonly servers: readonly RedisServer[];

  constructor(servers: readonly RedisServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<RedisClusterServers> {
    const servers: RedisServer[] = [];
    for (let i = 0; i < 3; i += 1) {
      const bus = await freePort();
      servers.push(await RedisServer.start("--cluster-enabled", "yes", "--cluster-port", String(bus)));
    }
    const nodes = servers.map(({ port }) => `127.0.0.1:${port}`);
    const created = spawnSync("redis-cli", ["--cluster", "create", ...nodes, "--cluster-yes"], {
      encoding: "utf8",
    });
    if (created.status !== 0)
      throw new Error(`the cluster can't be made: ${created.stdout}${created.stderr}`);
    await Promise.all(servers.map((server) => clusterIsUp(server)));
    return new RedisClusterServers(servers);
  }

  get nodes(): readonly { readonly host: string; readonly port: number }[] {
    return this.servers.map(({ port }) => ({ host: "127.0.0.1", port }));
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()));
  }
}

async function clusterIsUp(server: RedisServer): Promise<void> {
  const client = server.client();
  const deadline = Date.now() + 20_000;
  while (!String(await client.cluster("INFO")).includes("cluster_state:ok")) {
    if (Date.now() > deadline) throw new Error("the cluster does not come up");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  client.disconnect();
}

function ready(child: ChildProcess, says = "Ready to accept connections"): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes(says)) resolve();
  });
  child.once("exit", (code) => reject(new Error(`redis-server ended with ${code}: ${output}`)));
  return promise;
}
