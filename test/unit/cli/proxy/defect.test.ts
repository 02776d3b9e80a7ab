/** A defect of ours ends the process, with its stack in the log: nothing goes on in a state that nobody knows. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const observation = fileURLToPath(new URL("../../../../src/cli/proxy/observation.ts", import.meta.url));

function dies(fault: string) {
  const program = `
    import { endOnDefect, observe } from ${JSON.stringify(observation)};
    endOnDefect(observe({ log: { level: "info", format: "json", verbose: false } }, "1", 3));
    setInterval(() => {}, 1000);
    function faulty() { throw new Error("a bug"); }
    setTimeout(() => { ${fault} }, 10);`;
  return spawnSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    encoding: "utf8",
    timeout: 20_000,
  });
}

describe("a defect", () => {
  for (const [name, fault] of [
    ["thrown in a callback", "faulty()"],
    ["in a promise that nobody waits for", "Promise.resolve().then(faulty)"],
  ] as const) {
    it(`${name} is logged with its stack and ends the process`, () => {
      const { status, stderr } = dies(fault);
      assert.equal(status, 70, stderr);
      const record = JSON.parse(stderr.split("\n")[0] ?? "") as Record<string, unknown>;
      assert.equal(record.code, "defect");
      assert.equal(record.worker, 3);
      assert.equal(record.error, "a bug");
      assert.match(String(record.stack), /faulty/);
    });
  }
});
