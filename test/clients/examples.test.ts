/** Each example of each client, driven through the protocol by `warp hook-check` and `warp hook-send`. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { buildGoExamples, type Example, languages, Running } from "./support/hooks.ts";
import { finished, main, unavailable } from "./support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-clients-"));
const flags: Record<Example, string[]> = {
  "header-tagger": [],
  dlp: [],
  audit: ["--file", join(folder, "audit.jsonl")],
  route: ["--bulk-domain", "news.example", "--suspended", "bad.example"],
};

describe("the examples of the clients", { skip: unavailable("python3", "go") }, () => {
  before(() => buildGoExamples(folder), { timeout: 300_000 });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const language of languages) {
    for (const name of Object.keys(flags) as Example[]) {
      it(`${name} in ${language} keeps what the protocol promises`, async () => {
        await using running = new Running(folder);
        const { program, address } = await running.example(language, name, flags[name]);
        const checked = await finished(process.execPath, [main, "hook-check", address]);
        assert.equal(checked.status, 0, checked.output);
        assert.match(checked.output, /promises hold/);
        assert.equal(await program.stop(), 0, program.output);
      });
    }

    it(`dlp in ${language} rejects a real message that hook-send shows it, over TCP`, async () => {
      await using running = new Running(folder);
      const { address } = await running.example(language, "dlp", [], "127.0.0.1:0");
      const file = join(folder, "card.eml");
      writeFileSync(file, "Subject: x\r\n\r\nCard 4111 1111 1111 1111\r\n");
      const sent = await finished(process.execPath, [main, "hook-send", address, file]);
      assert.match(sent.output, /550 5\.7\.1 Message contains a payment card number/);
      assert.doesNotMatch(sent.output.replace(/^[-+ ].*$/gm, ""), /4111/);
    });
  }
});
