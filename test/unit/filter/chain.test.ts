import assert from "node:assert/strict";
import { test } from "node:test";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { BREAKER_OPEN_MS } from "../../../src/filter/breaker.ts";
import { type CallResult, type CallTerms, createChain, type FilterHook } from "../../../src/filter/chain.ts";
import { type FilterEnvelope, type HeldMessage, HoldFull } from "../../../src/filter/contract.ts";
import type { RawVerdict } from "../../../src/filter/verdict.ts";
import { OWN } from "../../../src/smtp/own-replies.ts";
import { contentOf, envelope, PlainMessage, PlainStore } from "./fixtures.ts";

const MESSAGE = "Subject: hello\r\n\r\nbody\r\n";

type Say = (message: string, terms: CallTerms, envelope: FilterEnvelope) => CallResult | Promise<CallResult>;
const says = (verdict: RawVerdict["verdict"], remarks: Partial<RawVerdict> = {}): CallResult => ({
  ok: true,
  sawWhole: true,
  response: { score: 0, tags: [], note: "", ...remarks, verdict },
});
const relay = says({ case: "relay", value: {} });
const adds = (name: string, value: string) =>
  says({ case: "addHeader", value: { edits: [{ edit: { case: "add", value: { name, value } } }] } });
const replaces = (message: string) =>
  says({ case: "replace", value: { message: Buffer.from(message, "latin1") } });
const rejects = says({ case: "reject", value: { code: 550, enhancedCode: "5.7.1", text: "spam" } });
const fails: CallResult = { ok: false, cause: "closed", detail: "gone" };

function hook(name: string, say: Say, settings: Partial<FilterHook> = {}): FilterHook {
  return {
    name,
    deadlineMs: 30_000,
    onFailure: "tempfail",
    enforce: true,
    when: () => true,
    isFilter: true,
    call: async (message, given, terms) => say(await contentOf(message), terms, given),
    ...settings,
  };
}

function setUp(hooks: readonly FilterHook[], settings: { discard?: boolean } = {}) {
  let time = 0;
  const store = new PlainStore();
  const told: string[] = [];
  const chain = createChain({
    hooks,
    store,
    budgetMs: 120_000,
    discard: settings.discard ?? false,
    now: () => time,
    telemetry: {
      ...noTelemetry,
      hookFailure: (name, cause, applied) => told.push(`${name} ${cause} ${applied}`),
      hookVerdict: (name, verdict, shadow) => told.push(`${name} ${verdict}${shadow ? " shadow" : ""}`),
    },
  });
  const message = new PlainMessage(MESSAGE);
  const run = (changes: Partial<FilterEnvelope> = {}, held: HeldMessage = message, timeLeftMs = 540_000) =>
    chain.run(held, envelope(changes), timeLeftMs, new AbortController().signal);
  return { chain, run, store, message, told, pass: (ms: number) => (time += ms) };
}

test("without hooks that filter, no message is held", () => {
  assert.equal(setUp([]).chain.required, false);
  assert.equal(setUp([hook("a", () => relay, { isFilter: false })]).chain.required, false);
  assert.equal(setUp([hook("a", () => relay)]).chain.required, true);
});

test("each filter sees what the one before it made", async () => {
  const seen: string[] = [];
  const { run, store, message } = setUp([
    hook("a", () => adds("X-A", "1")),
    hook("b", (text) => {
      seen.push(text);
      return replaces(text.replace("body", "other"));
    }),
    hook("c", (text) => {
      seen.push(text);
      return adds("X-C", "3");
    }),
  ]);
  const result = await run();
  assert.ok(result.kind === "relay");
  assert.deepEqual(seen, [
    "Subject: hello\r\nX-A: 1\r\n\r\nbody\r\n",
    "Subject: hello\r\nX-A: 1\r\n\r\nother\r\n",
  ]);
  assert.equal(await contentOf(result.message), "Subject: hello\r\nX-A: 1\r\nX-C: 3\r\n\r\nother\r\n");
  assert.equal(result.message.octets, Buffer.byteLength(await contentOf(result.message)));
  assert.deepEqual(
    result.outcomes.map(({ hook: name, verdict }) => `${name} ${verdict}`),
    ["a add_header", "b replace", "c add_header"],
  );
  result.message.release();
  assert.equal(store.leaked, 0);
  assert.ok(message.releases > 0);
});

