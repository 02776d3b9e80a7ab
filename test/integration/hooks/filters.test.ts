/** Filters over real gRPC: every way to fail with each on_failure, hostile answers, large messages, early answers. */
import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { after, afterEach, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import type { ChainResult, FilterEnvelope, HeldMessage, HoldStore } from "../../../src/filter/contract.ts";
import { Capability } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import type { HookSettings } from "../../../src/hooks/index.ts";
import { contentOf, envelope } from "../../unit/filter/fixtures.ts";
import {
  type Assembled,
  assemble,
  compressingServer,
  type FilterCall,
  HookServer,
  hookSettings,
  temporaryFolder,
  until,
  type Verdict,
} from "./server.ts";

const folder = temporaryFolder();
after(() => folder.remove());
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});
let sockets = 0;
const freeAddress = () => `unix:${folder.path}/${sockets++}.sock`;
const MESSAGE = "Subject: hello\r\n\r\nbody\r\n";

async function server(filter?: (call: FilterCall) => void): Promise<HookServer> {
  const made = new HookServer(freeAddress());
  if (filter !== undefined) made.filter = filter;
  await made.start();
  cleanUp.push(() => made.kill());
  return made;
}
async function started(hooks: readonly HookSettings[], changes = {}, tuning = {}): Promise<Assembled> {
  const assembled = assemble(hooks, changes, tuning);
  await assembled.hooks.start();
  cleanUp.push(() => assembled.hooks.stop(0));
  return assembled;
}
async function held(store: HoldStore, content: string): Promise<HeldMessage> {
  const writer = store.open();
  const octets = Buffer.from(content, "latin1");
  for (let at = 0; at < octets.length; at += 60_000) {
    const taken = writer.write(octets.subarray(at, at + 60_000));
    if (taken !== true) await taken;
  }
  return writer.finish();
}
async function run(
  { hooks }: Assembled,
  content: string = MESSAGE,
  changes: Partial<FilterEnvelope> = {},
  signal = new AbortController().signal,
): Promise<ChainResult> {
  return hooks.chain.run(await held(hooks.hold, content), envelope(changes), 540_000, signal);
}
/** What became of the message, in a word or as its content. */
async function became(result: ChainResult): Promise<string> {
  if (result.kind === "reject") return `${result.reply.code} ${result.reply.enhancedCode} ${result.origin}`;
  if (result.kind === "discard") return "discarded";
  if (result.kind === "no_storage") return "no storage";
  const content = await contentOf(result.message);
  result.message.release();
  return content;
}
const answers = (verdict: Verdict) => (call: FilterCall) =>
  void call.message.then(() => call.answer(verdict));
const reject = (code: number, enhancedCode: string, text: string): Verdict => ({
  verdict: { case: "reject", value: { code, enhancedCode, text } },
});
const add = (name: string, value: string): Verdict => ({
  verdict: { case: "addHeader", value: { edits: [{ edit: { case: "add", value: { name, value } } }] } },
});
const replace = (message: string): Verdict => ({
  verdict: { case: "replace", value: { message: Buffer.from(message, "latin1") } },
});

test("two filters see the envelope and the message, and their edits add up", async () => {
  const seen: [string, string][] = [];
  const tag = (name: string) => (call: FilterCall) =>
    void call.message.then((message) => {
      seen.push([call.envelope.recipients.map(({ address }) => address).join(), message.toString()]);
      call.answer({ ...add(`X-${name}`, "grün"), score: 2.5, tags: [name], note: "n" });
    });
  const [one, two] = [await server(tag("One")), await server(tag("Two"))];
  const assembled = await started([
    hookSettings("one", one.address),
    hookSettings("two", two.address, { roles: ["filter"] }),
  ]);
  const result = await run(assembled, MESSAGE, { smtputf8: true });
  assert.deepEqual(seen, [
    ["bob@example.net", MESSAGE],
    ["bob@example.net", Buffer.from("Subject: hello\r\nX-One: grün\r\n\r\nbody\r\n").toString()],
  ]);
  assert.equal(
    Buffer.from(await became(result), "latin1").toString(),
    "Subject: hello\r\nX-One: grün\r\nX-Two: grün\r\n\r\nbody\r\n",
  );
  assert.deepEqual(
    result.outcomes.map(({ hook, verdict, score, tags }) => [hook, verdict, score, tags]),
    [
      ["one", "add_header", 2.5, ["One"]],
      ["two", "add_header", 2.5, ["Two"]],
    ],
  );
});

