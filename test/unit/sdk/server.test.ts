import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../../../src/gen/grpc/health/v1/health_pb.ts";
import { Capability, type DescribeResponse, HookService } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { grpcTarget, parseAddress } from "../../../src/sdk/address.ts";
import { type ClientTls, clientCredentials } from "../../../src/sdk/credentials.ts";
import { createClient } from "../../../src/sdk/grpc.ts";
import { addHeader, type Event, insert, reject, relay, serveHook } from "../../../src/sdk/index.ts";
import { makeCertificate } from "./certificate.ts";
import { ask, commEvents, connect, type HookClient, Stream, start, temporaryFolder } from "./harness.ts";

const chunk = Buffer.alloc(65_536, "x");
const describeHook = (client: HookClient): Promise<DescribeResponse> =>
  new Promise((resolve, reject) =>
    client.describe({}, (error, value) => (error ? reject(error) : resolve(value!))),
  );

test("Describe", async (t) => {
  await t.test("says what the handlers make of the hook", async (t) => {
    const { client } = await start(t, {
      name: "tagger",
      version: "2.1",
      afterConn: () => undefined,
      beforeRelay: () => relay(),
      maxMessageOctets: 1000,
      headerOnly: true,
    });
    const described = await describeHook(client);
    assert.deepEqual(
      [
        described.name,
        described.version,
        described.capabilities,
        described.maxMessageOctets,
        described.headerOnly,
      ],
      ["tagger", "2.1", [Capability.AFTER_CONN, Capability.BEFORE_RELAY], 1000n, true],
    );
  });
  await t.test("names all kinds of events for observe, unless told which", async (t) => {
    const all = await start(t, { observe: () => undefined });
    assert.deepEqual((await describeHook(all.client)).capabilities, [
      Capability.AFTER_COMM,
      Capability.AFTER_TRANSACTION,
      Capability.AFTER_CONN,
    ]);
    const some = await start(t, { observe: () => undefined, observes: ["afterTransaction"] });
    assert.deepEqual((await describeHook(some.client)).capabilities, [Capability.AFTER_TRANSACTION]);
  });
  await t.test("options that contradict each other are refused at once", async () => {
    const listen = "127.0.0.1:0";
    await assert.rejects(serveHook({ name: "n", listen }), /needs a handler/);
    await assert.rejects(
      serveHook({ name: "n", listen, observe: () => undefined, afterConn: () => undefined }),
      /not both/,
    );
    await assert.rejects(
      serveHook({ name: "n", listen, beforeRelay: () => relay(), observes: [] }),
      /belongs to observe/,
    );
  });
  await t.test("what has no handler is UNIMPLEMENTED", async (t) => {
    const { client } = await start(t, { afterConn: () => undefined });
    assert.equal((await ask(client, {}, [])).error?.code, grpc.status.UNIMPLEMENTED);
  });
});

