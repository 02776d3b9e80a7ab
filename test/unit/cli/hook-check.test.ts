/** Every way to break the protocol that `warp hook-check` promises to find, each in a server that does nothing else wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { type Finding, tableText } from "../../../src/cli/hook-check/report.ts";
import { checkHook } from "../../../src/cli/hook-check.ts";
import { Capability, type Event, HookService } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { addService, type HandlersOf } from "../../../src/sdk/grpc.ts";
import { addHeader, insert, reject, relay, replace, serveHook } from "../../../src/sdk/index.ts";
import { compressingServer, HookServer } from "../../integration/hooks/server.ts";
import { makeCertificate } from "../sdk/certificate.ts";
import { temporaryFolder } from "../sdk/harness.ts";
import { runCommand } from "./run-command.ts";

type Handlers = HandlersOf<(typeof HookService)["method"]>;

const ALL = [Capability.AFTER_COMM, Capability.BEFORE_RELAY, Capability.SELECT_ROUTE];
const describeAs =
  (capabilities: Capability[], more = {}): NonNullable<Handlers["describe"]> =>
  (_call, done) =>
    done(null, { name: "n", version: "1", capabilities, ...more });

/** A server that keeps every promise, but for the handlers that are given. */
function good(over: Handlers = {}): Handlers {
  return {
    describe: describeAs(ALL),
    observe: (call) => {
      let acked = 0n;
      call.on("data", ({ events }) => {
        acked = events.at(-1)?.sequence ?? acked;
        call.write({ ackedSequence: acked });
      });
      call.on("end", () => call.end());
      call.on("error", () => undefined);
    },
    beforeRelay: (call, done) => {
      call.resume();
      call.on("end", () => done(null, relay()));
    },
    selectRoute: (_call, done) => done(null, {}),
    ...over,
  };
}

async function findings(t: TestContext, handlers: Handlers, timeoutMs = 250): Promise<readonly Finding[]> {
  const path = join(await temporaryFolder(t), "hook.sock");
  const server = new grpc.Server();
  addService(server, HookService, handlers);
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${path}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  t.after(() => server.forceShutdown());
  const report = await checkHook({
    address: `unix:${path}`,
    timeoutMs,
    largeOctets: 1_000_000,
    tls: undefined,
  });
  return report.findings;
}

const verdict = (answer: object): Handlers => ({ beforeRelay: (_call, done) => done(null, answer) });
const acking = (acks: (sequence: bigint, count: number) => bigint | undefined): Handlers => ({
  observe: (call) => {
    let count = 0;
    call.on("data", ({ events }) => {
      const ack = acks(events.at(-1)?.sequence ?? 0n, ++count);
      if (ack !== undefined) call.write({ ackedSequence: ack });
    });
    call.on("end", () => call.end());
    call.on("error", () => undefined);
  },
});
const rejecting = (reply: object) => verdict({ verdict: { case: "reject", value: reply } });
const editing = (edit: object) => verdict({ verdict: { case: "addHeader", value: { edits: [{ edit }] } } });
const field = (name: string, value: string) => editing({ case: "insert", value: { name, value } });

const SMALL = "a small message gets a verdict";
const BATCH = "a batch is acknowledged with its last sequence";