test("a reject reaches the caller in the filter's own words", async () => {
  const filter = await server(answers(reject(554, "5.7.1", "spam, sorry")));
  const result = await run(await started([hookSettings("f", filter.address)]));
  assert.ok(result.kind === "reject" && result.origin === "hook");
  assert.deepEqual(result.reply, { code: 554, enhancedCode: "5.7.1", text: "spam, sorry" });
});

/** Every way to fail; `cause` is what the operator is told. */
const failures: readonly {
  name: string;
  cause: string;
  filter?: (call: FilterCall) => void;
  without?: string;
  roles?: HookSettings["roles"];
  address?: () => string;
}[] = [
  { name: "nobody listens on the socket", cause: "absent", address: freeAddress },
  { name: "the TCP connection is refused", cause: "absent", address: () => "127.0.0.1:1" },
  { name: "the deadline passes", cause: "deadline", filter: () => {} },
  {
    name: "it answers with an error",
    cause: "refused",
    filter: ({ raw }) => raw.emit("error", { code: grpc.status.PERMISSION_DENIED, details: "no" }),
  },
  { name: "it does not implement BeforeRelay", cause: "refused", without: "BeforeRelay", roles: ["filter"] },
  { name: "it does not implement Describe", cause: "refused", without: "Describe" },
  { name: "it ends cleanly without an answer", cause: "closed", filter: ({ raw }) => raw.end() },
  {
    name: "it answers twice, relay first",
    cause: "invalid",
    filter: ({ answer, raw }) => {
      raw.write(Buffer.from([(1 << 3) | 2, 0]));
      answer(reject(550, "5.7.1", "spam"));
    },
  },
  {
    name: "it answers twice, the second time behind the whole message",
    cause: "invalid",
    filter: ({ answer, message, raw }) => {
      raw.write(Buffer.from([(1 << 3) | 2, 0]));
      void message.then(() => answer(reject(550, "5.7.1", "spam")));
    },
  },
  { name: "it sets no verdict", cause: "invalid", filter: answers({ score: 1 }) },
  {
    name: "its answer is no protobuf",
    cause: "invalid",
    filter: ({ raw }) => {
      raw.write(Buffer.from("\xff\xff\xff", "latin1"));
      raw.end();
    },
  },
  {
    name: "its verdict is of a later version",
    cause: "invalid",
    filter: ({ raw }) => {
      raw.write(Buffer.from([((99 << 3) & 255) | 2, 6, 0]));
      raw.end();
    },
  },
  { name: "it rejects with 250", cause: "invalid", filter: answers(reject(250, "2.0.0", "ok")) },
  { name: "it rejects with 99", cause: "invalid", filter: answers(reject(99, "", "x")) },
  { name: "it rejects with 421", cause: "invalid", filter: answers(reject(421, "4.7.0", "x")) },
  { name: "its text has CR and LF", cause: "invalid", filter: answers(reject(550, "5.7.1", "no\r\n250 ok")) },
  {
    name: "its text has 2,000 characters",
    cause: "invalid",
    filter: answers(reject(550, "5.7.1", "x".repeat(2000))),
  },
  { name: "its field name has CR and LF", cause: "invalid", filter: answers(add("X\r\nBcc", "x")) },
  { name: "its field name has a blank", cause: "invalid", filter: answers(add("X Y", "x")) },
  { name: "its field value ends the header", cause: "invalid", filter: answers(add("X", "a\r\n\r\nbody")) },
  { name: "its field value has a NUL", cause: "invalid", filter: answers(add("X", "a\0b")) },
  {
    name: "its replacement has a bare LF",
    cause: "invalid",
    filter: answers(replace("A: 1\r\n\r\nbody\n.\r\n")),
  },
  {
    name: "it discards where that is not enabled",
    cause: "invalid",
    filter: answers({ verdict: { case: "discard", value: {} } }),
  },
  {
    name: "its answer is larger than any message",
    cause: "invalid",
    filter: answers(replace("x".repeat(22_000_000))),
  },
];
for (const { name, cause, filter, without, roles, address } of failures) {
  test(`fails as configured when ${name}`, async () => {
    let at = address?.();
    if (at === undefined) {
      const made = new HookServer(freeAddress());
      if (filter !== undefined) made.filter = filter;
      if (without !== undefined) made.unimplemented.add(without);
      await made.start();
      cleanUp.push(() => made.kill());
      at = made.address;
    }
    for (const [onFailure, outcome] of [
      ["tempfail", "451 4.7.1 warp"],
      ["reject", "554 5.7.1 warp"],
      ["accept", `X-Warp-Filter-Skipped: f\r\n${MESSAGE}`],
    ] as const) {
      const deadlineMs = cause === "deadline" ? 300 : 10_000;
      const assembled = await started([hookSettings("f", at, { onFailure, deadlineMs, roles })]);
      const result = await run(assembled);
      assert.equal(await became(result), outcome);
      assert.deepEqual(assembled.failures, [`f ${cause} ${onFailure}`], result.outcomes[0]?.failure ?? "");
    }
  });
}

