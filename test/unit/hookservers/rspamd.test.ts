import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { validateVerdict } from "../../../src/filter/verdict.ts";
import { BeforeRelayResponseSchema, EnvelopeSchema } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { openRspamd, requestHeaders } from "../../../src/hookservers/rspamd.ts";
import { type RspamdAnswer, verdictOf } from "../../../src/hookservers/rspamd-verdict.ts";
import { parseHeader } from "../../../src/sdk/index.ts";
import { ask, start } from "../sdk/harness.ts";

const header = parseHeader(
  Buffer.from("Received: a\r\nX-Old: 1\r\nReceived: b\r\nSubject: hi\r\nX-Old: 2\r\n\r\n"),
);
const rules = { smtputf8: false, eightBit: true, maxOctets: undefined, discardAllowed: true, sawWhole: true };

/** The verdict as the proxy reads it; every one has to be valid. */
function judged(
  answer: RspamdAnswer,
  { discardAllowed = false, greylist = "tempfail" as "tempfail" | "relay" } = {},
) {
  const verdict = verdictOf(answer, header, discardAllowed, { greylist });
  const result = validateVerdict(create(BeforeRelayResponseSchema, verdict), rules);
  assert.ok(result.ok, JSON.stringify(result));
  return result;
}
const reply = (answer: RspamdAnswer, options = {}) => {
  const { verdict } = judged(answer, options);
  return verdict.kind === "reject"
    ? `${verdict.reply.code} ${verdict.reply.enhancedCode} ${verdict.reply.text}`
    : verdict.kind;
};
const edits = (answer: RspamdAnswer) => {
  const { verdict } = judged(answer);
  return verdict.kind === "add_header" ? verdict.edits : verdict.kind;
};

test("action becomes verdict", async (t) => {
  const actions: [string, object, string][] = [
    ["no action", {}, "relay"],
    ["reject", {}, "550 5.7.1 Message rejected"],
    ["reject", { messages: { smtp_message: "Gtube pattern" } }, "550 5.7.1 Gtube pattern"],
    ["reject", { messages: ["554 5.7.1 Matched a map"] }, "550 5.7.1 Matched a map"],
    ["reject", { messages: { smtp_message: "zwei\r\nZeilen: ü" } }, "550 5.7.1 zwei Zeilen: ?"],
    ["soft reject", {}, "451 4.7.1 Try again later"],
    ["soft reject", { messages: { smtp_message: "451 4.7.1 Ratelimit" } }, "451 4.7.1 Ratelimit"],
    ["greylist", {}, "451 4.7.1 Greylisted, please try again later"],
    ["quarantine", {}, "550 5.7.1 Message rejected"],
    ["discard", {}, "550 5.7.1 Message rejected"],
  ];
  for (const [action, more, expected] of actions) {
    await t.test(`${action} ${JSON.stringify(more)}`, () =>
      assert.equal(reply({ action, ...more }), expected),
    );
  }
  await t.test("discard where the proxy allows it", () => {
    assert.equal(reply({ action: "discard" }, { discardAllowed: true }), "discard");
  });
  await t.test("greylist where Rspamd itself defers", () => {
    assert.equal(reply({ action: "greylist" }, { greylist: "relay" }), "relay");
  });
  await t.test("an action that is not known, or no answer at all, is an error and never a relay", () => {
    for (const answer of [
      { action: "no_action" },
      { action: "" },
      {},
      { action: 1 },
      null,
      [],
      "no action",
      { error: "x" },
    ]) {
      assert.throws(() => verdictOf(answer as RspamdAnswer, header, true, { greylist: "relay" }), /action/);
    }
  });
});

test("score and symbols become score and tags", async (t) => {
  await t.test("those that weigh most first, at most 64", () => {
    const symbols = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`S${index}`, { score: index % 2 === 0 ? index : -index }]),
    );
    const { remarks } = judged({ action: "no action", score: 5.25, required_score: 15, symbols });
    assert.equal(remarks.score, 5.25);
    assert.deepEqual(remarks.tags.slice(0, 3), ["S99", "S98", "S97"]);
    assert.equal(remarks.tags.length, 64);
    assert.equal(remarks.note, "no action 5.25/15");
  });
  await t.test("whatever stands in their place does no harm", () => {
    for (const more of [
      { score: "x" },
      { score: null },
      { symbols: [] },
      { symbols: { A: 1, ["x".repeat(500)]: null } },
    ]) {
      assert.equal(judged({ action: "no action", ...more }).remarks.score, 0);
    }
  });
});

