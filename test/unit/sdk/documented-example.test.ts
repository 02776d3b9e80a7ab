/** The first example of docs/hooks.md runs as it is pasted, from a folder with nothing but the package. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ask, connect, temporaryFolder } from "./harness.ts";

test("the example of docs/hooks.md is a filter that runs as pasted", async (t) => {
  const docs = await readFile(new URL("../../../docs/hooks.md", import.meta.url), "utf8");
  const example = /cat > filter\.mts <<'END'\n(.*?)\nEND\n/s.exec(docs)?.[1];
  assert.ok(example, "docs/hooks.md has no example filter.mts");
  const folder = await temporaryFolder(t);
  // As `npm install` would leave it, but for the sources in place of dist/.
  const installed = join(folder, "node_modules", "warp");
  await mkdir(installed, { recursive: true });
  await symlink(fileURLToPath(new URL("../../../src", import.meta.url)), join(installed, "src"));
  await writeFile(
    join(installed, "package.json"),
    JSON.stringify({ name: "warp", exports: { "./hook": "./src/sdk/index.ts" } }),
  );
  await writeFile(join(folder, "filter.mts"), example.replace("127.0.0.1:7001", "127.0.0.1:0"));

  const child = spawn(process.execPath, ["filter.mts"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const exited = new Promise((resolve) => child.once("close", resolve));
  const said = child.stdout.setEncoding("utf8")[Symbol.asyncIterator]();
  const address = /^hello listens on (\S+)$/m.exec(String((await said.next()).value))?.[1];
  assert.ok(address, "it does not say where it listens");

  const client = connect(t, address);
  const clean = await ask(client, { mailFrom: { address: "ann@example.org" } }, [
    Buffer.from("A: b\r\n\r\nHello!\r\n"),
  ]);
  assert.ok(clean.response?.verdict.case === "addHeader");
  const edit = clean.response.verdict.value.edits[0]!.edit;
  assert.deepEqual(
    [edit.case, edit.case === "insert" && edit.value.name, edit.case === "insert" && edit.value.value],
    ["insert", "X-Checked-For", "ann@example.org"],
  );
  const spam = await ask(client, {}, [Buffer.from("A: b\r\n\r\nGTUBE\r\n")]);
  assert.ok(spam.response?.verdict.case === "reject" && spam.response.verdict.value.code === 550);
  child.kill("SIGTERM");
  assert.equal(await exited, 0);
});