test("Observe", async (t) => {
  await t.test("acknowledges a batch only once its handler is done, in order", async (t) => {
    const seen: bigint[] = [];
    const gate = Promise.withResolvers<void>();
    const { client } = await start(t, {
      observe: async (events) => {
        if (events[0]!.sequence === 1n) await gate.promise;
        seen.push(...events.map((event) => event.sequence));
      },
    });
    const stream = new Stream(client);
    stream.send(commEvents(1, 3));
    stream.send(commEvents(4, 2));
    const other = new Stream(client); // another stream is not held up by this one
    other.send(commEvents(100, 1));
    assert.deepEqual(await other.acknowledged(1), [100n]);
    assert.deepEqual([stream.acks, seen], [[], [100n]]);
    gate.resolve();
    assert.deepEqual(await stream.acknowledged(2), [3n, 5n]);
    assert.deepEqual(seen, [100n, 1n, 2n, 3n, 4n, 5n]);
    stream.end();
    assert.equal(await stream.ended, "clean");
  });
  await t.test("answers a heartbeat with the last acknowledged sequence", async (t) => {
    const { client } = await start(t, { observe: () => undefined });
    const stream = new Stream(client);
    stream.send([]);
    stream.send(commEvents(1, 7));
    stream.send([]);
    assert.deepEqual(await stream.acknowledged(3), [0n, 7n, 7n]);
  });
  await t.test("says so where a request is no protobuf", async (t) => {
    const { client, errors } = await start(t, { observe: () => undefined });
    const raw = (octets: Buffer) => octets;
    const call = client.makeBidiStreamRequest("/warp.hook.v1.HookService/Observe", raw, raw);
    call.resume();
    call.write(Buffer.from([0x12, 0x7f, 0x01]));
    const [error] = (await once(call, "error")) as [grpc.ServiceError];
    assert.equal(error.code, grpc.status.INTERNAL);
    assert.match(errors.join(), /^Observe: a request cannot be decoded/);
  });
  await t.test(
    "a handler that fails leaves its batch unacknowledged and ends the stream with an error",
    async (t) => {
      const { client, errors } = await start(t, {
        afterComm: (_comm, event) => {
          if (event.sequence === 5n) throw new Error("disk full");
        },
      });
      const stream = new Stream(client);
      stream.send(commEvents(1, 3));
      stream.send(commEvents(4, 3));
      stream.send(commEvents(7, 3));
      const ended = await stream.ended;
      assert.ok(ended !== "clean");
      assert.match(ended.details, /not stored: disk full/);
      assert.deepEqual(stream.acks, [3n]);
      assert.deepEqual(errors, ["Observe: disk full"]);
    },
  );
  await t.test("a batch that takes too long ends the stream and aborts the handler's signal", async (t) => {
    let aborted = false;
    const { client } = await start(t, {
      batchTimeoutMs: 20,
      observe: (_events, { signal }) =>
        new Promise((resolve) => {
          signal.addEventListener("abort", () => {
            aborted = true;
            resolve();
          });
        }),
    });
    const stream = new Stream(client);
    stream.send(commEvents(1, 1));
    const ended = await stream.ended;
    assert.ok(ended !== "clean" && /batchTimeoutMs/.test(ended.details));
    assert.ok(aborted);
    assert.deepEqual(stream.acks, []);
  });
  await t.test("repeats its last acknowledgement while a batch takes long", async (t) => {
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const { client } = await start(t, {
      observe: async (events) => {
        if (events[0]!.sequence < 4n) return;
        begun.resolve();
        await gate.promise;
      },
    });
    const stream = new Stream(client);
    t.mock.timers.enable({ apis: ["setInterval"] });
    stream.send(commEvents(1, 3));
    await stream.acknowledged(1);
    stream.send(commEvents(4, 3));
    await begun.promise;
    t.mock.timers.tick(15_000);
    assert.deepEqual(await stream.acknowledged(2), [3n, 3n]);
    gate.resolve();
    assert.deepEqual(await stream.acknowledged(3), [3n, 3n, 6n]);
    t.mock.timers.tick(60_000);
    stream.send([]);
    assert.deepEqual(await stream.acknowledged(4), [3n, 3n, 6n, 6n]);
  });
  await t.test("tells the handlers of single events apart, and skips kinds it does not know", async (t) => {
    const seen: string[] = [];
    const { client } = await start(t, {
      afterConn: (conn, event, { source }) =>
        void seen.push(`conn ${conn.transactions} ${event.id} ${source?.epoch}`),
      afterGap: (gap) => void seen.push(`gap ${gap.count}`),
      afterNotice: (notice) => void seen.push(`notice ${notice.code}`),
    });
    const stream = new Stream(client);
    stream.send([
      { sequence: 1n, id: "A", kind: { case: "afterConn", value: { transactions: 2 } } },
      { sequence: 2n, kind: { case: "gap", value: { count: 9n } } },
      { sequence: 3n, kind: { case: "notice", value: { code: "hook_down" } } },
      { sequence: 4n, kind: { case: "afterTransaction", value: {} } },
      { sequence: 5n },
    ]);
    assert.deepEqual(await stream.acknowledged(1), [5n]);
    assert.deepEqual(seen, ["conn 2 A E", "gap 9", "notice hook_down"]);
  });
  await t.test("while a batch is worked on, no more than a few batches are read ahead", async (t) => {
    const gate = Promise.withResolvers<void>();
    const { client } = await start(t, { observe: () => gate.promise });
    const call = client.observe();
    call.on("error", () => undefined);
    const data = Buffer.alloc(60_000);
    let taken = 0;
    let blocked = false;
    const finished = new Promise<void>((resolve) => {
      const next = (): void => {
        if (taken === 4000) {
          resolve();
          return;
        }
        const idle = setTimeout(() => {
          blocked = true;
          resolve();
        }, 500);
        call.write(
          { events: [{ sequence: BigInt(taken + 1), kind: { case: "afterComm", value: { data } } }] },
          () => {
            clearTimeout(idle);
            taken++;
            next();
          },
        );
      };
      next();
    });
    await finished;
    assert.ok(blocked, "240 MB were taken while nothing was stored");
    assert.ok(taken * data.length < 16 * 1024 * 1024, `${taken} batches were taken`);
    gate.resolve();
    call.cancel();
  });
  await t.test("a proxy that leaves in the middle of a batch is no error", async (t) => {
    const begun = Promise.withResolvers<void>();
    const gone = Promise.withResolvers<void>();
    const { client, errors } = await start(t, {
      observe: async (_events, { signal }) => {
        begun.resolve();
        await once(signal, "abort");
        gone.resolve();
      },
    });
    const stream = new Stream(client);
    stream.send(commEvents(1, 1));
    await begun.promise;
    stream.cancel();
    await gone.promise;
    assert.deepEqual(errors, []);
  });
});

