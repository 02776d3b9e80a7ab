import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { Origin, Outcome } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { type SlackSettings, SlackSink } from "../../../src/hookservers/slack.ts";
import { Digest, defaultThresholds } from "../../../src/hookservers/slack-digest.ts";
import { code } from "../../../src/hookservers/slack-text.ts";
import * as made from "../../integration/sinks/events.ts";

interface Posted {
  readonly channel: string;
  readonly username: string;
  readonly text: string;
  readonly atMs: number;
}
type Answer = { status?: number; retryAfter?: number; body?: object };

/** Speaks as much of Slack's API as is used; `answer` may say something else than ok to the nth post. */
async function slackApi(t: TestContext, answer: (post: number) => Answer | undefined = () => undefined) {
  const posted: Posted[] = [];
  const waiting: { count: number; resolve: () => void }[] = [];
  let posts = 0;
  const server = createServer(async (request, response) => {
    const fields = new URLSearchParams(await bodyOf(request));
    let said: Answer = {};
    if (request.url === "/api/chat.postMessage") {
      posts += 1;
      said = answer(posts) ?? {};
      if (said.status === undefined && said.body === undefined) {
        posted.push({
          channel: fields.get("channel")!,
          username: fields.get("username")!,
          text: fields.get("text")!,
          atMs: performance.now(),
        });
      }
    } else if (request.url === "/api/auth.test" && request.headers.authorization !== "Bearer xoxb-test") {
      said = { body: { ok: false, error: "invalid_auth" } };
    }
    response.writeHead(said.status ?? 200, {
      "content-type": "application/json",
      ...(said.retryAfter !== undefined && { "retry-after": String(said.retryAfter) }),
    });
    response.end(JSON.stringify(said.body ?? { ok: true }));
    for (const { count, resolve } of waiting) if (posted.length >= count) resolve();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/`,
    posted,
    posts: () => posts,
    until: (count: number) =>
      new Promise<void>((resolve) => {
        if (posted.length >= count) resolve();
        else waiting.push({ count, resolve });
      }),
  };
}
async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += chunk;
  return body;
}
async function open(t: TestContext, settings: SlackSettings, log: string[] = []): Promise<SlackSink> {
  const env = { SLACK_TOKEN: "xoxb-test", SLACK_CHANNEL: "C1" };
  const sink = await SlackSink.open(settings, { env, log: (line) => void log.push(line), now: Date.now });
  t.after(() => sink.close());
  return sink;
}
const source = made.makeSource();

test("says what is missing in the original's words", async () => {
  const context = { log: () => {}, now: Date.now };
  await assert.rejects(SlackSink.open({}, { ...context, env: {} }), {
    message: "missing SLACK_TOKEN, please set `SLACK_TOKEN`",
  });
  await assert.rejects(SlackSink.open({}, { ...context, env: { SLACK_TOKEN: "x" } }), {
    message: "missing SLACK_CHANNEL, please set `SLACK_CHANNEL`",
  });
});

test("refuses to start with a token that Slack does not know, and starts when Slack is away", async (t) => {
  const api = await slackApi(t);
  const context = { env: { SLACK_CHANNEL: "C1" }, log: () => {}, now: Date.now };
  await assert.rejects(
    SlackSink.open({ url: api.url, token: "wrong" }, context),
    /slack.token: Slack says invalid_auth/,
  );
  const log: string[] = [];
  await open(t, { url: "http://127.0.0.1:1/api/" }, log);
  assert.match(log[0]!, /cannot be asked/);
});

test("says each connection in the original's form, escaped", async (t) => {
  const api = await slackApi(t);
  const sink = await open(t, { url: api.url });
  await sink.store({
    source,
    events: [made.makeEvent(1, made.conn("<!channel>`*a*@example.local", ["bob&co@example.test"]))],
  });
  await api.until(1);
  assert.equal(
    api.posted[0]!.text,
    "`&lt;!channel&gt;ˋ*a*@example.local` => `bob&amp;co@example.test` (20 msec)",
  );
  assert.equal(api.posted[0]!.channel, "C1");
  assert.equal(api.posted[0]!.username, "Warp");
});

test("says a connection that is sent again once, and several in one message when they come fast", async (t) => {
  const api = await slackApi(t);
  const sink = await open(t, { url: api.url });
  const events = Array.from({ length: 30 }, (_, index) =>
    made.makeEvent(index + 1, made.conn(`s${index}@example.local`)),
  );
  await sink.store({ source, events });
  await sink.store({ source, events });
  await api.until(1);
  const lines = api.posted.flatMap(({ text }) => text.split("\n"));
  assert.deepEqual(
    lines,
    events.map((_, index) => `\`s${index}@example.local\` => \`bob@example.test\` (20 msec)`),
  );
});

test("waits as long as Retry-After says, and loses nothing", async (t) => {
  const api = await slackApi(t, (post) => (post === 1 ? { status: 429, retryAfter: 1 } : undefined));
  const sink = await open(t, { url: api.url });
  const began = performance.now();
  await sink.store({ source, events: [made.makeEvent(1, made.conn())] });
  await api.until(1);
  assert.ok(api.posted[0]!.atMs - began >= 1000);
  assert.equal(api.posts(), 2);
});

