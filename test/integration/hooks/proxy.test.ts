/** Through the real proxy: no message gets around a filter, and no event is lost, whatever happens. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { after, afterEach, test } from "node:test";
import { Capability, Outcome } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { Client, Destination } from "./mail.ts";
import { type FilterCall, HookServer, temporaryFolder, until } from "./server.ts";
import { Warp } from "./warp.ts";

const folder = temporaryFolder();
after(() => folder.remove());
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});
let names = 0;
/** A multiple of 20; 1,000 take some minutes. */
const BIG_MESSAGES = Number(process.env.BIG_MESSAGES ?? 40);

async function hook(
  capabilities: readonly Capability[],
  filter?: (call: FilterCall) => void,
): Promise<HookServer> {
  const made = new HookServer(`unix:${folder.path}/${names++}.sock`);
  made.description = { name: "test", capabilities: [...capabilities] };
  if (filter !== undefined) made.filter = filter;
  await made.start();
  cleanUp.push(() => made.kill());
  return made;
}
async function destination(): Promise<{ mx: Destination; port: number }> {
  const mx = new Destination();
  const port = await mx.start();
  cleanUp.push(() => mx.stop());
  return { mx, port };
}
async function proxy(port: number, ...flags: string[]): Promise<Warp> {
  const warp = await Warp.start(port, flags);
  cleanUp.push(() => warp.end("SIGKILL"));
  return warp;
}
async function client(warp: Warp): Promise<Client> {
  const made = await Client.open(warp.port);
  cleanUp.push(() => made.close());
  assert.match(await made.reply(), /^220 /);
  return made;
}

/** Rejects what says SPAM, marks the rest. */
const judging = (call: FilterCall): void =>
  void call.message.then((message) =>
    call.answer(
      message.includes("SPAM")
        ? { verdict: { case: "reject", value: { code: 550, enhancedCode: "5.7.1", text: "spam" } } }
        : {
            verdict: {
              case: "addHeader",
              value: { edits: [{ edit: { case: "add", value: { name: "X-Seen", value: "yes" } } }] },
            },
          },
    ),
  );
const ham = "Subject: ham\r\n\r\nhello\r\n";
const spam = "Subject: spam\r\n\r\nSPAM\r\n";
const seen = "Subject: ham\r\nX-Seen: yes\r\n\r\nhello\r\n";
const envelope = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n";

test("no message gets around a filter: step by step, pipelined, in one segment, by BDAT, first or tenth", async () => {
  const filter = await hook([Capability.BEFORE_RELAY], judging);
  const { mx, port } = await destination();
  const warp = await proxy(port, "--filter", `f=${filter.address}`);
  const smtp = await client(warp);
  assert.match(await smtp.ask("EHLO client.example"), /CHUNKING/);
  // Step by step.
  assert.match(await smtp.ask("MAIL FROM:<a@example.org>"), /^250/);
  assert.match(await smtp.ask("RCPT TO:<b@example.net>"), /^250/);
  assert.match(await smtp.ask("DATA"), /^354/);
  smtp.send(`${spam}.\r\n`);
  assert.equal(await smtp.reply(), "550 5.7.1 spam");
  // The commands in one segment.
  for (const [message, answer] of [
    [ham, /^250/],
    [spam, /^550 5\.7\.1 spam$/],
  ] as const) {
    smtp.send(`${envelope}DATA\r\n`);
    assert.match((await smtp.replies(3)).join(), /^250.*250.*354/);
    smtp.send(`${message}.\r\n`);
    assert.match(await smtp.reply(), answer);
  }
  // Commands and message in one segment, and the next transaction behind it, ten times.
  for (let i = 0; i < 10; i++) {
    smtp.send(`${envelope}DATA\r\n${i % 2 === 0 ? spam : ham}.\r\n`);
    const replies = await smtp.replies(4);
    assert.match(replies[3] ?? "", i % 2 === 0 ? /^550 5\.7\.1 spam/ : /^250/);
  }
  // BDAT, in one chunk, in two, and pipelined.
  smtp.send(`${envelope}BDAT ${spam.length} LAST\r\n${spam}`);
  assert.match((await smtp.replies(3))[2] ?? "", /^550 5\.7\.1 spam/);
  smtp.send(`${envelope}BDAT 10\r\n${ham.slice(0, 10)}BDAT ${ham.length - 10} LAST\r\n${ham.slice(10)}`);
  assert.match((await smtp.replies(4)).join(), /^250.*250.*250.*250/);
  smtp.send(
    `${envelope}BDAT 10\r\n${spam.slice(0, 10)}BDAT ${spam.length - 10} LAST\r\n${spam.slice(10)}NOOP\r\n`,
  );
  const replies = await smtp.replies(5);
  assert.match(replies[3] ?? "", /^550 5\.7\.1 spam/);
  assert.match(replies[4] ?? "", /^250/);
  assert.equal(mx.delivered.length, 7);
  for (const { message } of mx.delivered) assert.equal(message.toString(), seen);
});

