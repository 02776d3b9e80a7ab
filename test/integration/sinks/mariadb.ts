/** A MariaDB server of the test's own: in a temporary folder, on a free port, gone at the end. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import mysql, { type Connection } from "mysql2/promise";

/** Why there can be none here; undefined: there can. */
export function missingMariadb(): string | undefined {
  for (const program of ["mariadbd", "mariadb-install-db"]) {
    if (spawnSync(program, ["--version"]).error !== undefined) return `${program} is missing`;
  }
  return undefined;
}

export interface Mariadb {
  readonly port: number;
  readonly socketPath: string;
  /** Of the database `warp`, in Go's form. */
  readonly dsn: string;
  connect(database?: string): Promise<Connection>;
  start(): Promise<void>;
  /** `kill -9`, and waits for the end. */
  kill(): Promise<void>;
  signal(name: NodeJS.Signals): void;
  remove(): Promise<void>;
}

export async function startMariadb(): Promise<Mariadb> {
  const folder = await mkdtemp(join(tmpdir(), "warp-mariadb-"));
  const data = join(folder, "data");
  const { username } = userInfo();
  await promisify(execFile)("mariadb-install-db", [
    "--no-defaults",
    `--datadir=${data}`,
    `--user=${username}`,
    "--auth-root-authentication-method=normal",
    "--skip-test-db",
  ]);
  const port = await freePort();
  const socketPath = join(folder, "s.sock");
  let server: ChildProcess | undefined;
  const connect = (database?: string) =>
    mysql.createConnection({
      host: "127.0.0.1",
      port,
      user: "root",
      ...(database !== undefined && { database }),
    });
  const start = async () => {
    server = spawn(
      "mariadbd",
      [
        "--no-defaults",
        `--datadir=${data}`,
        `--user=${username}`,
        `--port=${port}`,
        `--socket=${socketPath}`,
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=64M",
        "--skip-log-bin",
      ],
      { stdio: "ignore" },
    );
    await answers(connect, server);
  };
  const kill = async () => {
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, "exit");
    server.kill("SIGKILL");
    await gone;
  };
  const signal = (name: NodeJS.Signals) => void server?.kill(name);
  const remove = async () => {
    await kill();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await remove();
    throw error;
  }
  return { port, socketPath, dsn: `root@tcp(127.0.0.1:${port})/warp`, connect, start, kill, signal, remove };
}

async function answers(connect: () => Promise<Connection>, server: ChildProcess): Promise<void> {
  for (const until = Date.now() + 60_000; ; ) {
    if (server.exitCode !== null) throw new Error(`mariadbd ended with status ${server.exitCode}`);
    try {
      await (await connect()).end();
      return;
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