test("never makes a batch wait, and drops with a count beyond its queue", async (t) => {
  const api = await slackApi(t, () => ({ status: 429, retryAfter: 3600 }));
  const log: string[] = [];
  const sink = await open(t, { url: api.url }, log);
  const events = Array.from({ length: 2000 }, (_, index) => made.makeEvent(index + 1, made.conn()));
  const began = performance.now();
  await sink.store({ source, events });
  assert.ok(performance.now() - began < 1000);
  await sink.close();
  assert.match(log.at(-1)!, /^slack: \d+ notices were not posted$/);
  assert.ok(Number(/\d+/.exec(log.at(-1)!)![0]) >= 1500);
});

test("gives a message up when Slack refuses it, says so once a minute, and goes on", async (t) => {
  const api = await slackApi(t, (post) =>
    post === 1 ? { body: { ok: false, error: "channel_not_found" } } : undefined,
  );
  const log: string[] = [];
  const sink = await open(t, { url: api.url }, log);
  await sink.store({ source, events: [made.makeEvent(1, made.conn("a@example.local"))] });
  while (api.posts() === 0) await new Promise((resolve) => setImmediate(resolve));
  await sink.store({ source, events: [made.makeEvent(2, made.conn("b@example.local"))] });
  await api.until(1);
  assert.match(api.posted[0]!.text, /^`b@/);
  assert.match(log[0]!, /channel_not_found/);
});

test("posts one digest for a period, and none where nothing reached its threshold", async (t) => {
  const api = await slackApi(t);
  const sink = await open(t, { url: api.url, connections: false, digestMs: 300 });
  const refused = made.transaction(
    [{ to: "x@y.example", reply: made.reply(550, "550 5.7.1 <!here> no", "blocked-ip") }],
    Outcome.REFUSED,
  );
  await sink.store({
    source,
    events: Array.from({ length: 12 }, (_, index) => made.makeEvent(index + 1, refused)),
  });
  await api.until(1);
  assert.match(
    api.posted[0]!.text,
    /^\*Blocked IPs\*: 12\n• `203\.0\.113\.10` at `example\.test`: 12, last: `550 5\.7\.1 &lt;!here&gt; no`/,
  );
  assert.match(api.posted[0]!.text, /\*Rejections\*: 12/);
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.equal(api.posted.length, 1);
});

test("posts what is queued when it is closed", async (t) => {
  const api = await slackApi(t);
  const sink = await open(t, { url: api.url });
  await sink.store({
    source,
    events: [made.makeEvent(1, { case: "gap", value: { firstSequence: 1n, count: 7n, reason: "full" } })],
  });
  await sink.close();
  assert.equal(api.posted[0]!.text, "*Events lost*: 7");
});

test("a refusal of a message's content says nothing of the IP", () => {
  const digest = new Digest({ ...defaultThresholds, rejections: 1 });
  const refusal = made.reply(550, "550 5.7.1 likely unsolicited mail", "blocked-content");
  digest.add(made.makeEvent(1, made.transaction([{ to: "x@y.example", reply: refusal }])));
  const text = digest.take() ?? "";
  assert.match(text, /^\*Rejections\*: 1/);
  assert.ok(!text.includes("Blocked IPs"));
});

test("counts rejections, throttling and hook failures in a digest, from their thresholds on", () => {
  const digest = new Digest(defaultThresholds);
  const transaction = (reply: ReturnType<typeof made.reply>, filters: object[] = []) => {
    const kind = made.transaction([{ to: "x@y.example", reply }]);
    return made.makeEvent(1, { ...kind, value: { ...kind.value, filters } });
  };
  for (let index = 0; index < 9; index += 1) {
    digest.add(transaction(made.reply(421, "421 4.7.28 rate", "throttled-rate")));
    digest.add(transaction(made.reply(550, "550 5.7.1 spam", "", Origin.HOOK)));
  }
  assert.equal(digest.take(), undefined);
  for (let index = 0; index < 10; index += 1) {
    digest.add(transaction(made.reply(421, "421 4.7.28 rate", "throttled-rate")));
    digest.add(transaction(made.reply(550, "550 5.7.1 spam", "", Origin.HOOK)));
  }
  digest.add(
    transaction(made.reply(250, "250 ok"), [
      { hook: "dlp", failure: "deadline: 30 s", onFailure: "tempfail" },
    ]),
  );
  assert.equal(
    digest.take(),
    [
      "*Throttled*: 10",
      "• `203.0.113.10` at `example.test`: 10, last: `421 4.7.28 rate`",
      "*Rejections*: 10",
      "• `rspamd`: 10, last: `550 5.7.1 spam`",
      "*Hook failures*: 1",
      "• `dlp`: 1, last: `deadline: 30 s`, applied `tempfail`",
    ].join("\n"),
  );
  assert.equal(digest.take(), undefined);
});

test("is bounded by groups, however many kinds of answers there are", () => {
  const digest = new Digest(defaultThresholds);
  for (let index = 0; index < 5000; index += 1) {
    digest.add(
      made.makeEvent(index, { case: "notice", value: { code: `code-${index}`, text: "x".repeat(5000) } }),
    );
  }
  const text = digest.take()!;
  assert.match(text, /^\*Notices\*: 5000\n/);
  assert.ok(text.length < 4000);
});

test("shows control characters and cuts what is long", () => {
  assert.equal(code("a\nb\x1b"), "`a\\x0ab\\x1b`");
  assert.ok(code("x".repeat(10_000)).length < 210);
  assert.equal(code(""), "` `");
});