test("edits of several filters keep the body where it is", async () => {
  const big = `Subject: x\r\n\r\n${"line\r\n".repeat(50_000)}`;
  const { run, store } = setUp(["a", "b", "c"].map((name) => hook(name, () => adds(`X-${name}`, name))));
  const result = await run({}, new PlainMessage(big));
  assert.ok(result.kind === "relay");
  assert.equal(
    await contentOf(result.message),
    big.replace("\r\n\r\n", "\r\nX-a: a\r\nX-b: b\r\nX-c: c\r\n\r\n"),
  );
  assert.ok(
    store.made.every((made) => made.octets < 200),
    "a header section is all that was made",
  );
});

test("the first rejection ends the chain, and everything is released", async () => {
  let asked = 0;
  const { run, store, message } = setUp([
    hook("a", () => adds("X-A", "1")),
    hook("b", () => rejects),
    hook("c", () => {
      asked++;
      return relay;
    }),
  ]);
  const result = await run();
  assert.ok(result.kind === "reject");
  assert.deepEqual(result.reply, { code: 550, enhancedCode: "5.7.1", text: "spam" });
  assert.deepEqual([result.hook, result.origin, asked, store.leaked], ["b", "hook", 0, 0]);
  assert.ok(message.releases > 0);
  assert.equal(result.outcomes[1]?.reply?.text.toString(), "550 5.7.1 spam");
});

for (const [cause, answer] of [
  ["absent", { ok: false, cause: "absent", detail: "x" }],
  ["refused", { ok: false, cause: "refused", detail: "x" }],
  ["deadline", { ok: false, cause: "deadline", detail: "x" }],
  ["closed", { ok: false, cause: "closed", detail: "x" }],
  ["invalid", says({ case: undefined })],
  ["invalid", adds("X\r\nBcc", "x")],
  ["invalid", adds("X", "a\r\n\r\nbody")],
  ["invalid", replaces("a\nb\r\n")],
  ["invalid", says({ case: "discard", value: {} })],
  ["invalid", says({ case: "reject", value: { code: 250, enhancedCode: "2.0.0", text: "ok" } })],
] as const) {
  test(`a filter that fails (${cause}) does what its on_failure says`, async () => {
    for (const onFailure of ["tempfail", "reject", "accept"] as const) {
      const { run, told } = setUp([hook("f", () => answer as CallResult, { onFailure })]);
      const result = await run();
      assert.deepEqual(told, [`f ${cause} ${onFailure}`]);
      assert.ok(result.outcomes[0]?.failure.startsWith(`${cause}: `));
      assert.equal(result.outcomes[0]?.onFailure, onFailure);
      if (onFailure === "accept") {
        assert.ok(result.kind === "relay");
        assert.equal(await contentOf(result.message), `X-Warp-Filter-Skipped: f\r\n${MESSAGE}`);
      } else {
        assert.ok(result.kind === "reject");
        const { code, enhancedCode } = result.reply;
        assert.equal(
          `${code} ${enhancedCode} ${result.origin}`,
          onFailure === "tempfail" ? "451 4.7.1 warp" : "554 5.7.1 warp",
        );
        const own = onFailure === "tempfail" ? OWN.filterTempfail : OWN.filterReject;
        assert.equal(`${result.outcomes[0]?.reply?.text}\r\n`, own.wire.toString());
      }
    }
  });
}

test("a skipped filter is named also in a message whose header is too long to edit", async () => {
  const long = `${`X-Long: ${"x".repeat(900)}\r\n`.repeat(700)}\r\nbody`;
  const { run } = setUp([hook("f", () => fails, { onFailure: "accept" })]);
  const result = await run({}, new PlainMessage(long));
  assert.ok(result.kind === "relay");
  assert.equal(await contentOf(result.message), `X-Warp-Filter-Skipped: f\r\n${long}`);
});