test("fails when the server crashes in the middle of the message", async () => {
  const filter = await server();
  filter.filter = () => setImmediate(() => filter.kill());
  const assembled = await started([hookSettings("f", filter.address)]);
  const result = await run(assembled, `A: 1\r\n\r\n${"x\r\n".repeat(2_000_000)}`);
  assert.equal(await became(result), "451 4.7.1 warp");
  assert.deepEqual(assembled.failures, ["f closed tempfail"], result.outcomes[0]?.failure ?? "");
});

test("fails when something else than gRPC listens", async () => {
  const path = freeAddress().slice(5);
  const other: Server = createServer((socket: Socket) => socket.end("220 mx.example ESMTP\r\n"));
  await new Promise<void>((resolve) => other.listen(path, resolve));
  cleanUp.push(() => other.close());
  const assembled = await started([hookSettings("f", `unix:${path}`)]);
  assert.equal(await became(await run(assembled)), "451 4.7.1 warp");
  assert.deepEqual(assembled.failures, ["f absent tempfail"]);
});

test("fails when an answer is compressed in a way that warp does not read", async () => {
  for (const [rpc, cause] of [
    ["BeforeRelay", "invalid"],
    ["Describe", "absent"],
  ] as const) {
    const address = freeAddress();
    cleanUp.push(await compressingServer(address.slice(5), rpc));
    const assembled = await started([hookSettings("f", address, { roles: ["filter"], onFailure: "reject" })]);
    const result = await run(assembled);
    assert.equal(await became(result), "554 5.7.1 warp", rpc);
    assert.deepEqual(assembled.failures, [`f ${cause} reject`]);
    assert.match(result.outcomes[0]?.failure ?? "", /neither gzip nor deflate$/);
  }
});

test("a replacement with CRLF.CRLF inside is passed on as it is", async () => {
  const filter = await server(answers(replace("A: 1\r\n\r\n.\r\nMAIL FROM:<x@y>\r\n")));
  assert.equal(
    await became(await run(await started([hookSettings("f", filter.address)]))),
    "A: 1\r\n\r\n.\r\nMAIL FROM:<x@y>\r\n",
  );
});

test("a message of 10 MB goes through chunk by chunk and comes back whole", async () => {
  const content = `Subject: big\r\n\r\n${"0123456789abcdef\r\n".repeat(560_000)}`;
  let received: Buffer | undefined;
  const filter = await server(
    (call) =>
      void call.message.then((message) => {
        received = message;
        call.answer({ verdict: { case: "replace", value: { message } } });
      }),
  );
  const result = await run(await started([hookSettings("f", filter.address)]), content);
  assert.ok(received?.equals(Buffer.from(content)));
  assert.equal((await became(result)).length, content.length);
});

test("an early answer stops the upload", async () => {
  let chunks = 0;
  const filter = await server(({ raw, answer }) => {
    raw.on("data", () => chunks++);
    answer(reject(550, "5.7.1", "no"));
  });
  const started_ = await started([hookSettings("f", filter.address)]);
  const result = await run(started_, `A: 1\r\n\r\n${"x\r\n".repeat(3_000_000)}`);
  assert.equal(await became(result), "550 5.7.1 hook");
  assert.ok(chunks < 140, `${chunks} of 138 chunks`);
  assert.equal(await became(await run(started_)), "550 5.7.1 hook");
});

test("an early answer counts also from a server that ends the call only behind the half-close", async () => {
  const filter = await server(({ raw }) => {
    raw.write(Buffer.from([(1 << 3) | 2, 0]));
    raw.on("data", () => {}).on("end", () => raw.end());
  });
  const assembled = await started([hookSettings("f", filter.address, { deadlineMs: 3000 })]);
  for (const content of [MESSAGE, `A: 1\r\n\r\n${"x\r\n".repeat(1_000_000)}`]) {
    assert.ok((await became(await run(assembled, content))) === content, `${content.length} octets`);
  }
});