test("no message gets around a filter over TLS", async () => {
  const [key, cert] = [`${folder.path}/tls.key`, `${folder.path}/tls.crt`];
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-keyout",
      key,
      "-out",
      cert,
      "-subj",
      "/CN=localhost",
      "-days",
      "2",
    ],
    { stdio: "ignore" },
  );
  const filter = await hook([Capability.BEFORE_RELAY], judging);
  const { mx, port } = await destination();
  const warp = await proxy(port, "--filter", `f=${filter.address}`, "--tls-cert", cert, "--tls-key", key);
  const smtp = await client(warp);
  assert.match(await smtp.ask("EHLO client.example"), /STARTTLS/);
  assert.match(await smtp.ask("STARTTLS"), /^220/);
  await smtp.startTls();
  assert.doesNotMatch(await smtp.ask("EHLO client.example"), /STARTTLS/);
  for (let i = 0; i < 4; i++) {
    smtp.send(`${envelope}DATA\r\n${i % 2 === 0 ? spam : ham}.\r\n`);
    assert.match((await smtp.replies(4))[3] ?? "", i % 2 === 0 ? /^550 5\.7\.1 spam/ : /^250/);
  }
  assert.deepEqual(
    mx.delivered.map(({ message }) => message.toString()),
    [seen, seen],
  );
});

test("a message that a filter makes of CRLF.CRLF and dots arrives as it was made", async () => {
  const made = "A: 1\r\n\r\n.\r\n..\r\n.x\r\nMAIL FROM:<evil@example>\r\n";
  const filter = await hook(
    [Capability.BEFORE_RELAY],
    (call) =>
      void call.message.then(() =>
        call.answer({ verdict: { case: "replace", value: { message: Buffer.from(made) } } }),
      ),
  );
  const { mx, port } = await destination();
  const smtp = await client(await proxy(port, "--filter", `f=${filter.address}`));
  await smtp.ask("EHLO client.example");
  smtp.send(`${envelope}DATA\r\n${ham}.\r\n${envelope}BDAT ${ham.length} LAST\r\n${ham}`);
  await smtp.replies(7);
  assert.deepEqual(
    mx.delivered.map(({ message }) => message.toString()),
    [made, made],
  );
  assert.ok(!mx.commands.some((line) => line.includes("evil")));
});