test("milter headers become edits", async (t) => {
  await t.test("added at the end, or on top where they have an order", () => {
    const add_headers = {
      "X-A": "1",
      "X-B": { value: "2", order: 1 },
      "X-C": { value: "3", order: -1 },
      "X-D": ["4", { value: 5, order: 0 }],
    };
    assert.deepEqual(edits({ action: "no action", milter: { add_headers } }), [
      { kind: "add", name: "X-A", value: "1" },
      { kind: "insert", name: "X-B", value: "2" },
      { kind: "add", name: "X-C", value: "3" },
      { kind: "add", name: "X-D", value: "4" },
      { kind: "insert", name: "X-D", value: "5" },
    ]);
  });
  await t.test("removed by occurrence, also from the end", () => {
    const remove_headers = { "X-Old": 0, Received: -1, Subject: [1, -5] };
    assert.deepEqual(edits({ action: "no action", milter: { remove_headers } }), [
      { kind: "remove", name: "X-Old", occurrence: 0 },
      { kind: "remove", name: "Received", occurrence: 2 },
      { kind: "remove", name: "Subject", occurrence: 1 },
    ]);
  });
  await t.test("unfolded, and encoded where they are not US-ASCII", () => {
    const add_headers = { "X-A": "a;\r\n\tb", "X-B": "ü" };
    assert.deepEqual(edits({ action: "no action", milter: { add_headers } }), [
      { kind: "add", name: "X-A", value: "a; b" },
      { kind: "add", name: "X-B", value: "=?UTF-8?B?w7w=?=" },
    ]);
  });
  await t.test("add header marks spam, in place of the sender's own marks", () => {
    assert.deepEqual(edits({ action: "add header", score: 6.666 }), [
      { kind: "remove", name: "X-Spam", occurrence: 0 },
      { kind: "insert", name: "X-Spam", value: "Yes" },
      { kind: "remove", name: "X-Spam-Score", occurrence: 0 },
      { kind: "insert", name: "X-Spam-Score", value: "6.67" },
    ]);
    const own = edits({
      action: "add header",
      milter: { add_headers: { "x-spam": "yes", "X-Spam-Score": "1" } },
    });
    assert.deepEqual(own, [
      { kind: "add", name: "x-spam", value: "yes" },
      { kind: "add", name: "X-Spam-Score", value: "1" },
    ]);
  });
  await t.test("rewrite subject sets the subject that Rspamd made", () => {
    assert.deepEqual(edits({ action: "rewrite subject", subject: "***SPAM*** hi" }), [
      { kind: "set", name: "Subject", value: "***SPAM*** hi", occurrence: 1 },
    ]);
    assert.deepEqual(edits({ action: "rewrite subject" }), [
      { kind: "set", name: "Subject", value: "*** SPAM *** hi", occurrence: 1 },
    ]);
  });
  await t.test("a DKIM signature goes on top", () => {
    assert.deepEqual(edits({ action: "no action", "dkim-signature": "v=1; a=rsa-sha256;\r\n\tb=x" }), [
      { kind: "insert", name: "DKIM-Signature", value: "v=1; a=rsa-sha256; b=x" },
    ]);
  });
  await t.test("those that make no sense are errors", () => {
    const broken = [
      { add_headers: { "X A": "1" } },
      { add_headers: { "X\r\nBcc": "1" } },
      { add_headers: { A: null } },
      { add_headers: { A: { order: 1 } } },
      { remove_headers: { A: "x" } },
      { remove_headers: { A: 1.5 } },
    ];
    for (const milter of broken)
      assert.throws(() => edits({ action: "no action", milter }), Error, JSON.stringify(milter));
  });
});

test("the envelope becomes request headers", () => {
  const envelope = create(EnvelopeSchema, {
    transactionId: "01T",
    mailFrom: { address: "" },
    recipients: [{ address: "a@b" }, { address: "ü@b\r\nX: y" }],
    session: {
      connectionId: "01C",
      client: { ip: "2001:db8::1", port: 1 },
      helo: Buffer.from("h\r\nIP: 127.0.0.1"),
      authUser: "u",
      source: { proxy: "mx-out-1" },
      downstreamTls: { encrypted: true, version: "TLSv1.3", cipher: "C" },
    },
  });
  assert.deepEqual(requestHeaders(envelope, "p"), {
    From: "<>",
    Rcpt: ["<a@b>", "<Ã¼@bX: y>"],
    IP: "2001:db8::1",
    Helo: "hIP: 127.0.0.1",
    User: "u",
    "Queue-Id": "01T",
    "Log-Tag": "01C",
    "MTA-Tag": "warp",
    "MTA-Name": "mx-out-1",
    "TLS-Version": "TLSv1.3",
    "TLS-Cipher": "C",
    Password: "p",
  });
  assert.deepEqual(Object.keys(requestHeaders(create(EnvelopeSchema, {}), undefined)), ["From", "MTA-Tag"]);
});