test("a filter that does not read holds the upload back, and no memory", async () => {
  let call: FilterCall | undefined;
  const filter = await server((given) => {
    call = given;
    given.raw.pause();
  });
  const { hooks } = await started([hookSettings("f", filter.address, { deadlineMs: 1500 })]);
  let read = 0;
  const message: HeldMessage = {
    octets: 50_000_000,
    async *chunks() {
      for (; read < 50_000_000; read += 50_000) yield Buffer.alloc(50_000, 65);
    },
    release() {},
  };
  const result = await hooks.chain.run(message, envelope(), 540_000, new AbortController().signal);
  assert.equal(result.kind, "reject");
  assert.ok(call !== undefined);
  assert.ok(read < 5_000_000, `${read} octets were read`);
});

test("a longer message than the hook takes is cut, and must not be replaced", async () => {
  let seen: [number, boolean, bigint] | undefined;
  let verdict: Verdict = add("X", "1");
  const filter = await server(
    (call) =>
      void call.message.then((message) => {
        seen = [message.length, call.envelope.truncated, call.envelope.messageOctets];
        call.answer(verdict);
      }),
  );
  filter.description = { ...filter.description, maxMessageOctets: 100_000n };
  const assembled = await started([hookSettings("f", filter.address, { maxMessageOctets: 200_000 })]);
  const content = `A: 1\r\n\r\n${"x\r\n".repeat(100_000)}`;
  assert.equal(await became(await run(assembled, content)), content.replace("\r\n", "\r\nX: 1\r\n"));
  assert.deepEqual(seen, [100_000, true, BigInt(content.length)]);
  verdict = replace("A: 1\r\n");
  assert.equal(await became(await run(assembled, content)), "451 4.7.1 warp");
  assert.equal(await became(await run(assembled)), "A: 1\r\n");
});

test("a hook that wants the header only gets it, with its empty line", async () => {
  const seen: string[] = [];
  const filter = await server(
    (call) =>
      void call.message.then((message) => {
        seen.push(message.toString());
        call.answer(add("X", "1"));
      }),
  );
  filter.description = { ...filter.description, headerOnly: true };
  const assembled = await started([hookSettings("f", filter.address)]);
  const long = `A: ${"x".repeat(60_000)}\r\n`;
  for (const [content, header] of [
    [MESSAGE, "Subject: hello\r\n\r\n"],
    ["\r\nbody\r\n", "\r\n"],
    ["A: 1\r\n", "A: 1\r\n"],
    [`${long}${long}\r\nbody`, `${long}${long}\r\n`],
  ] as const) {
    await became(await run(assembled, content));
    assert.equal(seen.at(-1), header);
  }
});

test("an empty message is an envelope and a half-close", async () => {
  const filter = await server(answers(add("X", "1")));
  assert.equal(await became(await run(await started([hookSettings("f", filter.address)]), "")), "X: 1\r\n");
});

test("a client that leaves cancels the call", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const filter = await server(({ raw }) => raw.on("cancelled", () => resolve()));
  const assembled = await started([hookSettings("f", filter.address)]);
  const controller = new AbortController();
  const running = run(assembled, MESSAGE, {}, controller.signal);
  setTimeout(() => controller.abort(), 50);
  assert.equal((await running).kind, "reject");
  await promise;
  assert.deepEqual(assembled.failures, []);
});

test("a plain hook counts as a filter until it has said that it is none", async () => {
  const made = new HookServer(freeAddress());
  made.description = { name: "o", capabilities: [Capability.AFTER_CONN] };
  const assembled = await started([hookSettings("o", made.address)]);
  assert.equal(assembled.hooks.chain.required, true);
  assert.equal(await became(await run(assembled)), "451 4.7.1 warp");
  await made.start();
  cleanUp.push(() => made.kill());
  await until(() => !assembled.hooks.chain.required, "the hook says what it is");
  assert.equal(await became(await run(assembled)), MESSAGE);
  made.kill();
  assert.equal(await became(await run(assembled)), MESSAGE);
});

