/** A process that emits events until it is killed, and says on stdout which (so that the test knows what it told of). */
import { writeSync } from "node:fs";
import { comm } from "../../unit/hooks/events.ts";
import { assemble, hookSettings } from "./server.ts";

const [address = "", dir = "", round = ""] = process.argv.slice(2);
const { hooks } = assemble([hookSettings("o", address, { roles: ["observe"] })], {
  journal: { dir, maxSizeOctets: 100_000_000, fsyncMs: 1000 },
});
await hooks.start();
let count = 0;
const begin = performance.now();
setInterval(() => {
  let said = "";
  for (let i = 0; i < 20; i++) {
    const name = `${round}.${count++}.${Math.round(performance.now() - begin)}`;
    hooks.sinks[0]?.emit(comm({ data: Buffer.from(name) }));
    said += `${name} ${Date.now()}\n`;
  }
  writeSync(1, said);
}, 1);