test("over HTTP", async (t) => {
  /** A hook in front of a server that answers as `respond` does. */
  async function filter(
    t: TestContext,
    respond: (request: IncomingMessage, response: ServerResponse) => void,
    settings: object = {},
  ) {
    const http = createServer(respond);
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
    const part = await openRspamd({ url, ...settings }, { env: {}, log: () => undefined, now: Date.now });
    t.after(async () => {
      await part.close?.();
      http.closeAllConnections();
      http.close();
    });
    return { ...(await start(t, { ...part.filter })), http };
  }
  const answering =
    (status: number, body: string) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      request.resume();
      request.on("end", () => response.writeHead(status).end(body));
    };
  const chunk = Buffer.alloc(65_536, "x");

  await t.test("the whole message is posted to /checkv2, octet for octet", async (t) => {
    const seen: [string | undefined, string | undefined, number][] = [];
    const { client } = await filter(t, (request, response) => {
      let octets = 0;
      request.on("data", (data: Buffer) => (octets += data.length));
      request.on("end", () => {
        seen.push([request.method, request.url, octets]);
        response.end('{"action":"no action"}');
      });
    });
    const body = [Buffer.from("A: b\r\n\r\n"), ...Array.from({ length: 40 }, () => chunk)];
    assert.equal((await ask(client, {}, body)).response?.verdict.case, "relay");
    assert.equal((await ask(client, {}, [])).response?.verdict.case, "relay");
    assert.deepEqual(seen, [
      ["POST", "/checkv2", 8 + 40 * 65_536],
      ["POST", "/checkv2", 0],
    ]);
  });
  const failures: [string, (request: IncomingMessage, response: ServerResponse) => void, RegExp][] = [
    ["an HTTP error", answering(500, "boom"), /HTTP 500: boom/],
    ["an error in JSON", answering(200, '{"error":"no memory"}'), /names no action/],
    ["an answer that is no JSON", answering(200, "<html>"), /no JSON: <html>/],
    ["an answer beyond all bounds", answering(200, `"${"x".repeat(9_000_000)}"`), /more than 8388608 octets/],
    ["a connection that breaks", (request) => void request.socket.destroy(), /Rspamd at 127\.0\.0\.1:\d+: /],
    ["an answer that does not come", (request) => void request.resume(), /not answer within 200 ms/],
    [
      "a refusal before the message was read",
      (_request, response) => void response.writeHead(413).end("too large"),
      /HTTP 413: too large/,
    ],
  ];
  for (const [what, respond, expected] of failures) {
    await t.test(`${what} is the hook's failure`, async (t) => {
      const { client } = await filter(t, respond, { timeoutMs: 200 });
      const { response, error } = await ask(
        client,
        {},
        Array.from({ length: 40 }, () => chunk),
      );
      assert.equal(response, undefined);
      assert.match(error!.details, expected);
      assert.match((await ask(client, {}, [chunk])).error!.details, expected); // and so is the next
    });
  }
  await t.test("an Rspamd that is not there is the hook's failure", async (t) => {
    const { client, http } = await filter(t, answering(200, "{}"));
    http.close();
    assert.match((await ask(client, {}, [chunk])).error!.details, /ECONNREFUSED/);
  });
  await t.test("a request is given up when the proxy gives up", async (t) => {
    const begun = Promise.withResolvers<IncomingMessage>();
    const { client } = await filter(t, (request) => {
      request.on("error", () => undefined);
      begun.resolve(request);
    });
    const call = client.beforeRelay(() => undefined);
    call.on("error", () => undefined);
    call.write({ part: { case: "envelope", value: {} } });
    call.write({ part: { case: "chunk", value: Buffer.from("A: b\r\n\r\n") } });
    const request = await begun.promise;
    call.cancel();
    await new Promise((resolve) => request.once("close", resolve));
    assert.ok(request.destroyed);
  });
  await t.test("a URL that is none is refused at the start", async () => {
    const context = { env: {}, log: () => undefined, now: Date.now };
    await assert.rejects(openRspamd({}, context), /please set `--url`/);
    await assert.rejects(openRspamd({ url: "127.0.0.1:11333" }, context), /should be as in http:/);
    await assert.rejects(openRspamd({ url: "ftp://x" }, context), /should be as in http:/);
  });
});
