/** `warp hook rspamd` in front of a real Rspamd: what it says of real messages becomes what the proxy would do. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { HookConnection } from "../../src/cli/hook-check/connection.ts";
import { type EnvelopeFields, envelope, session } from "../../src/cli/hook-check/samples.ts";
import { checkHook } from "../../src/cli/hook-check.ts";
import { type Judged, validateVerdict } from "../../src/filter/verdict.ts";
import { type RunningServer, serveKinds } from "../../src/hookservers/server.ts";
import { parseAddress } from "../../src/sdk/index.ts";
import { hasRspamd, type Rspamd, startRspamd } from "./rspamd-server.ts";

const missing = hasRspamd() ? false : "rspamd is missing";
if (missing && process.env.CI === "true") throw new Error(missing);

const GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
let rspamd: Rspamd;
let hook: RunningServer;
let connection: HookConnection;
let folder: string;

before(async () => {
  if (missing) return;
  folder = await mkdtemp(join(tmpdir(), "warp-rspamd-hook-"));
  rspamd = await startRspamd();
  hook = await serveKinds({
    kinds: ["rspamd"],
    listen: `unix:${folder}/hook.sock`,
    settings: { rspamd: { url: rspamd.url, timeoutMs: 20_000 } },
    context: { env: {}, log: () => undefined, now: Date.now },
  });
  connection = new HookConnection(parseAddress(hook.address), undefined, 20_000);
});
after(async () => {
  if (missing) return;
  connection.close();
  await hook.close(0);
  await rspamd.stop();
  await rm(folder, { recursive: true, force: true });
});

async function verdict(
  fields: string[],
  body = "hello\r\n",
  more: EnvelopeFields = {},
): Promise<Judged & { ok: true }> {
  const head = [
    "From: a@example.org",
    "To: b@example.net",
    "Subject: hi",
    "Message-ID: <1@example.org>",
    ...fields,
  ];
  const message = Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
  const { outcome } = await connection.ask(envelope(message, more), message);
  assert.ok("response" in outcome, JSON.stringify(outcome));
  const rules = {
    smtputf8: false,
    eightBit: true,
    maxOctets: undefined,
    discardAllowed: more.discardAllowed ?? false,
    sawWhole: true,
  };
  const judged = validateVerdict(outcome.response, rules);
  assert.ok(judged.ok, JSON.stringify(judged));
  return judged;
}
const replyOf = ({ verdict }: Judged & { ok: true }): string =>
  verdict.kind === "reject"
    ? `${verdict.reply.code} ${verdict.reply.enhancedCode} ${verdict.reply.text}`
    : verdict.kind;

test("real Rspamd", { skip: missing }, async (t) => {
  await t.test("relays an ordinary message, with its score", async () => {
    const judged = await verdict(["X-Test-Score: 1.5"]);
    assert.equal(replyOf(judged), "relay");
    assert.equal(judged.remarks.score, 1.5);
    assert.deepEqual(judged.remarks.tags, ["TEST_SCORE"]);
    assert.equal(judged.remarks.note, "no action 1.5/15");
  });
  await t.test("rejects GTUBE, in its own words", async () => {
    assert.equal(replyOf(await verdict([], `${GTUBE}\r\n`)), "550 5.7.1 Gtube pattern");
  });
  await t.test("rejects beyond the score for it", async () => {
    const judged = await verdict(["X-Test-Score: 20"]);
    assert.equal(replyOf(judged), "550 5.7.1 Message rejected");
    assert.equal(judged.remarks.score, 20);
  });
  await t.test("defers what a rule soft rejects, and what its greylist score asks for", async () => {
    assert.equal(replyOf(await verdict(["X-Test-Action: soft reject"])), "451 4.7.1 Said by a rule");
    assert.match(replyOf(await verdict(["X-Test-Score: 5"])), /^451 4\.7\.1 Greylisted/);
  });
  await t.test("marks spam in the header", async () => {
    const { verdict: marked } = await verdict(["X-Test-Score: 7", "X-Spam: No"]);
    assert.deepEqual(marked.kind === "add_header" && marked.edits, [
      { kind: "remove", name: "X-Spam", occurrence: 0 },
      { kind: "insert", name: "X-Spam", value: "Yes" },
      { kind: "remove", name: "X-Spam-Score", occurrence: 0 },
      { kind: "insert", name: "X-Spam-Score", value: "7" },
    ]);
  });
  await t.test("rewrites the subject", async () => {
    const { verdict: rewritten } = await verdict(["X-Test-Score: 9"]);
    assert.deepEqual(rewritten.kind === "add_header" && rewritten.edits, [
      { kind: "set", name: "Subject", value: "***SPAM*** hi", occurrence: 1 },
    ]);
  });
  await t.test("discards only where the proxy allows it", async () => {
    assert.equal(replyOf(await verdict(["X-Test-Action: discard"])), "550 5.7.1 Said by a rule");
    assert.equal(
      replyOf(await verdict(["X-Test-Action: discard"], "x\r\n", { discardAllowed: true })),
      "discard",
    );
  });
  await t.test("sees the envelope, and its milter headers are applied", async () => {
    const more: EnvelopeFields = {
      transactionId: "01QUEUEID",
      session: {
        ...session(),
        client: { ip: "2001:db8::7", port: 1 },
        helo: Buffer.from("mail.example.org"),
        authUser: "u1",
      },
      mailFrom: { address: "bounce@example.org" },
      recipients: [{ address: "b@example.net" }, { address: "c@example.net" }],
    };
    const { verdict: edited } = await verdict(["X-Test-Milter: 1"], "x\r\n", more);
    assert.ok(edited.kind === "add_header");
    const inOrderOfName = [...edited.edits].sort((a, b) => a.name.localeCompare(b.name)); // Rspamd's order varies
    assert.deepEqual(inOrderOfName, [
      { kind: "add", name: "X-Last", value: "end" },
      {
        kind: "insert",
        name: "X-Seen",
        value: "2001:db8::7|mail.example.org|u1|bounce@example.org|b@example.net+c@example.net|01QUEUEID|105",
      },
      { kind: "remove", name: "X-Test-Milter", occurrence: 0 },
    ]);
  });
  await t.test("the null sender is one", async () => {
    const { verdict: edited } = await verdict(["X-Test-Milter: 1"], "x\r\n", { mailFrom: { address: "" } });
    const seen = edited.kind === "add_header" && edited.edits.find(({ name }) => name === "X-Seen");
    assert.ok(seen && seen.kind === "insert", JSON.stringify(edited));
    assert.match(seen.value, /^192\.0\.2\.10\|client\.example\.org\|\|\|bob@example\.net/);
  });
  await t.test("keeps every promise of the protocol, with 10 MB and 20 messages at once", async () => {
    const report = await checkHook({
      address: hook.address,
      timeoutMs: 20_000,
      largeOctets: 10_000_000,
      tls: undefined,
    });
    assert.deepEqual(report.broken, []);
    assert.ok(report.findings.length > 15);
  });
  await t.test("is down: the hook fails, and nothing is relayed for it", async () => {
    await rspamd.stop();
    const { outcome } = await connection.ask(
      envelope(Buffer.from("A: b\r\n\r\n")),
      Buffer.from("A: b\r\n\r\n"),
    );
    assert.ok("error" in outcome);
    assert.match(outcome.error.details, /ECONNREFUSED/);
  });
});
