import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { welcome } from "../../../../src/cli/proxy/welcome.ts";
import { parseConfig } from "../../../../src/config/parse.ts";

describe("what a person is told at the start", () => {
  const { config } = parseConfig({}, { hostname: "host.example" });
  const commands = (argv: readonly string[], uid: number | undefined) =>
    [...welcome(config!, config!.listen, argv, uid).matchAll(/npx (warp rules.*?) {2}/g)].map(
      ([, text]) => text,
    );

  it("has the commands that bring traffic here, with the options that both need", () => {
    const argv = ["--port", "2525", "--verbose", "--client=10.0.0.0/8"];
    const same = " --port 2525 --client=10.0.0.0/8";
    assert.deepEqual(commands(argv, undefined), [
      `warp rules${same}`,
      `warp rules --apply${same}`,
      "warp rules --remove",
    ]);
  });

  it("lets the rules tell warp by its user where it may not mark its connections, or it would capture itself", () => {
    assert.deepEqual(commands([], 1000), [
      "warp rules --uid 1000",
      "warp rules --apply --uid 1000",
      "warp rules --remove",
    ]);
  });
});