test("BeforeRelay", async (t) => {
  await t.test("hands over envelope and message, and returns the verdict", async (t) => {
    const { client } = await start(t, {
      async beforeRelay(envelope, message) {
        const header = await message.header();
        const octets = await message.bytes();
        return addHeader(
          [insert("X-Seen", `${envelope.mailFrom?.address} ${header.get("subject")} ${octets.length}`)],
          {
            score: 2.5,
            tags: ["a"],
            note: "n",
          },
        );
      },
    });
    const { response } = await ask(client, { mailFrom: { address: "a@b" } }, [
      Buffer.from("Subject: s\r\n\r"),
      Buffer.from("\nbody"),
    ]);
    assert.deepEqual(response?.verdict.case === "addHeader" && response.verdict.value.edits[0]?.edit.value, {
      $typeName: "warp.hook.v1.Field",
      name: "X-Seen",
      value: "a@b s 18",
    });
    assert.deepEqual([response?.score, response?.tags, response?.note], [2.5, ["a"], "n"]);
  });
  await t.test("takes an empty message and octets that are no text", async (t) => {
    const { client } = await start(t, {
      beforeRelay: async (_envelope, message) => relay({ note: (await message.bytes()).toString("hex") }),
    });
    assert.equal((await ask(client, {}, [])).response?.note, "");
    assert.equal((await ask(client, {}, [Buffer.from([0xff, 0x00, 0xfe])])).response?.note, "ff00fe");
  });
  await t.test("10 MB arrive whole, in order", async (t) => {
    const { client } = await start(t, {
      async beforeRelay(_envelope, message) {
        let octets = 0;
        for await (const part of message) octets += part.length;
        return relay({ score: octets });
      },
    });
    const { response } = await ask(
      client,
      {},
      Array.from({ length: 160 }, () => chunk),
    );
    assert.equal(response?.score, 160 * 65_536);
  });
  await t.test("a verdict before the message was sent ends the call, and others go on", async (t) => {
    const { client } = await start(t, {
      beforeRelay: (envelope) => (envelope.transactionId === "early" ? reject("550 5.7.1 no") : relay()),
    });
    for (let round = 0; round < 20; round++) {
      const { response, error } = await ask(
        client,
        { transactionId: "early" },
        Array.from({ length: 160 }, () => chunk),
      );
      assert.equal(error, undefined);
      assert.equal(response?.verdict.case, "reject");
    }
    assert.equal((await ask(client, {}, [chunk])).response?.verdict.case, "relay");
  });
  await t.test("an error in the filter is an error of the call, with its words", async (t) => {
    const { client, errors } = await start(t, {
      beforeRelay: () => {
        throw new Error("no database");
      },
    });
    const { error } = await ask(client, {}, [chunk]);
    assert.deepEqual([error?.code, error?.details], [grpc.status.INTERNAL, "no database"]);
    assert.deepEqual(errors, ["BeforeRelay: no database"]);
  });
  await t.test("no verdict, or one that is none, is an error and never a relay", async (t) => {
    const answers: unknown[] = [
      undefined,
      null,
      {},
      { verdict: {} },
      { verdict: { case: undefined } },
      { verdict: { case: "accept", value: {} } },
      "relay",
    ];
    const { client } = await start(t, { beforeRelay: () => answers.shift() as ReturnType<typeof relay> });
    while (answers.length > 0) {
      const { error, response } = await ask(client, {}, []);
      assert.equal(response, undefined);
      assert.match(error!.details, /no verdict/);
    }
  });
  await t.test("a call without envelope, or with two, is INVALID_ARGUMENT", async (t) => {
    const { client } = await start(t, {
      beforeRelay: async (_e, message) => relay({ note: `${await message.bytes()}` }),
    });
    const codes = [];
    for (const parts of [
      [],
      [{ part: { case: "chunk" as const, value: chunk } }],
      [1, 2].map(() => ({ part: { case: "envelope" as const, value: {} } })),
    ]) {
      codes.push(
        await new Promise((resolve) => {
          const call = client.beforeRelay((error) => resolve(error?.code));
          call.on("error", () => undefined);
          for (const part of parts) call.write(part);
          call.end();
        }),
      );
    }
    assert.deepEqual(codes, [
      grpc.status.INVALID_ARGUMENT,
      grpc.status.INVALID_ARGUMENT,
      grpc.status.INVALID_ARGUMENT,
    ]);
  });
  await t.test("aborts the filter's signal when the proxy gives up, and not after an answer", async (t) => {
    const begun = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    const signals: AbortSignal[] = [];
    const { client, errors } = await start(t, {
      async beforeRelay(envelope, _message, { signal }) {
        signals.push(signal);
        if (envelope.transactionId === "quick") return relay();
        begun.resolve();
        await once(signal, "abort");
        aborted.resolve();
        throw new Error("nobody is there to hear this");
      },
    });
    await ask(client, { transactionId: "quick" }, []);
    const call = client.beforeRelay(() => undefined);
    call.on("error", () => undefined);
    call.write({ part: { case: "envelope", value: {} } });
    await begun.promise;
    call.cancel();
    await aborted.promise;
    assert.equal(signals[0]!.aborted, false);
    assert.deepEqual(errors, []);
  });
  await t.test(
    "no more messages at once than concurrentMessages says, the others in their order",
    async (t) => {
      let now = 0;
      let most = 0;
      const order: string[] = [];
      const { client } = await start(t, {
        concurrentMessages: 2,
        async beforeRelay(envelope, message) {
          most = Math.max(most, ++now);
          await message.bytes();
          await new Promise(setImmediate);
          order.push(envelope.transactionId);
          now--;
          return relay();
        },
      });
      const ids = Array.from({ length: 10 }, (_, index) => String(index));
      const answers = await Promise.all(ids.map((transactionId) => ask(client, { transactionId }, [chunk])));
      assert.ok(answers.every(({ response }) => response?.verdict.case === "relay"));
      assert.equal(most, 2);
      assert.deepEqual([...order].sort(), ids);
    },
  );
  await t.test("is answered while 16 Observe streams are open and busy", async (t) => {
    const gate = Promise.withResolvers<void>();
    const { client } = await start(t, { observe: () => gate.promise, beforeRelay: () => relay() });
    const streams = Array.from({ length: 16 }, () => new Stream(client));
    for (const stream of streams) stream.send(commEvents(1, 10));
    assert.equal((await ask(client, {}, [chunk])).response?.verdict.case, "relay");
    gate.resolve();
    for (const stream of streams) assert.deepEqual(await stream.acknowledged(1), [10n]);
  });
});

