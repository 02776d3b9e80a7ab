/** The real proxy, as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

export class Warp {
  readonly port: number;
  readonly child: ChildProcess;
  output = "";

  private constructor(port: number, child: ChildProcess) {
    this.port = port;
    this.child = child;
  }

  /** Resolves when it listens. `destination`: port on 127.0.0.1. */
  static async start(destination: number, flags: readonly string[]): Promise<Warp> {
    const port = await freePort();
    const argv = [
      "--ip",
      "127.0.0.1",
      "--port",
      `${port}`,
      "--destination",
      `127.0.0.1:${destination}`,
      ...flags,
    ];
    const child = spawn(process.execPath, [main, ...argv], { stdio: ["ignore", "pipe", "pipe"] });
    const warp = new Warp(port, child);
    await new Promise<void>((resolve, reject) => {
      const heard = (text: string): void => {
        warp.output += text;
        if (warp.output.includes("listens to")) resolve();
      };
      child.stdout.setEncoding("utf8").on("data", heard);
      child.stderr.setEncoding("utf8").on("data", heard);
      child.once("close", (status) => reject(new Error(`warp ended with ${status}:\n${warp.output}`)));
    });
    return warp;
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = once(this.child, "close");
    this.child.kill(signal);
    await closed;
  }

  /** Resident memory now, octets. */
  get rss(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  }

  /** User and system CPU so far, ms. */
  get cpuMs(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
