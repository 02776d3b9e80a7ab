/**
 * The proxy's throughput with the bundled sinks as its plugins, as a ratio to none, and what both cost of the CPU:
 * smtp-source → warp → smtp-sink on this host, 4 KB.
 *
 *     npm run bench -- sinks-throughput [--quick] [--only connections,reused]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Processes } from "./relay/processes.ts";
import { type Contender, chosenParts, Programs, smallMessages } from "./turns.ts";

const { quick, only } = chosenParts(["connections", "reused"]);
const folder = mkdtempSync(join(tmpdir(), "warp-bench-"));
const processes = new Processes();
const programs = new Programs();
try {
  const destination = await processes.sink();
  const contenders: Contender[] = [];
  for (const plugins of ["", "sqlite", "file", "sqlite,file"]) {
    const argv = plugins === "" ? [] : ["--plugins", plugins];
    const env = { SQLITE_DSN: join(folder, `${plugins}.db`), FILE_PATH: join(folder, `${plugins}.json`) };
    contenders.push(await programs.warp(plugins || "no sink", destination.port, argv, env));
  }
  for (const part of only) await smallMessages(contenders, { quick, reused: part === "reused" });
} finally {
  await programs.end();
  processes.end();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