const LONG_HEADER = `${`X-Long: ${"x".repeat(900)}\r\n`.repeat(700)}\r\nbody`;
const inserts = (name: string, value: string) =>
  says({ case: "addHeader", value: { edits: [{ edit: { case: "insert", value: { name, value } } }] } });

test("a field is put on top of a header section of any length, behind an mbox line", async () => {
  for (const [before, rest] of [
    ["", LONG_HEADER],
    ["From a@b Thu Jan  1 00:00:00 1970\r\n", LONG_HEADER],
    ["", `X-Long: ${"x".repeat(600_000)}\r\n\r\nbody`],
  ] as const) {
    const { run, store } = setUp([hook("f", () => inserts("X-Spam", "yes"))]);
    const result = await run({}, new PlainMessage(before + rest, 700));
    assert.ok(result.kind === "relay");
    assert.equal(await contentOf(result.message), `${before}X-Spam: yes\r\n${rest}`);
    assert.ok(store.made.every(({ octets }) => octets < 70_000));
  }
});

test("other edits of a header section of over 512 KiB are a failure that says so", async () => {
  const { run } = setUp([hook("f", () => adds("X-Spam", "yes"))]);
  const result = await run({}, new PlainMessage(LONG_HEADER));
  assert.equal(result.kind, "reject");
  assert.match(result.outcomes[0]?.failure ?? "", /^invalid: header section of more than 524288 octets/);
});

test("a skipped filter is named above a long body without a header section, and not within it", async () => {
  const body = `${"text ".repeat(15)}\r\n`.repeat(8000);
  for (const content of [body, "x".repeat(600_000), `From ${"x".repeat(600_000)}\r\n`]) {
    const { run } = setUp([hook("f", () => fails, { onFailure: "accept" })]);
    const result = await run({}, new PlainMessage(content));
    assert.ok(result.kind === "relay");
    assert.equal(await contentOf(result.message), `X-Warp-Filter-Skipped: f\r\n\r\n${content}`);
  }
});

test("the name of a skipped filter is left out where the message has no room for it", async () => {
  const { run } = setUp([hook("f", () => fails, { onFailure: "accept" })]);
  const result = await run({ maxOctets: MESSAGE.length + 10 });
  assert.ok(result.kind === "relay");
  assert.equal(await contentOf(result.message), MESSAGE);
});

test("a shadow filter is asked and not obeyed, also when it fails", async () => {
  for (const answer of [rejects, adds("X", "1"), replaces("A: 1\r\n"), fails]) {
    const { run } = setUp([hook("s", () => answer, { enforce: false, onFailure: "reject" })]);
    const result = await run();
    assert.ok(result.kind === "relay");
    assert.equal(await contentOf(result.message), MESSAGE);
    assert.equal(result.outcomes[0]?.shadow, true);
    assert.equal(result.outcomes[0]?.onFailure, "");
  }
});

test("a filter is not asked for mail that its conditions leave out", async () => {
  const { run } = setUp([hook("w", () => rejects, { when: (_, octets) => octets > 1000 })]);
  assert.equal((await run()).kind, "relay");
});

test("discard ends the chain where it is enabled", async () => {
  const { run, message } = setUp([hook("d", () => says({ case: "discard", value: {} }))], { discard: true });
  const result = await run();
  assert.equal(result.kind, "discard");
  assert.ok(message.releases > 0);
});

test("edits that make the message too large fail, and leave it as it was", async () => {
  const { run, store } = setUp([hook("f", () => adds("X", "y".repeat(50)), { onFailure: "accept" })]);
  const result = await run({ maxOctets: MESSAGE.length + 40 });
  assert.ok(result.kind === "relay");
  assert.equal(await contentOf(result.message), `X-Warp-Filter-Skipped: f\r\n${MESSAGE}`);
  result.message.release();
  assert.equal(store.leaked, 0);
});

test("a replacement may keep the long lines that were there, and make none", async () => {
  const long = "x".repeat(2000);
  const held = () => new PlainMessage(`A: 1\r\n\r\n${long}\r\n`, 700);
  const keeps = await setUp([hook("k", () => replaces(`B: 1\r\n\r\n${long}\r\n`))]).run({}, held());
  assert.equal(keeps.kind, "relay");
  const makes = await setUp([hook("m", () => replaces(`B: 1\r\n\r\n${long}y\r\n`))]).run({}, held());
  assert.equal(makes.kind, "reject");
});

