/**
 * Fuzzes both sides of the dialogue, in this process: `npm run fuzz -- --seconds 600 [--seed N] [--once]`. First the committed
 * corpus (seeds that once found something, or reach far), then new seeds until the time is up. A seed that breaches a promise
 * is printed; put it into corpus/seeds.txt with the fix.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { fuzzDialogue, fuzzGarbage, fuzzStubborn } from "./dialogue-run.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string" }, seed: { type: "string" }, once: { type: "boolean" } },
});
const endsAt = performance.now() + 1000 * Number(values.seconds ?? "60");
let seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const corpus = readFileSync(new URL("corpus/seeds.txt", import.meta.url), "utf8")
  .split("\n")
  .map((line) => line.replace(/#.*/, "").trim())
  .filter((line) => line !== "")
  .map(Number);

let runs = 0;
let failures = 0;
let current = 0;
process.on("unhandledRejection", (error) => {
  process.stdout.write(
    `seed ${current}: unhandled ${error instanceof Error ? error.stack : String(error)}\n`,
  );
  process.exitCode = 1;
  failures++;
});

async function run(one: number): Promise<void> {
  current = one;
  for (const [name, fuzz] of [
    ["dialogue", fuzzDialogue],
    ["stubborn", fuzzStubborn],
    ["garbage", fuzzGarbage],
  ] as const) {
    runs++;
    const breaches = await fuzz(one).catch((error: Error) => [error.stack ?? error.message]);
    if (breaches.length === 0) continue;
    failures++;
    process.stdout.write(`seed ${one} (${name}):\n${breaches.map((text) => `  ${text}\n`).join("")}`);
    if (failures >= 10) return;
  }
}

if (values.once === true) await run(seed);
else {
  for (const one of corpus) await run(one);
  while (performance.now() < endsAt && failures < 10) await run(seed++);
}
process.stdout.write(`${runs} sessions fuzzed, ${failures} with a breach (last seed ${seed})\n`);
process.exitCode = failures > 0 ? 1 : 0;