test("SelectRoute", async (t) => {
  await t.test("returns the choice, none, or a refusal", async (t) => {
    const choices = [
      { pool: "p" },
      { sourceIp: "192.0.2.1" },
      { refuse: { code: 450 } },
      undefined,
      { refuse: { code: 250 } },
    ];
    const { client } = await start(t, { selectRoute: () => choices.shift() as undefined });
    const choose = () =>
      new Promise((resolve) =>
        client.selectRoute({}, (error, response) => resolve(error?.details ?? response?.route)),
      );
    assert.deepEqual(await choose(), { case: "pool", value: "p" });
    assert.deepEqual(await choose(), { case: "sourceIp", value: "192.0.2.1" });
    assert.equal(((await choose()) as { case: string }).case, "refuse");
    assert.deepEqual(await choose(), { case: undefined });
    assert.match(String(await choose()), /400 to 599/);
  });
});

test("health", async (t) => {
  await t.test("serves for the server and the service, and knows no other", async (t) => {
    const { server } = await start(t, { beforeRelay: () => relay() });
    const health = createClient(
      Health,
      grpcTarget(parseAddress(server.address)),
      grpc.credentials.createInsecure(),
    );
    t.after(() => health.close());
    const check = (service: string) =>
      new Promise((resolve) =>
        health.check({ service }, (error, response) => resolve(error?.code ?? response?.status)),
      );
    assert.equal(await check(""), Status.SERVING);
    assert.equal(await check("warp.hook.v1.HookService"), Status.SERVING);
    assert.equal(await check("other"), grpc.status.NOT_FOUND);
    const watch = health.watch({ service: "" });
    const seen: Status[] = [];
    watch.on("data", ({ status }) => seen.push(status));
    await once(watch, "data");
    await server.close();
    if (seen.length < 2) await once(watch, "end");
    assert.deepEqual(seen, [Status.SERVING, Status.NOT_SERVING]);
  });
});

