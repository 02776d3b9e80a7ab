/** The real proxy in a namespace, with the rules that it prints itself. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Lab, type Namespace, type Program, root } from "./lab.ts";

/** The sources, unless WARP_TEST_MAIN names another build of the program. */
const main = join(root, process.env.WARP_TEST_MAIN ?? "src/cli/main.ts");
let configurations = 0;

export interface ProxyOptions {
  /** Flags that the proxy and `warp rules` share: --mode, --ip, --port, --client. */
  readonly shared?: readonly string[];
  /** Flags of the proxy alone. */
  readonly flags?: readonly string[];
  /** A configuration file, as YAML. */
  readonly config?: string;
  /** False: the rules are not applied. */
  readonly capture?: boolean;
  /** More words for `warp rules --apply`. */
  readonly rules?: readonly string[];
  /** A command that runs the proxy: "setpriv" and its arguments. */
  readonly under?: readonly string[];
}

export class Warp {
  readonly program: Program;
  readonly #namespace: Namespace;
  readonly #shared: readonly string[];

  private constructor(namespace: Namespace, program: Program, shared: readonly string[]) {
    this.#namespace = namespace;
    this.program = program;
    this.#shared = shared;
  }

  /** Starts it, waits until it says that it listens, and applies the rules. */
  static async start(lab: Lab, namespace: Namespace, options: ProxyOptions = {}): Promise<Warp> {
    const shared = [...(options.shared ?? [])];
    if (options.config !== undefined) {
      configurations += 1;
      const path = join(lab.folder, `warp-${configurations}.yaml`);
      writeFileSync(path, options.config);
      shared.push("--config", path);
    }
    const words = [process.execPath, main, ...shared, "--verbose", ...(options.flags ?? [])];
    const [command = "", ...args] = [...(options.under ?? []), ...words];
    const program = namespace.start(command, args);
    const proxy = new Warp(namespace, program, shared);
    await program.line(/listen/i);
    if (options.capture ?? true) proxy.rules("--apply", ...(options.rules ?? []));
    return proxy;
  }

  rules(...args: string[]): string {
    return this.#namespace.run(process.execPath, main, "rules", ...this.#shared, ...args);
  }

  /** Connections that it has accepted so far. */
  async sessions(): Promise<number> {
    await this.program.quiet();
    return this.program.lines.filter((line) => /\bconnected from /.test(line)).length;
  }

  /** Destinations that it has connected to so far: "192.0.2.10:25". */
  async destinations(): Promise<ReadonlySet<string>> {
    await this.program.quiet();
    const found = this.program.lines.flatMap((line) => /\bconnected to (\S+)/.exec(line)?.[1] ?? []);
    return new Set(found);
  }

  async stop(): Promise<number> {
    this.rules("--remove");
    return this.program.stop();
  }
}