for (const [onFailure, answer] of [
  ["tempfail", /^451 4\.7\.1 /],
  ["reject", /^554 5\.7\.1 /],
  ["accept", /^250 /],
] as const) {
  test(`a filter that is killed and restarted under load: each message is judged, or refused as configured (${onFailure})`, async () => {
    const filter = await hook([Capability.BEFORE_RELAY], judging);
    const { mx, port } = await destination();
    const config = `${folder.path}/${names++}.yaml`;
    execFileSync("tee", [config], {
      input: `hooks: [{ name: f, address: "${filter.address}", roles: [filter], on_failure: ${onFailure}, deadline: 2s }]\n`,
      stdio: ["pipe", "ignore", "inherit"],
    });
    const warp = await proxy(port, "--config", config);
    const finals = { accepted: 0, failed: 0 };
    let stopping = false;
    const sending = Array.from({ length: 8 }, async () => {
      const smtp = await client(warp);
      await smtp.ask("EHLO client.example");
      while (!stopping) {
        smtp.send(`${envelope}DATA\r\n${ham}.\r\n`);
        const final = (await smtp.replies(4))[3] ?? "";
        if (final.startsWith("250")) finals.accepted++;
        else {
          assert.match(final, answer);
          finals.failed++;
          // As a client that tries again, rather than one that fills the log.
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
    });
    for (let round = 0; round < 4; round++) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      filter.kill();
      await new Promise((resolve) => setTimeout(resolve, 150));
      await filter.start();
    }
    const judgedBefore = mx.delivered.filter(({ message }) => message.includes("X-Seen")).length;
    await until(
      () => mx.delivered.filter(({ message }) => message.includes("X-Seen")).length > judgedBefore + 50,
      "it judges again",
    );
    stopping = true;
    await Promise.all(sending);
    assert.equal(mx.delivered.length, finals.accepted, "what was accepted was delivered once");
    for (const { message } of mx.delivered) {
      const text = message.toString();
      if (onFailure === "accept")
        assert.ok(text === seen || text === `X-Warp-Filter-Skipped: f\r\n${ham}`, text);
      else assert.equal(text, seen);
    }
    assert.ok(onFailure === "accept" || finals.failed > 0, "no failure was seen");
  });
}

test("20 messages of 10 MB at a time stay within the memory budget", async (t) => {
  const filter = await hook([Capability.BEFORE_RELAY], (call) => {
    let octets = 0;
    call.raw.on("data", (part: Buffer) => {
      octets += part.length;
    });
    call.raw.on("end", () =>
      call.answer({
        verdict: {
          case: "addHeader",
          value: { edits: [{ edit: { case: "insert", value: { name: "X-Octets", value: `${octets}` } } }] },
        },
      }),
    );
  });
  const { mx, port } = await destination();
  mx.keepsContent = false;
  const warp = await proxy(port, "--filter", `f=${filter.address}`);
  const big = Buffer.from(`Subject: big\r\n\r\n${"0123456789abcdef0123456789abcdef\r\n".repeat(294_000)}`);
  const one = async (): Promise<void> => {
    const smtp = await client(warp);
    await smtp.ask("EHLO client.example");
    await smtp.ask("MAIL FROM:<a@example.org>");
    await smtp.ask("RCPT TO:<b@example.net>");
    await smtp.ask("DATA");
    await smtp.sendAll(Buffer.concat([big, Buffer.from(".\r\n")]));
    assert.match(await smtp.reply(120_000), /^250/);
    smtp.close();
  };
  const before = warp.rss;
  let most = before;
  const watching = setInterval(() => {
    most = Math.max(most, warp.rss);
  }, 20);
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let i = 0; i < BIG_MESSAGES / 20; i++) await one();
    }),
  );
  clearInterval(watching);
  const seconds = (performance.now() - begin) / 1000;
  t.diagnostic(
    `${BIG_MESSAGES} messages of 10 MB in ${seconds.toFixed(1)} s; RSS ${mib(before)} before, ${mib(most)} at most`,
  );
  assert.equal(mx.delivered.length, BIG_MESSAGES);
  assert.ok(most - before < 300 * 1024 * 1024, `RSS grew by ${mib(most - before)}`);
});

test("messages beyond the budget are 451 4.3.1, and the others are delivered", async (t) => {
  const filter = await hook([Capability.BEFORE_RELAY]);
  const { mx, port } = await destination();
  mx.keepsContent = false;
  const config = `${folder.path}/${names++}.yaml`;
  writeFileSync(
    config,
    `hooks: [{ name: f, address: "${filter.address}", roles: [filter] }]\nfilter: { hold_total: 64MiB }\n`,
  );
  const warp = await proxy(port, "--config", config);
  const big = Buffer.from(
    `Subject: big\r\n\r\n${"0123456789abcdef0123456789abcdef\r\n".repeat(290_000)}.\r\n`,
  );
  const finals = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const smtp = await client(warp);
      await smtp.ask("EHLO client.example");
      await smtp.ask("MAIL FROM:<a@example.org>");
      await smtp.ask("RCPT TO:<b@example.net>");
      await smtp.ask("DATA");
      await smtp.sendAll(big);
      const final = await smtp.reply(60_000);
      // The session goes on.
      assert.match(await smtp.ask("NOOP"), /^250/);
      return final.slice(0, 9);
    }),
  );
  const accepted = finals.filter((final) => final.startsWith("250")).length;
  t.diagnostic(`${accepted} of 20 accepted`);
  assert.ok(accepted >= 6, finals.join());
  for (const final of finals) assert.match(final, /^250|^451 4\.3\.1/);
  assert.equal(mx.delivered.length, accepted);
});

