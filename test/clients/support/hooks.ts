/** The examples of both clients as running hook servers, and the proxy in front of them. */

import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { finished, main, Program, root } from "./program.ts";

export type Language = "python" | "go";
export type Example = "header-tagger" | "dlp" | "audit" | "route";

export const languages: readonly Language[] = ["python", "go"];

/** Builds Go's examples once, into a folder of the test's. */
export async function buildGoExamples(folder: string): Promise<void> {
  const result = await finished("go", ["build", "-o", `${folder}/`, "./examples/..."], {
    cwd: join(root, "clients/go"),
    timeoutMs: 300_000,
  });
  if (result.status !== 0) throw new Error(result.output);
}

/** Programs of one test: each is ended when the scope is left, the last one first. */
export class Running implements AsyncDisposable {
  readonly folder: string;
  readonly #programs: Program[] = [];

  /** `folder`: where sockets and files go; Go's examples are there too. */
  constructor(folder: string) {
    this.folder = folder;
  }

  start(command: string, args: readonly string[]): Program {
    const program = new Program(command, args);
    this.#programs.push(program);
    return program;
  }

  /** An example, once it listens; on a socket of its own in the folder, or on `address`. */
  async example(language: Language, name: Example, flags: readonly string[] = [], address?: string) {
    const at = address ?? `unix:${join(this.folder, `${language}-${name}.sock`)}`;
    const dashes = (flag: string) => (language === "go" ? flag.replace(/^--/, "-") : flag);
    const words = [...flags.map(dashes), at];
    const program =
      language === "go"
        ? this.start(join(this.folder, name), words)
        : this.start("python3", [
            join(root, "clients/python/examples", `${name.replace("-", "_")}.py`),
            ...words,
          ]);
    const [, listening = ""] = await program.line(/ listens on (\S+)/);
    return { program, address: listening };
  }

  /** The proxy to a destination, on a free port of 127.0.0.1. */
  async proxy(flags: readonly string[]): Promise<{ readonly program: Program; readonly port: number }> {
    const port = await freePort();
    const where = ["--ip", "127.0.0.1", "--port", String(port), "--log-format", "json"];
    const program = this.start(process.execPath, [main, ...where, ...flags]);
    await program.line(/warp listens to/);
    return { program, port };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of this.#programs.reverse()) await program.stop();
  }
}

/** The proxy takes port 0 for its default, as the original does: so a port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
