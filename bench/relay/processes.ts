/** The processes of the benchmark: destinations, relays, what they have used of the CPU and of memory. All end with it. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Something to send mail to. */
export interface Target {
  readonly name: string;
  readonly port: number;
  /** The process whose CPU counts; undefined: there is none (direct). */
  readonly pid: number | undefined;
}

export class Processes {
  readonly folder = mkdtempSync(join(tmpdir(), "warp-bench-"));
  private readonly children: ChildProcess[] = [];

  /** Postfix's smtp-sink: takes every message and forgets it. */
  async sink(): Promise<Target> {
    const port = await freePort();
    const root = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
    this.start("smtp-sink", [...root, "-m", "20000", "-t", "600", `127.0.0.1:${port}`, "4000"], "ignore");
    await answers(port);
    return { name: "direct", port, pid: undefined };
  }

  async tlsDestination(): Promise<Target> {
    const [key, cert] = [join(this.folder, "key.pem"), join(this.folder, "cert.pem")];
    const kind = [
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ];
    const names = ["-subj", "/CN=mx.example", "-keyout", key, "-out", cert];
    execFileSync("openssl", ["req", ...kind, ...names], { stdio: "pipe" });
    const { port } = await this.program("tls-destination.ts", [key, cert], "direct");
    return { name: "direct", port, pid: undefined };
  }

  /** HAProxy in TCP mode with one thread. */
  async haproxy(destinationPort: number): Promise<Target> {
    const port = await freePort();
    const file = join(this.folder, `haproxy-${port}.cfg`);
    writeFileSync(
      file,
      `global
  maxconn 8000
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 300s
  timeout server 300s
listen relay
  bind 127.0.0.1:${port} backlog 4096
  server destination 127.0.0.1:${destinationPort}
`,
    );
    const child = this.start("haproxy", ["-db", "-f", file], "ignore");
    await answers(port);
    return { name: "haproxy", port, pid: child.pid };
  }

  bare(destinationPort: number): Promise<Target> {
    return this.program("../bare-relay.ts", [String(destinationPort)], "bare");
  }

  async warp(destinationPort: number, argv: readonly string[] = [], name = "warp"): Promise<Target> {
    const port = String(await freePort());
    const file = join(this.folder, "warp.yaml");
    // All sessions come from one address here.
    writeFileSync(file, "limits: { sessions: 20000, sessions_per_client: 20000 }\n");
    const fixed = ["--ip", "127.0.0.1", "--port", port, "--destination", `127.0.0.1:${destinationPort}`];
    return this.program("recording-warp.ts", ["--config", file, ...fixed, ...argv], name);
  }

  private async program(script: string, argv: readonly string[], name: string): Promise<Target> {
    const file = fileURLToPath(new URL(script, import.meta.url));
    const node = [...(process.env.BENCH_NODE_OPTIONS?.split(" ") ?? []), file];
    const child = this.start(process.execPath, [...node, ...argv], "pipe");
    for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
      const port = /^port (\d+)$/.exec(line)?.[1];
      if (port !== undefined) return { name, port: Number(port), pid: child.pid };
    }
    throw new Error(`${script} ended before it listened`);
  }

  private start(program: string, argv: readonly string[], stdout: "ignore" | "pipe"): ChildProcess {
    // The log goes nowhere; what a program that cannot start has to say is lost with it, its end is not.
    const child = spawn(program, argv, { stdio: ["ignore", stdout, "ignore"] });
    child.on("error", (error) => console.error(`${program}: ${error.message}`));
    this.children.push(child);
    return child;
  }

  end(): void {
    for (const child of this.children) child.kill("SIGTERM");
    for (const child of this.children)
      if (process.env.BENCH_NODE_OPTIONS === undefined) child.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** CPU time of all threads of a process so far, ms: what utime + stime say, without their steps of 10 ms. */
export function cpuMs(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
  }
  return nanoseconds / 1e6;
}

/** Resident memory of a process, KB. */
export function residentKb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}

/** Resolves when something greets there. */
async function answers(port: number): Promise<void> {
  for (const until = Date.now() + 10_000; Date.now() < until; ) {
    const socket = connect(port, "127.0.0.1");
    const greeted = await Promise.race([
      once(socket, "data").then(() => true),
      once(socket, "close").then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (greeted) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing answers on port ${port}`);
}