test("a replacement may keep the 8-bit octets that came unannounced, and make none", async () => {
  const made = () => hook("f", () => replaces("B: 1\r\n\r\n\xe9\r\n"));
  const keeps = await setUp([made()]).run({}, new PlainMessage("A: 1\r\n\r\n\xe8\r\n"));
  assert.equal(keeps.kind, "relay");
  const makes = await setUp([made()]).run();
  assert.equal(makes.kind, "reject");
});

test("in shadow mode edits that could not be made are a failure, as they will be when enforced", async () => {
  const { run, told, message } = setUp([hook("s", () => adds("X", "y".repeat(50)), { enforce: false })]);
  const result = await run({ maxOctets: MESSAGE.length + 40 });
  assert.ok(result.kind === "relay" && result.message === message);
  assert.match(result.outcomes[0]?.failure ?? "", /^invalid: message of/);
  assert.equal(told.at(-1), "s invalid none");
});

test("each hook has the smaller of its deadline and what is left of the chain", async () => {
  const given: number[] = [];
  const { run, pass, told } = setUp([
    hook("a", (_, { deadlineMs }) => {
      given.push(deadlineMs);
      pass(100_000);
      return relay;
    }),
    hook("b", (_, { deadlineMs }) => {
      given.push(deadlineMs);
      pass(20_000);
      return relay;
    }),
    hook("c", () => relay),
  ]);
  const result = await run();
  assert.deepEqual(given, [30_000, 20_000]);
  assert.ok(result.kind === "reject" && result.origin === "warp");
  assert.equal(told.at(-1), "c deadline tempfail");
  await run({}, new PlainMessage(MESSAGE), 5000);
  assert.equal(given[2], 5000);
});

test("five deadline failures in a row make a hook fail at once, until a call tries it again", async () => {
  let asked = 0;
  let unresponsive = 0;
  const slow = hook(
    "slow",
    () => {
      asked++;
      return { ok: false, cause: "deadline", detail: "" };
    },
    { unresponsive: () => unresponsive++ },
  );
  const { run, told, pass } = setUp([slow]);
  for (let i = 0; i < 7; i++) await run({}, new PlainMessage(MESSAGE));
  assert.deepEqual([asked, unresponsive], [5, 1]);
  assert.equal(told.at(-1), "slow breaker tempfail");
  pass(BREAKER_OPEN_MS);
  await run({}, new PlainMessage(MESSAGE));
  assert.equal(asked, 6);
});

test("no room for what a filter made is told with its verdict, and no failure of the hook", async () => {
  const { run, store, told, message } = setUp([hook("a", () => adds("X", "1"))]);
  store.full = new HoldFull("no room");
  const result = await run();
  assert.equal(result.kind, "no_storage");
  assert.deepEqual(told, ["a add_header"]);
  assert.deepEqual(
    result.outcomes.map(({ hook: name, verdict, failure }) => [name, verdict, failure]),
    [["a", "add_header", ""]],
  );
  assert.ok(message.releases > 0);
});

test("a hook that has just said that it does not filter is passed by", async () => {
  const result = await setUp([hook("o", () => ({ ok: "not_a_filter" }))]).run();
  assert.equal(result.kind, "relay");
  assert.deepEqual(result.outcomes, []);
});

test("score, tags and note go into the outcome, and later filters see it", async () => {
  let earlier: readonly unknown[] = [];
  const { run } = setUp([
    hook("a", () => says({ case: "relay", value: {} }, { score: 4.5, tags: ["bulk"], note: "why" })),
    hook("b", (_, terms) => {
      earlier = [...terms.earlier];
      return relay;
    }),
  ]);
  const result = await run();
  assert.deepEqual(
    [result.outcomes[0]?.score, result.outcomes[0]?.tags, result.outcomes[0]?.note],
    [4.5, ["bulk"], "why"],
  );
  assert.deepEqual(earlier, [result.outcomes[0]]);
});
