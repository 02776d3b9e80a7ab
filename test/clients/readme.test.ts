/**
 * The first example of each client's README, as pasted into a shell in an empty directory. Changed is only the port, and
 * for Python that the package is installed already (making a virtual environment needs the network).
 */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { freePort, type Language, languages } from "./support/hooks.ts";
import { environment, finished, main, Program, root, unavailable } from "./support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-readme-"));
const field: Record<Language, string> = { python: "ann@example.org", go: "<ann@example.org>" };

describe("the READMEs of the clients", { skip: unavailable("python3", "go") }, () => {
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const language of languages) {
    it(`of ${language} begins with a filter that works as pasted`, { timeout: 300_000 }, async () => {
      const readme = readFileSync(join(root, "clients", language, "README.md"), "utf8");
      const [, example = ""] = /```sh\n([\s\S]*?)```/.exec(readme) ?? [];
      const port = await freePort();
      assert.match(example, /127\.0\.0\.1:7001/);
      const pasted = example
        .replace("127.0.0.1:7001", `127.0.0.1:${port}`)
        .replace(/^python3 -m venv .*\npip install .*\n/m, "")
        .replace(/(python filter\.py|\.\/hello)\n$/, "exec $1\n");
      const empty = join(folder, language);
      mkdirSync(empty);
      const shell = new Program("sh", ["-ec", pasted], empty, { ...environment, WARP: root });
      try {
        await shell.line(/hello listens on/);
        const file = join(folder, "message.eml");
        const send = async (message: string) => {
          writeFileSync(file, message);
          const from = ["--from", "ann@example.org"];
          return finished(process.execPath, [main, "hook-send", `127.0.0.1:${port}`, file, ...from]);
        };
        const tagged = await send("Subject: Hello\r\n\r\nHello!\r\n");
        assert.ok(tagged.output.includes(`+X-Checked-For: ${field[language]}`), tagged.output);
        const refused = await send("Subject: Hello\r\n\r\nGTUBE\r\n");
        assert.match(refused.output, /550 5\.7\.1 Message looks like spam/);
      } finally {
        assert.equal(await shell.stop(), 0, shell.output);
      }
    });
  }
});
