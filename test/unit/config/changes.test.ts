import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parse as parseYaml } from "yaml";
import { changedSections, changesThatNeedRestart } from "../../../src/config/changes.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import type { Config } from "../../../src/config/schema.ts";

function configOf(yaml: string): Config {
  const result = parseConfig(parseYaml(yaml), { hostname: "h" });
  assert.ok(result.config !== undefined, JSON.stringify(result));
  return result.config;
}

describe("changes of the configuration", () => {
  const cases: [before: string, after: string, restart: string[], sections: string[]][] = [
    ["", "", [], []],
    ["workers: 1", "workers: 2", ["workers"], ["workers"]],
    ["", "timeouts: { dial: 5s }", [], ["timeouts"]],
    ["timeouts: { dial: 25s }", "", [], []],
    ["", "log: { level: debug }", [], ["log"]],
    ["", "log: { format: text }", ["log.format"], ["log"]],
    ["", "listen: 127.0.0.1:1", ["listen"], ["listen", "listenIsDefault"]],
    ["sqlite: { dsn: /a }", "sqlite: { dsn: /b }", [], ["sqlite"]],
    ["sqlite: { dsn: /a }\nplugins: sqlite", "sqlite: { dsn: /b }\nplugins: sqlite", ["sqlite"], ["sqlite"]],
    ["", "capture: { ports: [25, 2525] }", [], ["capture"]],
    ["", "capture: { mode: tproxy }", ["capture.mode"], ["capture"]],
  ];
  for (const [before, after, restart, sections] of cases) {
    it(`from "${before}" to "${after}" need ${restart.length === 0 ? "no restart" : `a restart for ${restart.join()}`}`, () => {
      assert.deepEqual(changesThatNeedRestart(configOf(before), configOf(after)), restart);
      assert.deepEqual(changedSections(configOf(before), configOf(after)), sections);
    });
  }
});
