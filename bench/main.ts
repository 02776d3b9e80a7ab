/** `npm run bench`: the relay's speed, or another benchmark by its name; `--list` names them. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const BENCHES: Readonly<Record<string, string>> = {
  relay:
    "messages per second, CPU, latency, memory against HAProxy, a bare relay, no relay (--quick, --only PARTS)",
  hooks: "throughput and CPU with hooks (--quick, --only observers,filters,large,saturation)",
  reputation: "reputation and the choice of the source IP (--quick, --only decision,throughput,mixed)",
  sinks: "events per second into each sink (--quick, --only file,sqlite,both,mysql)",
  "sinks-throughput": "the proxy's throughput with the bundled sinks (--quick, --only connections,reused)",
  "event-encoding": "the encoding of one event",
};

const [first = "", ...rest] = process.argv.slice(2);
const named = Object.hasOwn(BENCHES, first);
if (first === "--list" || first === "--help") list();
else if (first !== "" && !named && !first.startsWith("-")) {
  console.error(`no benchmark is called ${first}`);
  list();
  process.exitCode = 2;
} else run(named ? first : "relay", named ? rest : process.argv.slice(2));

function list(): void {
  for (const [name, what] of Object.entries(BENCHES))
    console.log(`npm run bench -- ${name.padEnd(17)} ${what}`);
}

function run(name: string, argv: readonly string[]): void {
  const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, [file, ...argv], { stdio: "inherit" });
  child.on("exit", (status, signal) => {
    process.exitCode = status ?? (signal === null ? 0 : 1);
  });
}