/** What is broken, the server, the promise that has to be found broken, what is seen. */
const broken: readonly (readonly [string, Handlers, string, RegExp])[] = [
  [
    "Describe is not implemented",
    { ...good(), describe: undefined } as unknown as Handlers,
    "says what the hook is",
    /UNIMPLEMENTED/,
  ],
  [
    "Describe fails",
    good({ describe: (_call, done) => done({ code: 13, details: "no" }) }),
    "says what the hook is",
    /INTERNAL: no/,
  ],
  [
    "Describe never answers",
    good({ describe: () => undefined }),
    "says what the hook is",
    /DEADLINE_EXCEEDED/,
  ],
  [
    "Describe names nothing",
    good({ describe: describeAs([]) }),
    "names capabilities that there are, at least one",
    /no capability/,
  ],
  [
    "Observe is named and not there",
    { ...good(), observe: undefined } as unknown as Handlers,
    BATCH,
    /UNIMPLEMENTED/,
  ],
  ["no batch is acknowledged", good(acking(() => undefined)), BATCH, /not acknowledged within 250 ms/],
  [
    "the sequence before the last is acknowledged",
    good(acking((last) => (last > 0n ? last - 1n : 0n))),
    BATCH,
    /acknowledged 7/,
  ],
  ["more is acknowledged than was sent", good(acking((last) => last + 1n)), BATCH, /never sent/],
  [
    "acknowledgements go back",
    good(acking((last, count) => (count === 3 ? 1n : last))),
    "batches sent ahead are all acknowledged, in order",
    /after 32/,
  ],
  [
    "heartbeats are not answered",
    good(acking((last) => (last === 0n ? undefined : last))),
    "heartbeats are answered, before and after events",
    /heartbeat before any event/,
  ],
  [
    "the stream is ended after each batch",
    good({
      observe: (call) =>
        call.on("data", ({ events }) => {
          call.write({ ackedSequence: events.at(-1)?.sequence ?? 0n });
          call.end();
        }),
    }),
    "heartbeats are answered, before and after events",
    /ended the stream/,
  ],
  [
    "the server never ends its side",
    good({
      observe: (call) => {
        call.on("data", ({ events }) => call.write({ ackedSequence: events.at(-1)?.sequence ?? 0n }));
        call.on("error", () => undefined);
      },
    }),
    "after half-close everything is acknowledged and the end is clean",
    /did not end its side/,
  ],
  [
    "only some kinds of events are acknowledged",
    good({
      observe: (call) => {
        call.on("data", ({ events }) => {
          if (events.every((event: Event) => event.kind.case !== undefined))
            call.write({ ackedSequence: events.at(-1)?.sequence ?? 0n });
        });
        call.on("end", () => call.end());
      },
    }),
    "gaps, notices and kinds of a later version are acknowledged",
    /not acknowledged/,
  ],
  [
    "only a few streams are served",
    good({ observe: fewStreams(4) }),
    "16 streams at once are all served",
    /of 16: not acknowledged/,
  ],
  [
    "BeforeRelay is named and not there",
    { ...good(), beforeRelay: undefined } as unknown as Handlers,
    SMALL,
    /UNIMPLEMENTED/,
  ],
  [
    "BeforeRelay fails",
    good({ beforeRelay: (_call, done) => done({ code: 13, details: "boom" }) }),
    SMALL,
    /INTERNAL: boom/,
  ],
  ["no answer comes", good({ beforeRelay: (call) => void call.resume() }), SMALL, /DEADLINE_EXCEEDED/],
  ["no verdict is set", good(verdict({ score: 1 })), SMALL, /no verdict is set/],
  ["reject with 250", good(rejecting({ code: 250 })), SMALL, /250/],
  ["reject with 99", good(rejecting({ code: 99 })), SMALL, /99/],
  ["reject with 421", good(rejecting({ code: 421 })), SMALL, /421/],
  ["reject with 521", good(rejecting({ code: 521 })), SMALL, /521/],
  ["reject with CR LF", good(rejecting({ code: 550, text: "a\r\n250 ok" })), SMALL, /not printable/],
  [
    "reject with 2,000 characters",
    good(rejecting({ code: 550, text: "x".repeat(2000) })),
    SMALL,
    /2000 octets/,
  ],
  [
    "reject with the class of another code",
    good(rejecting({ code: 550, enhancedCode: "4.7.1" })),
    SMALL,
    /another class/,
  ],
  ["a field name with CR LF", good(field("X\r\nBcc", "a")), SMALL, /no field name/],
  ["a field name with a blank", good(field("X Y", "a")), SMALL, /no field name/],
  ["a field value that opens the body", good(field("X", "a\r\n\r\nbody")), SMALL, /CR or LF/],
  ["a field value with NUL", good(field("X", "a\0")), SMALL, /control character/],
  ["an edit that says nothing", good(editing({ case: undefined })), SMALL, /says nothing/],
  [
    "add_header without edits",
    good(verdict({ verdict: { case: "addHeader", value: {} } })),
    SMALL,
    /without an edit/,
  ],
  ["a score that is no number", good(verdict({ ...relay(), score: Number.NaN })), SMALL, /score/],
  [
    "discard where it is not allowed",
    good(verdict({ verdict: { case: "discard", value: {} } })),
    SMALL,
    /discard is not enabled/,
  ],
  ["a replacement with a bare LF", good(verdict(replace(Buffer.from("A: b\n\nc\n")))), SMALL, /bare LF/],
  [
    "replace of a cut message",
    good(verdict(replace(Buffer.from("A: b\r\n\r\nc\r\n")))),
    "a cut message (truncated) gets a verdict that is not replace",
    /only a part/,
  ],
  [
    "replace of a header section",
    good(verdict(replace(Buffer.from("A: b\r\n\r\nc\r\n")))),
    "a header section alone (header_only) gets a verdict that is not replace",
    /only a part/,
  ],
  [
    "an empty message makes it fail",
    good({
      beforeRelay: onOctets((octets, done) => (octets === 0 ? done({ code: 13 }) : done(null, relay()))),
    }),
    "an empty message gets a verdict",
    /INTERNAL/,
  ],
  [
    "a large message makes it fail",
    good({
      beforeRelay: onOctets((octets, done) => (octets > 500_000 ? done({ code: 8 }) : done(null, relay()))),
    }),
    "a message of 1 MB in chunks of 64 KiB gets a verdict",
    /RESOURCE_EXHAUSTED/,
  ],
  [
    "verdicts wait for Observe streams to end",
    good(starving(16)),
    "a verdict comes while 16 Observe streams are open",
    /DEADLINE_EXCEEDED/,
  ],
  [
    "only one message at a time, and slowly",
    good({ beforeRelay: oneAtATime(30) }),
    "20 messages at once each get a verdict",
    /DEADLINE_EXCEEDED/,
  ],
  [
    "SelectRoute names a pool that is not there",
    good({ selectRoute: (_call, done) => done(null, { route: { case: "pool", value: "x" } }) }),
    "answers within 200 ms with something usable",
    /pool "x"/,
  ],
  [
    "SelectRoute names what is no IP",
    good({ selectRoute: (_call, done) => done(null, { route: { case: "sourceIp", value: "x" } }) }),
    "answers within 200 ms with something usable",
    /no IP/,
  ],
  [
    "SelectRoute refuses with 250",
    good({ selectRoute: (_call, done) => done(null, { route: { case: "refuse", value: { code: 250 } } }) }),
    "answers within 200 ms with something usable",
    /250/,
  ],
  [
    "SelectRoute never answers",
    good({ selectRoute: () => undefined }),
    "answers within 200 ms with something usable",
    /DEADLINE_EXCEEDED/,
  ],
];

