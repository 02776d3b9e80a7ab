/**
 * Speed of the relay: messages per second, CPU, latency and memory of warp with the recording on (one worker, every event
 * made), against HAProxy in TCP mode with one thread, a bare node:net relay, and no relay at all. Needs Postfix's
 * smtp-source and smtp-sink, and HAProxy.
 *
 *     npm run bench [-- --quick] [-- --only speed,tls,latency,idle]
 */
import { spawnSync } from "node:child_process";
import { compare } from "./relay/compare.ts";
import { idle } from "./relay/idle.ts";
import { latency } from "./relay/latency.ts";
import { type Load, send } from "./relay/load.ts";
import { Processes, type Target } from "./relay/processes.ts";

/** [name, octets, messages per measurement, sessions at a time] */
const SIZES: readonly (readonly [string, number, number, number])[] = [
  ["100 B", 100, 4000, 20],
  ["4 KB", 4096, 4000, 20],
  ["100 KB", 102_400, 800, 20],
  ["1 MB", 1_048_576, 120, 20],
];
const PARTS = ["speed", "tls", "latency", "idle"];

const quick = process.argv.includes("--quick");
const only = process.argv.find((_, i) => process.argv[i - 1] === "--only")?.split(",") ?? PARTS;
const rounds = quick ? 3 : 9;

const missing = ["smtp-source", "smtp-sink", "haproxy"].filter(
  (name) => spawnSync("which", [name]).status !== 0,
);
if (missing.length > 0) {
  console.error(`not here: ${missing.join(", ")} (Debian: postfix, haproxy)`);
  process.exit(1);
}

const processes = new Processes();
process.once("SIGINT", () => {
  processes.end();
  process.exit(130);
});
try {
  const sink = await processes.sink();
  const relays = await relaysOf(sink);
  const targets = [...relays, sink];
  // Compilers and caches first: nobody is measured cold.
  for (const target of targets) await warmUp(target);
  if (only.includes("speed")) await speed(targets);
  if (only.includes("tls")) await encrypted();
  if (only.includes("latency")) await latency(targets, 300, quick ? 5 : 20);
  if (only.includes("idle")) await idle(await relaysOf(sink), quick ? [1000] : [1000, 5000]);
} finally {
  processes.end();
}

/** New processes each time: a heap that load has grown says nothing about idle sessions. */
async function relaysOf(sink: Target): Promise<Target[]> {
  return [
    await processes.warp(sink.port),
    await processes.haproxy(sink.port),
    await processes.bare(sink.port),
  ];
}

async function speed(targets: readonly Target[]): Promise<void> {
  for (const [name, octets, messages, sessions] of quick ? SIZES.slice(1, 3) : SIZES) {
    for (const reused of [false, true]) {
      const load: Load = { octets, messages: quick ? messages / 2 : messages, sessions, reused };
      await compare(
        `${name}, ${reused ? "connections reused" : "a connection per message"}`,
        targets,
        load,
        rounds,
      );
    }
  }
}

async function warmUp(target: Target): Promise<void> {
  for (const reused of [false, true]) {
    await send(target, { octets: 4096, messages: quick ? 6000 : 30_000, sessions: 20, reused });
  }
}

/** warp encrypts towards the destination; the others cannot, and carry the same dialogue in plaintext. */
async function encrypted(): Promise<void> {
  const destination = await processes.tlsDestination();
  const targets = [
    await processes.warp(destination.port),
    await processes.warp(destination.port, ["--upstream-tls", "none"], "warp, no TLS"),
    await processes.haproxy(destination.port),
    destination,
  ];
  for (const target of targets) await warmUp(target);
  for (const [name, octets, messages] of [SIZES[1], SIZES[2]] as typeof SIZES) {
    for (const reused of [false, true]) {
      const load: Load = { octets, messages: messages / 4, sessions: 20, reused };
      const how = reused ? "connections reused" : "a connection per message";
      await compare(`TLS upstream (smtp-server), ${name}, ${how}`, targets, load, quick ? 2 : 5);
    }
  }
}