test("an observer that is away under load has every transaction afterwards, once", async () => {
  const observer = await hook([Capability.AFTER_TRANSACTION, Capability.AFTER_COMM, Capability.AFTER_CONN]);
  const { mx, port } = await destination();
  const warp = await proxy(port, "--observer", `o=${observer.address}`);
  let accepted = 0;
  let stopping = false;
  const sending = Array.from({ length: 4 }, async () => {
    const smtp = await client(warp);
    await smtp.ask("EHLO client.example");
    while (!stopping) {
      smtp.send(`${envelope}DATA\r\n${ham}.\r\n`);
      if ((await smtp.replies(4))[3]?.startsWith("250")) accepted++;
    }
    await smtp.ask("QUIT");
    smtp.close();
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  observer.kill();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await observer.start();
  await new Promise((resolve) => setTimeout(resolve, 500));
  stopping = true;
  await Promise.all(sending);
  await warp.end("SIGTERM");
  const events = [...new Map(observer.events.map((event) => [event.id, event])).values()];
  const transactions = events.flatMap(({ kind }) => (kind.case === "afterTransaction" ? [kind.value] : []));
  assert.equal(mx.delivered.length, accepted);
  assert.equal(transactions.filter(({ outcome }) => outcome === Outcome.ACCEPTED).length, accepted);
  assert.equal(new Set(transactions.map(({ transactionId }) => transactionId)).size, transactions.length);
  assert.equal(events.filter(({ kind }) => kind.case === "afterConn").length, 4);
  assert.deepEqual(
    events.filter(({ kind }) => kind.case === "gap"),
    [],
  );
  for (const [i, { sequence }] of events.entries()) assert.equal(sequence, BigInt(i + 1));
});

test("a proxy that is killed with a journal: every message that was accepted is told of, but the last moment's", async (t) => {
  const observer = await hook([Capability.AFTER_TRANSACTION]);
  observer.observe = (_, call) => setTimeout(() => call.ack(observer.lastSequence), 100);
  const { port } = await destination();
  const flags = ["--observer", `o=${observer.address}`, "--journal", `${folder.path}/journal-${names++}`];
  const accepted: { message: string; at: number }[] = [];
  const ends: number[] = [];
  for (let round = 0; round < 3; round++) {
    const warp = await proxy(port, ...flags);
    const sending = Array.from({ length: 4 }, async (_, number) => {
      const smtp = await client(warp);
      await smtp.ask("EHLO client.example");
      for (let i = 0; ; i++) {
        const id = `<${round}.${number}.${i}@example.org>`;
        smtp.send(`${envelope}DATA\r\nMessage-ID: ${id}\r\n${ham}.\r\n`);
        const final = (await smtp.replies(4))[3] ?? "";
        if (final === "") return;
        if (final.startsWith("250")) accepted.push({ message: id, at: performance.now() });
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 500 + round * 130));
    ends.push(performance.now());
    await warp.end("SIGKILL");
    await Promise.all(sending);
  }
  await proxy(port, ...flags);
  const got = (): Set<string> =>
    new Set(
      observer.events.flatMap(({ kind }) =>
        kind.case === "afterTransaction" ? [Buffer.from(kind.value.messageId).toString()] : [],
      ),
    );
  await until(() => got().size > accepted.length / 2, "the journals are sent");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const told = got();
  const missing = accepted.filter(({ message }) => !told.has(message));
  const ages = missing.map(({ message, at }) => (ends[Number(message[1])] as number) - at);
  t.diagnostic(
    `${accepted.length} accepted, ${missing.length} not told of; the oldest ${Math.max(0, ...ages).toFixed(1)} ms before the kill`,
  );
  assert.ok(accepted.length > 300, `${accepted.length}`);
  assert.ok(
    ages.every((age) => age < 100),
    String(ages),
  );
});

function mib(octets: number): string {
  return `${(octets / 1024 / 1024).toFixed(0)} MiB`;
}