function fewStreams(most: number): NonNullable<Handlers["observe"]> {
  let open = 0;
  return (call) => {
    const served = ++open <= most;
    call.on("data", ({ events }) => served && call.write({ ackedSequence: events.at(-1)?.sequence ?? 0n }));
    call.on("end", () => call.end());
    call.on("cancelled", () => open--);
  };
}

function onOctets(
  answer: (octets: number, done: Parameters<NonNullable<Handlers["beforeRelay"]>>[1]) => void,
): NonNullable<Handlers["beforeRelay"]> {
  return (call, done) => {
    let octets = 0;
    call.on("data", ({ part }) => {
      if (part.case === "chunk") octets += part.value.length;
    });
    call.on("end", () => answer(octets, done));
  };
}

/** As a synchronous server with a few threads does: an open stream keeps one busy, and verdicts wait for a free one. */
function starving(threads: number): Handlers {
  let busy = 0;
  let waiting: (() => void)[] = [];
  const { observe, beforeRelay } = good();
  return {
    observe: (call) => {
      busy++;
      call.on("close", () => {
        busy--;
        for (const wake of waiting.splice(0)) wake();
      });
      observe!(call);
    },
    beforeRelay: (call, done) => {
      const work = (): void => {
        if (busy < threads) beforeRelay!(call, done);
        else waiting = [...waiting, work];
      };
      work();
    },
  };
}