test("listening", async (t) => {
  await t.test("on TCP, with the port it got in its address", async (t) => {
    const { server, client } = await start(t, { listen: "127.0.0.1:0", beforeRelay: () => relay() });
    assert.match(server.address, /^127\.0\.0\.1:[1-9]\d*$/);
    assert.equal((await ask(client, {}, [])).response?.verdict.case, "relay");
    await assert.rejects(
      serveHook({ name: "n", listen: server.address, beforeRelay: () => relay() }),
      /already in use/,
    );
  });
  await t.test("on IPv6 loopback", async (t) => {
    const { server, client } = await start(t, { listen: "[::1]:0", beforeRelay: () => relay() });
    assert.match(server.address, /^\[::1\]:\d+$/);
    assert.equal((await ask(client, {}, [])).response?.verdict.case, "relay");
  });
  await t.test("a Unix socket has its mode, and is gone after close", async (t) => {
    const { server } = await start(t, { beforeRelay: () => relay(), socketMode: 0o600 });
    const path = server.address.slice("unix:".length);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await server.close();
    await assert.rejects(stat(path), { code: "ENOENT" });
  });
  await t.test("takes the place of a dead server's socket, and of nothing else", async (t) => {
    const folder = await temporaryFolder(t);
    const path = join(folder, "stale.sock");
    const dying = spawn(process.execPath, [
      "-e",
      `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    await once(dying, "exit");
    assert.ok((await stat(path)).isSocket());
    const { client } = await start(t, { listen: `unix:${path}`, beforeRelay: () => relay() });
    assert.equal((await ask(client, {}, [])).response?.verdict.case, "relay");

    const serve = (name: string) =>
      serveHook({ name: "n", listen: `unix:${join(folder, name)}`, beforeRelay: () => relay() });
    await assert.rejects(serve("stale.sock"), /another server is already listening/);
    await writeFile(join(folder, "file"), "precious");
    await assert.rejects(serve("file"), /a file that is no socket/);
    await assert.rejects(serve("none/hook.sock"), /folder .*none is not there/);
    await mkdir(join(folder, "x".repeat(100)));
    await assert.rejects(serve(`${"x".repeat(100)}/hook.sock`), /at most 107 octets/);
  });
  await t.test("beyond loopback needs TLS or an explicit insecure", async () => {
    await assert.rejects(
      serveHook({ name: "n", listen: "0.0.0.0:0", beforeRelay: () => relay() }),
      /other hosts/,
    );
  });
  await t.test("addresses that are none are refused in plain words", async () => {
    for (const listen of [
      "",
      "7070",
      "unix:relative",
      "unix:",
      "host:99999",
      "::1:7070",
      "a b:1",
      "http://x:1",
    ]) {
      await assert.rejects(serveHook({ name: "n", listen, beforeRelay: () => relay() }), TypeError, listen);
    }
    assert.deepEqual(parseAddress("unix:///run/h.sock"), { kind: "unix", path: "/run/h.sock" });
    assert.deepEqual(parseAddress("[2001:db8::1]:7"), { kind: "tcp", host: "2001:db8::1", port: 7 });
  });
});

test("stopping", async (t) => {
  await t.test(
    "finishes verdicts in progress, acknowledges what is stored, and ends streams cleanly",
    async (t) => {
      const gate = Promise.withResolvers<void>();
      const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
      const { server, client } = await start(t, {
        observe: async () => {
          begun[0].resolve();
          await gate.promise;
        },
        beforeRelay: async () => {
          begun[1].resolve();
          await gate.promise;
          return relay({ note: "late" });
        },
      });
      const stream = new Stream(client);
      stream.send(commEvents(1, 4));
      const answer = ask(client, {}, [chunk]);
      await Promise.all(begun.map(({ promise }) => promise));
      const closed = server.close();
      gate.resolve();
      assert.equal((await answer).response?.note, "late");
      assert.equal(await stream.ended, "clean");
      assert.deepEqual(stream.acks, [4n]);
      await closed;
      assert.equal((await ask(client, {}, [])).error?.code, grpc.status.UNAVAILABLE);
    },
  );
  await t.test("ends idle streams at once, and those that open later", async (t) => {
    const { server, client, errors } = await start(t, { observe: () => undefined });
    const stream = new Stream(client);
    stream.send(commEvents(1, 1));
    await stream.acknowledged(1);
    const closed = server.close();
    assert.equal(await stream.ended, "clean");
    await closed;
    assert.deepEqual(errors, []);
  });
  await t.test("cuts off what is not done in its grace", async (t) => {
    const begun = Promise.withResolvers<void>();
    const { server, client } = await start(t, {
      beforeRelay: () => {
        begun.resolve();
        return new Promise(() => undefined);
      },
    });
    const answer = ask(client, {}, []);
    await begun.promise;
    await server.close(20);
    assert.ok((await answer).error);
  });
  await t.test("SIGTERM stops the program, with a verdict in progress answered", async (t) => {
    const folder = await temporaryFolder(t);
    const script = join(folder, "hook.ts");
    const sdk = new URL("../../../src/sdk/index.ts", import.meta.url).href;
    await writeFile(
      script,
      `import { relay, serveHook } from ${JSON.stringify(sdk)};
       const server = await serveHook({ name: "t", listen: "unix:${folder}/hook.sock", async beforeRelay(_e, message) {
         console.log("asked");
         await message.bytes();
         return relay({ note: "done" });
       } });
       console.log(server.address);`,
    );
    const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    const exited = once(child, "exit");
    const said = child.stdout.setEncoding("utf8")[Symbol.asyncIterator]();
    const address = String((await said.next()).value).trim();
    const client = connect(t, address);
    const health = createClient(Health, grpcTarget(parseAddress(address)), grpc.credentials.createInsecure());
    t.after(() => health.close());
    const stopping = new Promise<void>((resolve) => {
      const watch = health.watch({ service: "" });
      watch.on("data", ({ status }) => status === Status.NOT_SERVING && resolve());
    });
    const call = client.beforeRelay((error, response) => answered.resolve(error?.message ?? response?.note));
    const answered = Promise.withResolvers<string | undefined>();
    call.on("error", () => undefined);
    call.write({ part: { case: "envelope", value: {} } });
    assert.equal(String((await said.next()).value).trim(), "asked");
    child.kill("SIGTERM");
    await stopping;
    call.write({ part: { case: "chunk", value: chunk } }); // the rest of the message comes after the signal
    call.end();
    assert.equal(await answered.promise, "done");
    assert.deepEqual(await exited, [0, null]);
  });
});

test("a batch is handed over with everything that was in it", async (t) => {
  const batches: Event[][] = [];
  const { client } = await start(t, { observe: (events) => void batches.push([...events]) });
  const stream = new Stream(client);
  stream.send(commEvents(1, 512));
  await stream.acknowledged(1);
  assert.equal(batches[0]!.length, 512);
  const { kind } = batches[0]![511]!;
  assert.equal(kind.case === "afterComm" && Buffer.from(kind.value.data).toString(), "NOOP");
});

test("TLS", async (t) => {
  const folder = await temporaryFolder(t);
  const certificate = makeCertificate(folder);
  if (certificate === undefined) {
    t.skip("openssl is missing");
    return;
  }
  const { cert, key } = certificate;
  const askWith = async (t: TestContext, at: string, tls: ClientTls | undefined) => {
    const address = parseAddress(at);
    const { credentials, options } = clientCredentials(address, tls);
    const client = createClient(HookService, grpcTarget(address), credentials, options);
    t.after(() => client.close());
    return ask(client, {}, []);
  };
  await t.test("a client that trusts the certificate gets its verdict, plaintext gets none", async (t) => {
    const tls = { cert: `${folder}/cert.pem`, key };
    const { server } = await start(t, { listen: "127.0.0.1:0", tls, beforeRelay: () => relay() });
    const trusted = await askWith(t, server.address, { ca: cert });
    assert.equal(trusted.error, undefined);
    assert.equal(trusted.response?.verdict.case, "relay");
    assert.ok((await askWith(t, server.address, undefined)).error);
    const named = await askWith(t, server.address, { ca: cert, serverName: "localhost" });
    assert.equal(named.response?.verdict.case, "relay");
    const wrong = await askWith(t, server.address, { ca: cert, serverName: "other.example" });
    assert.match(wrong.error!.details, /other\.example/);
    const stranger = await askWith(t, server.address, {});
    assert.match(stranger.error!.details, /self-signed certificate/);
  });
  await t.test("with clientCa a client needs a certificate of its own", async (t) => {
    const tls = { cert, key, clientCa: cert };
    const { server } = await start(t, { listen: "127.0.0.1:0", tls, beforeRelay: () => relay() });
    const known = await askWith(t, server.address, { ca: cert, key, cert });
    assert.equal(known.response?.verdict.case, "relay");
    assert.ok((await askWith(t, server.address, { ca: cert })).error);
  });
  await t.test("a file that cannot be read is named with its setting", async () => {
    const tls = { cert: `${folder}/none.pem`, key };
    await assert.rejects(
      serveHook({ name: "n", listen: "127.0.0.1:0", tls, beforeRelay: () => relay() }),
      /tls\.cert: cannot read .*none\.pem/,
    );
  });
});
