/** The real program on loopback, with what the configuration under test adds to it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { freePort } from "../../test/integration/redis-server.ts";

const MAIN = "../../src/cli/main.ts";

export class RunningProxy {
  readonly port: number;
  readonly #metrics: number;
  readonly #child: ChildProcess;

  private constructor(port: number, metrics: number, child: ChildProcess) {
    this.port = port;
    this.#metrics = metrics;
    this.#child = child;
  }

  static async start(
    folder: string,
    upstream: number,
    config: string,
    program = MAIN,
  ): Promise<RunningProxy> {
    const [port, metrics] = [await freePort(), await freePort()];
    const file = join(folder, `${port}.yaml`);
    const common = `capture: { destination: "127.0.0.1:${upstream}" }
listen: ["127.0.0.1:${port}"]
metrics: { listen: "127.0.0.1:${metrics}" }
log: { level: error }
`;
    await writeFile(file, common + config);
    const node = [...(process.env.BENCH_NODE_OPTIONS?.split(" ") ?? [])];
    const script = fileURLToPath(new URL(program, import.meta.url));
    const child = spawn(process.execPath, [...node, script, "--config", file], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const [line] = (await once(lines, "line")) as [string];
    if (!line.includes("listens")) throw new Error(line);
    return new RunningProxy(port, metrics, child);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Sum of a metric's values whose labels match. */
  async metric(name: string, labels = /(?:)/): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.#metrics}/metrics`)).text();
    return text
      .split("\n")
      .filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)) && labels.test(line))
      .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }
}