function oneAtATime(ms: number): NonNullable<Handlers["beforeRelay"]> {
  let free = Promise.resolve();
  return (call, done) => {
    call.resume();
    call.on("end", () => {
      free = free
        .then(() => new Promise((resolve) => setTimeout(resolve, ms)))
        .then(() => done(null, relay()));
    });
  };
}

test("a server that keeps every promise passes", async (t) => {
  const found = await findings(t, good(), 5000);
  assert.deepEqual(
    found.filter(({ result }) => result === "breaks"),
    [],
  );
  assert.ok(found.length >= 24);
  // Without the health service it is still a good server, and is told so.
  assert.deepEqual(
    found.filter(({ result }) => result === "note").map(({ about }) => about),
    ["health"],
  );
});

test("finds what is broken, and says what to do", async (t) => {
  for (const [what, handlers, promise, seen] of broken) {
    await t.test(what, async (t) => {
      const all = await findings(t, handlers);
      const found = all.find((finding) => finding.promise === promise);
      assert.equal(
        found?.result,
        "breaks",
        `"${promise}" was not found broken: ${JSON.stringify(all, null, 1)}`,
      );
      assert.match(found.seen, seen);
      assert.notEqual(found.advice, "");
    });
  }
});

test("two answers to one call are none, and that is the advice", async (t) => {
  const server = new HookServer(`unix:${join(await temporaryFolder(t), "hook.sock")}`);
  server.description = { name: "n", version: "1", capabilities: [Capability.BEFORE_RELAY] };
  server.filter = ({ raw, answer }) => {
    raw.write(Buffer.from([(1 << 3) | 2, 0]));
    answer(relay());
  };
  await server.start();
  t.after(() => server.kill());
  const settings = { address: server.address, timeoutMs: 250, largeOctets: 1_000_000, tls: undefined };
  const found = (await checkHook(settings)).findings.find(({ promise }) => promise === SMALL);
  assert.deepEqual([found?.result, found?.seen], ["breaks", "the call was answered twice"]);
  assert.match(found?.advice ?? "", /answer each call once/);
});

test("what a server says of itself cannot forge lines of the table", async (t) => {
  const name = "n\x1b[31m\n  FAIL  all";
  const described = findings(t, good({ describe: (_call, done) => done(null, { name, capabilities: ALL }) }));
  const text = tableText(await described);
  assert.ok(text.includes("n\\x1b[31m\\n  FAIL  all"), text);
  assert.doesNotMatch(text, /\x1b|^ {2}FAIL {2}all/m);
});

test("implementations that Describe does not name are worth a note", async (t) => {
  const notes = (await findings(t, good({ describe: describeAs([Capability.SELECT_ROUTE]) })))
    .filter(({ result, about }) => result === "note" && about === "Describe")
    .map(({ seen }) => seen);
  assert.deepEqual(notes, [
    "Observe answers, but no AFTER_ capability is named",
    "BeforeRelay answers, but BEFORE_RELAY is not named",
  ]);
});

test("a hook gets what it asked for: a cut message, the header alone", async (t) => {
  const seen: [bigint, boolean, boolean, number][] = [];
  const filter: NonNullable<Handlers["beforeRelay"]> = (call, done) => {
    let octets = 0;
    call.on("data", ({ part }) => {
      if (part.case === "chunk") octets += part.value.length;
      else if (part.case === "envelope")
        seen.push([part.value.messageOctets, part.value.truncated, part.value.headerOnly, 0]);
    });
    call.on("end", () => {
      seen.at(-1)![3] = octets;
      done(null, relay());
    });
  };
  const capped = describeAs([Capability.BEFORE_RELAY], { maxMessageOctets: 1000n });
  await findings(t, { describe: capped, beforeRelay: filter });
  assert.ok(
    seen.some(([whole, truncated, , octets]) => whole === 1_000_000n && truncated && octets === 1000),
  );
  seen.length = 0;
  const header = describeAs([Capability.BEFORE_RELAY], { headerOnly: true });
  await findings(t, { describe: header, beforeRelay: filter });
  assert.ok(seen.length > 0 && seen.every(([, , headerOnly, octets]) => headerOnly && octets < 1200));
});