test("a hook that no longer names BEFORE_RELAY stays a filter", async () => {
  const filter = await server(answers(add("X", "1")));
  const assembled = await started([hookSettings("f", filter.address)]);
  filter.kill();
  filter.description = { name: "f", capabilities: [Capability.AFTER_CONN] };
  filter.filter = answers(add("X", "2"));
  await filter.start();
  await until(() => filter.described === 2, "described again");
  assert.equal(assembled.hooks.chain.required, true);
  assert.match(await became(await run(assembled)), /X: 2/);
});

test("a filter that was restarted is asked again at once", async () => {
  const filter = await server(answers(add("X", "1")));
  const assembled = await started([hookSettings("f", filter.address)]);
  for (let i = 0; i < 3; i++) {
    filter.kill();
    await filter.start();
    // The next message must not find a pause of seconds; one attempt out of turn is allowed every quarter of a second.
    await until(() => filter.described >= i + 2, "described again", 3000);
    assert.match(await became(await run(assembled)), /X: 1/);
  }
});

test("a server that drains (GOAWAY) lets the call under way end, and the next goes to its successor", async () => {
  const path = freeAddress();
  const old = new HookServer(path);
  let answer: (() => void) | undefined;
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  old.filter = (call) => {
    answer = () => call.answer(add("X", "old"));
    resolve();
  };
  await old.start();
  cleanUp.push(() => old.kill());
  const assembled = await started([hookSettings("f", path)]);
  const first = run(assembled);
  await asked;
  old.drain();
  await until(() => assembled.logs.some(({ code }) => code === "hook_down"), "the connection is given up");
  answer?.();
  assert.match(await became(await first), /X: old/);
  old.kill();
  const next = new HookServer(path);
  next.filter = answers(add("X", "new"));
  await next.start();
  cleanUp.push(() => next.kill());
  await until(() => next.described > 0, "the successor is described");
  assert.match(await became(await run(assembled)), /X: new/);
});

test("a dead filter delays five messages, then none, and is tried again", async () => {
  let alive = false;
  let asked = 0;
  const filter = await server((call) => {
    asked++;
    if (alive) answers(add("X", "1"))(call);
  });
  const assembled = await started([hookSettings("f", filter.address, { deadlineMs: 60 })]);
  for (let i = 0; i < 5; i++) await became(await run(assembled));
  const before = performance.now();
  for (let i = 0; i < 20; i++) assert.equal(await became(await run(assembled)), "451 4.7.1 warp");
  assert.ok(performance.now() - before < 500);
  assert.equal(asked, 5);
  assert.equal(assembled.failures.at(-1), "f breaker tempfail");
  alive = true;
});

test("plaintext TCP beyond this host is refused at the start, unless it is asked for", async () => {
  const remote = hookSettings("f", "192.0.2.1:7443");
  await assert.rejects(
    assemble([remote]).hooks.start(),
    /f: mail would go to 192\.0\.2\.1:7443 unencrypted; set tls, or insecure: true/,
  );
});

test("SelectRoute is asked where Describe names it, and the rules decide when it fails", async () => {
  const chooser = new HookServer(freeAddress());
  chooser.description = { name: "r", capabilities: [Capability.SELECT_ROUTE] };
  await chooser.start();
  cleanUp.push(() => chooser.kill());
  const { hooks, failures: failed } = await started([hookSettings("r", chooser.address)]);
  const { session, mailFrom, transactionId } = envelope();
  const question = {
    session,
    mailFrom,
    transactionId,
    recipient: undefined,
    sender: "s",
    score: 0.5,
    tier: "",
    pools: ["a"],
  };
  assert.equal(hooks.selectRoute.available, true);
  chooser.route = ({ pools }) => ({ route: { case: "pool", value: pools[0] as string } });
  assert.deepEqual(await hooks.selectRoute.ask(question), { kind: "pool", hook: "r", pool: "a" });
  chooser.route = () => ({ route: { case: "refuse", value: { code: 451, text: "later" } } });
  assert.deepEqual(await hooks.selectRoute.ask(question), {
    kind: "refuse",
    hook: "r",
    reply: { code: 451, enhancedCode: "4.7.0", text: "later" },
  });
  chooser.route = () => ({ route: { case: "refuse", value: { code: 250, text: "ok" } } });
  assert.equal(await hooks.selectRoute.ask(question), undefined);
  chooser.route = undefined;
  const before = performance.now();
  assert.equal(await hooks.selectRoute.ask(question), undefined);
  assert.ok(performance.now() - before < 400);
  assert.deepEqual(failed, ["r invalid none", "r deadline none"]);
});
