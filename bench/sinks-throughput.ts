/**
 * The proxy's throughput with the sqlite sink on, as a ratio to none: `node bench/sinks-throughput.ts [MESSAGES] [RUNS]`.
 * smtp-source → warp → smtp-sink on this host, 4 KB, a connection per message. With and without are measured in turns, so
 * that a neighbour's load meets both; the medians are compared.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  missingPostfix,
  sendMail,
  startDestination,
  startProxy,
} from "../test/integration/sinks/proxy-process.ts";

const messages = Number(process.argv[2] ?? 10_000);
const runs = Number(process.argv[3] ?? 3);
const missing = missingPostfix();
if (missing !== undefined) throw new Error(missing);

const folder = await mkdtemp(join(tmpdir(), "warp-bench-"));
const destination = await startDestination();
const results = new Map<string, number[]>();
try {
  for (let run = 0; run < runs; run += 1) {
    for (const plugins of ["", "sqlite", "file", "sqlite,file"]) {
      const argv = plugins === "" ? [] : ["--plugins", plugins];
      const env = {
        SQLITE_DSN: join(folder, `${run}${plugins}.db`),
        FILE_PATH: join(folder, `${run}${plugins}.json`),
      };
      const proxy = await startProxy(destination, argv, env);
      await sendMail(proxy, 500, { octets: 4096 });
      const began = performance.now();
      await sendMail(proxy, messages, { octets: 4096 });
      const rate = messages / ((performance.now() - began) / 1000);
      await proxy.end();
      results.set(plugins, [...(results.get(plugins) ?? []), rate]);
    }
  }
  const median = (rates: readonly number[]) =>
    [...rates].sort((a, b) => a - b)[Math.floor(rates.length / 2)]!;
  const none = median(results.get("")!);
  for (const [plugins, rates] of results) {
    const rate = median(rates);
    console.log(
      `${(plugins || "no sink").padEnd(14)} ${rate.toFixed(0).padStart(6)} messages/s  ratio ${(rate / none).toFixed(2)}  (${rates.map((each) => each.toFixed(0)).join(", ")})`,
    );
  }
} finally {
  await destination.end("SIGKILL");
  await rm(folder, { recursive: true, force: true });
}
process.exit(0);
