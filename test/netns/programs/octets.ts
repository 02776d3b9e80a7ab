/** A client that writes its standard input to port 25 of ADDRESS in one piece, and prints the last line of each reply. */

import { readFileSync } from "node:fs";
import { talk } from "../../clients/support/talk.ts";

const [host = ""] = process.argv.slice(2);
for (const line of await talk(25, readFileSync(0, "latin1"), host)) console.log(line);