test("an answer that is compressed in a way that warp does not read is told as that", async (t) => {
  const path = join(await temporaryFolder(t), "hook.sock");
  t.after(await compressingServer(path, "BeforeRelay"));
  const report = await checkHook({
    address: `unix:${path}`,
    timeoutMs: 250,
    largeOctets: 1000,
    tls: undefined,
  });
  const small = report.findings.find(({ promise }) => promise === SMALL);
  assert.match(JSON.stringify(small), /neither gzip nor deflate/);
});

test("the command", async (t) => {
  const run = (...argv: string[]) => runCommand("hook-check", ...argv);
  const stop = new AbortController();
  const server = await serveHook({
    name: "sdk",
    listen: `unix:${join(await temporaryFolder(t), "hook.sock")}`,
    signal: stop.signal,
    afterConn: () => undefined,
    beforeRelay: async (_envelope, message) => {
      const header = await message.header();
      if (header.get("Subject") === "A large message") return reject("552 5.3.4 Too much"); // early
      return addHeader([insert("X-Octets", String((await message.bytes()).length))]);
    },
  });
  t.after(() => server.close(0));
  const { status, stdout } = await run(server.address, "--json");
  await t.test("says 0 and ok for a server of the SDK, with 10 MB and an early verdict", () => {
    const result = JSON.parse(stdout) as { ok: boolean; findings: Finding[] };
    assert.deepEqual([status, result.ok], [0, true]);
    const large = result.findings.find(({ promise }) => promise.startsWith("a message of 10 MB"));
    assert.match(large!.seen, /^reject, after \d+ of 10000000 octets$/);
    assert.deepEqual(
      result.findings.filter(({ result }) => result !== "holds"),
      [],
    );
  });
  await t.test("says 1 where nobody listens, with advice on stdout", async () => {
    const result = await run("unix:/nonexistent/hook.sock", "--timeout", "200ms");
    assert.equal(result.status, 1);
    assert.match(result.stdout, /FAIL {2}the address accepts a gRPC connection/);
    assert.match(result.stdout, /→ is the server running/);
  });
  await t.test("says 2 for wrong usage", async () => {
    assert.equal((await run("nonsense")).status, 2);
    assert.equal((await run()).status, 2);
    assert.equal((await run("unix:/x", "--cert", "c.pem")).status, 2);
  });
});

test("over TLS", async (t) => {
  const folder = await temporaryFolder(t);
  const certificate = makeCertificate(folder);
  if (certificate === undefined) {
    t.skip("openssl is missing");
    return;
  }
  const stop = new AbortController();
  const { cert, key, certFile, keyFile } = certificate;
  const server = await serveHook({
    name: "tls",
    listen: "127.0.0.1:0",
    tls: { cert, key, clientCa: cert },
    signal: stop.signal,
    beforeRelay: () => relay(),
  });
  t.after(() => server.close(0));
  const check = (...argv: string[]) => runCommand("hook-check", server.address, "--timeout", "2s", ...argv);
  await t.test("with a certificate of its own all holds", async () => {
    const { status, stdout } = await check("--ca", certFile, "--cert", certFile, "--key", keyFile);
    assert.equal(status, 0, stdout);
  });
  await t.test("in plaintext there is no connection, and the advice names TLS", async () => {
    const { status, stdout } = await check();
    assert.equal(status, 1);
    assert.match(stdout, /no connection: .*\n.*with or without TLS/);
  });
  await t.test("a name that the certificate does not carry is refused", async () => {
    const { status } = await check(
      "--ca",
      certFile,
      "--cert",
      certFile,
      "--key",
      keyFile,
      "--server-name",
      "x.example",
    );
    assert.equal(status, 1);
  });
});
