import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type CommandSpec, helpText, parseOptions, UsageError, wrap } from "../../../src/cli/options.ts";

const SPEC: CommandSpec = {
  name: "try",
  summary: "Try it",
  operands: [
    { name: "KIND", help: "What", choices: ["one", "two"] },
    { name: "FILE", help: "Files", optional: true, repeatable: true },
  ],
  options: [
    { name: "verbose", help: "Say more" },
    { name: "port", value: "PORT", help: "Port", default: "25" },
    { name: "ip", value: "ADDRESS", help: "Addresses", repeatable: true },
    { name: "mode", value: "MODE", help: "Mode", choices: ["slow", "fast"] },
    { name: "keep", value: "TIME", help: "How long" },
    { name: "size", value: "SIZE", help: "How much" },
    { name: "old", help: "Not shown", hidden: true },
  ],
};

/** A command line and what it says: [verbose, port, ip, operands]. */
const TAKEN: [
  argv: string[],
  verbose: boolean,
  port: string | undefined,
  ip: string[],
  operands: string[],
][] = [
  [["one"], false, undefined, [], ["one"]],
  [["-verbose", "one"], true, undefined, [], ["one"]],
  [["--verbose", "one"], true, undefined, [], ["one"]],
  [["-verbose=false", "one"], false, undefined, [], ["one"]],
  [["-verbose=T", "one"], true, undefined, [], ["one"]],
  [["-verbose", "-verbose=0", "one"], false, undefined, [], ["one"]],
  [["-port", "1", "one"], false, "1", [], ["one"]],
  [["-port=1", "one"], false, "1", [], ["one"]],
  [["--port", "1", "--port=2", "one"], false, "2", [], ["one"]],
  [["--port=a=b", "one"], false, "a=b", [], ["one"]],
  [["--port", "-5", "one"], false, "-5", [], ["one"]],
  [["--port=", "one"], false, "", [], ["one"]],
  [["-ip", "a", "one", "--ip=b"], false, undefined, ["a", "b"], ["one"]],
  [["two", "f", "-", "g"], false, undefined, [], ["two", "f", "-", "g"]],
  [["one", "--", "--verbose"], false, undefined, [], ["one", "--verbose"]],
];

const REFUSED: [argv: string[], message: RegExp][] = [
  [["--verbos", "one"], /--verbos is no option of warp try; the nearest is --verbose/],
  [["--zzzzzzzzzzzz", "one"], /--zzzzzzzzzzzz is no option of warp try$/],
  [["-verbose=maybe", "one"], /--verbose was "maybe", should be true or false/],
  [["one", "--port"], /--port needs a value: --port PORT/],
  [["--mode", "fsat", "one"], /--mode was "fsat", should be slow, fast; the nearest is fast/],
  [[], /KIND is missing; usage: warp try \[options\] KIND \[FILE…\]/],
  [["thre"], /"thre" should be one, two/],
  [["one", "---"], /"---" is no option/],
  [["one", "-=x"], /"-=x" is no option/],
];

describe("a command line", () => {
  for (const [argv, verbose, port, ip, operands] of TAKEN) {
    it(`is read as Go's flags are: ${argv.join(" ")}`, () => {
      const options = parseOptions(SPEC, argv);
      assert.deepEqual(
        [options.flag("verbose"), options.value("port"), options.list("ip"), options.operands],
        [verbose, port, ip, operands],
      );
    });
  }
  for (const [argv, message] of REFUSED) {
    it(`is refused: ${argv.join(" ") || "nothing"}`, () => {
      assert.throws(
        () => parseOptions(SPEC, argv),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    });
  }

  it("needs no operands where help is asked for", () => {
    for (const help of ["-h", "--help", "-help"]) assert.equal(parseOptions(SPEC, [help]).flag("help"), true);
  });

  it("keeps the order of options across their names", () => {
    const { occurrences } = parseOptions(SPEC, ["--ip", "a", "--port", "1", "--ip", "b", "one"]);
    assert.deepEqual(
      occurrences.map(({ name, value }) => `${name}=${value}`),
      ["ip=a", "port=1", "ip=b"],
    );
  });

  it("gives numbers, durations and sizes, or says what they should be", () => {
    const options = parseOptions(SPEC, ["--port", "25", "--keep", "30d", "--size", "1MiB", "one"]);
    assert.equal(options.number("port", 1, 65535), 25);
    assert.equal(options.durationMs("keep"), 30 * 86_400_000);
    assert.equal(options.octets("size"), 1_048_576);
    const wrong = parseOptions(SPEC, ["--port", "0", "--keep", "30", "--size", "x", "one"]);
    assert.throws(
      () => wrong.number("port", 1, 65535),
      /--port was "0", should be a whole number from 1 to 65535/,
    );
    assert.throws(() => wrong.durationMs("keep"), /--keep was "30", should be a duration/);
    assert.throws(() => wrong.octets("size"), /--size was "x", should be a number of octets/);
  });

  it("throws for an option that was never declared: that is a defect", () => {
    assert.throws(() => parseOptions(SPEC, ["one"]).value("prot"), TypeError);
  });
});

describe("the help", () => {
  it("names every option that isn't hidden, its default and choices, in lines that fit", () => {
    const help = helpText(SPEC);
    assert.match(help, /^Usage: warp try \[options\] KIND \[FILE…\]\n\nTry it\.\n/);
    assert.match(help, /--port PORT +Port \(default 25\)/);
    assert.match(help, /--mode MODE +Mode \(slow, fast\)/);
    assert.match(help, /--ip ADDRESS +Addresses \(repeatable\)/);
    assert.match(help, /--help +Show this help/);
    assert.doesNotMatch(help, /--old/);
    for (const line of help.split("\n")) assert.ok(line.length <= 100, line);
  });

  it("wraps without losing a word", () => {
    const text = "one two three four five six seven";
    assert.equal(wrap(text, 10).join(" "), text);
    assert.ok(wrap(text, 10).every((line) => line.length <= 10));
  });
});
