/**
 * A leg that goes at an awkward moment (refused early, lost behind a reply, with commands waiting behind a message): every
 * command still has its reply, and nothing that was held stays held.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ehloReply, ipDecision, Simulation, settle, tlsRule } from "../../support/simulation.ts";

const ENVELOPE = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n";

async function held(simulation: Simulation): Promise<void> {
  await simulation.greet("PIPELINING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  assert.match((await simulation.say("DATA\r\n")).client, /^354 /);
}

test("a refusal ahead of the end, while the destination takes no octets: the client goes on and is told", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.data();
  simulation.leg.room = false;
  await simulation.say(`${"x".repeat(70)}\r\n`.repeat(1000));
  assert.equal(simulation.client.paused, true);
  await simulation.reply("552 5.3.4 too big\r\n");
  assert.equal(simulation.client.paused, false, "the rest of the message is read and thrown away");
  assert.equal((await simulation.say("rest\r\n.\r\n")).client, "552 5.3.4 too big\r\n");
});

test("a held message refused ahead of its end, while the destination takes no octets, has its reply", async () => {
  const simulation = new Simulation({ filter: () => undefined as never });
  await held(simulation);
  await simulation.say(`${`${"x".repeat(70)}\r\n`.repeat(3000)}.\r\n`);
  simulation.leg.room = false;
  await simulation.reply("354 go\r\n");
  assert.equal((await simulation.reply("552 5.3.4 too big\r\n")).client, "552 5.3.4 too big\r\n");
});

for (const [moment, last] of [
  ["waits for upstream's 354", []],
  ["is being sent", ["354 go\r\n"]],
] as const) {
  test(`a client that resets while its held message ${moment}: what was held is given back`, async () => {
    const simulation = new Simulation({ filter: () => undefined as never });
    await held(simulation);
    await simulation.say(`${`${"x".repeat(70)}\r\n`.repeat(3000)}.\r\n`);
    simulation.leg.room = false;
    for (const reply of last) await simulation.reply(reply);
    simulation.client.rst();
    await settle();
    assert.equal(simulation.closed, true);
    assert.equal(simulation.heldNow, 0);
    assert.equal(simulation.clock.pending, 0, "and no timer is left");
  });
}

for (const [how, command, reply] of [
  ["RSET", "RSET\r\n", "250 reset\r\n"],
  ["EHLO", "EHLO again.example\r\n", ehloReply(["CHUNKING"])],
  ["QUIT", "QUIT\r\n", "221 bye\r\n"],
  ["a client that leaves", undefined, ""],
] as const) {
  test(`${how} between the chunks of a held message: what was held is given back`, async () => {
    const simulation = new Simulation({ filter: () => undefined as never });
    await simulation.greet("PIPELINING", "CHUNKING");
    await simulation.say("MAIL FROM:<a@b>\r\n");
    await simulation.reply("250 ok\r\n");
    await simulation.say("RCPT TO:<c@d>\r\n");
    await simulation.reply("250 ok\r\n");
    await simulation.say("BDAT 6\r\nbody\r\n");
    assert.equal(simulation.heldNow, 1);
    if (command === undefined) simulation.client.fin();
    else await simulation.say(command);
    await settle();
    if (reply !== "") await simulation.reply(reply);
    assert.equal(simulation.heldNow, 0);
    assert.deepEqual(
      simulation.transactions.map(({ outcome }) => outcome),
      ["abandoned"],
    );
  });
}

for (const command of ["RSET", "QUIT"]) {
  test(`a leg that goes with ${command} on its way: each transaction that it and others ended is on record`, async () => {
    const simulation = new Simulation();
    await simulation.greet("PIPELINING");
    await simulation.say(`MAIL FROM:<1@b>\r\nRSET\r\nMAIL FROM:<2@b>\r\n${command}\r\n`);
    await simulation.reply("250 ok\r\n");
    simulation.leg.rst();
    await settle();
    assert.match(simulation.client.take(), /421 4\.4\.2 /);
    assert.deepEqual(
      simulation.transactions.map(({ mailFrom, outcome }) => [mailFrom.address, outcome]),
      [
        ["1@b", "abandoned"],
        ["2@b", "abandoned"],
      ],
    );
  });
}

test("a leg that goes in the moment of the end of data: what was held is given back", async () => {
  const simulation = new Simulation({ filter: () => undefined as never });
  await held(simulation);
  simulation.client.feed("body\r\n.\r\n");
  simulation.leg.rst();
  await settle();
  assert.match(simulation.client.take(), /^451 4\.4\.2 /);
  assert.equal(simulation.heldNow, 0);
});

for (const [how, offered, send, before] of [
  ["DATA", ["PIPELINING"], "body\r\n.\r\n", ["354 go\r\n"]],
  ["BDAT", ["PIPELINING", "CHUNKING"], "BDAT 6 LAST\r\nbody\r\n", []],
] as const) {
  test(`a held message by ${how} was taken, and the leg ends in the same octets: the client is told that it was`, async () => {
    const simulation = new Simulation({ filter: () => undefined as never });
    await simulation.greet(...offered);
    await simulation.say(ENVELOPE);
    await simulation.reply("250 ok\r\n250 ok\r\n");
    if (how === "DATA") await simulation.say("DATA\r\n");
    await simulation.say(send);
    for (const reply of before) await simulation.reply(reply);
    const { client } = await simulation.reply("250 taken\r\n421 4.4.2 one message is enough\r\n");
    assert.equal(client, "250 taken\r\n421 4.4.2 one message is enough\r\n");
    assert.equal(simulation.transactions[0]?.outcome, "accepted");
    assert.equal(simulation.heldNow, 0);
  });
}

test("DATA of a held message is refused, and the leg ends in the same octets: the client has the refusal", async () => {
  const simulation = new Simulation({ filter: () => undefined as never });
  await held(simulation);
  await simulation.say("body\r\n.\r\n");
  const { client } = await simulation.reply("554 5.5.1 no\r\n");
  assert.equal(client, "554 5.5.1 no\r\n");
  await simulation.reply("250 reset\r\n");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("DATA\r\n");
  await simulation.say("body\r\n.\r\n");
  const again = await simulation.reply("554 5.5.1 no\r\n421 too many errors\r\n");
  assert.match(again.client, /^554 5\.5\.1 no\r\n/);
});

test("a 2xx ahead of the end of a held message, while the rest is read back: what was held is given back", async () => {
  let released = 0;
  let readOn = (): void => {};
  const simulation = new Simulation({
    filter: () => ({
      kind: "relay",
      outcomes: [],
      message: {
        octets: 6,
        async *chunks() {
          yield Buffer.from("a\r\n");
          await new Promise<void>((resolve) => {
            readOn = resolve;
          });
          yield Buffer.from("b\r\n");
        },
        release: () => released++,
      },
    }),
  });
  await held(simulation);
  await simulation.say("a\r\nb\r\n.\r\n");
  await simulation.reply("354 go\r\n");
  assert.match((await simulation.reply("250 taken\r\n")).client, /^421 4\.4\.2 /);
  readOn();
  await settle();
  assert.equal(released, 1);
});

test("what a filter made of a message is given back where nobody waits for it any more", async () => {
  let released = 0;
  let answer = (): void => {};
  const simulation = new Simulation({
    filter: (message) =>
      new Promise((resolve) => {
        answer = () =>
          resolve({
            kind: "relay",
            outcomes: [],
            message: { octets: message.length, async *chunks() {}, release: () => released++ },
          });
      }),
  });
  await held(simulation);
  await simulation.say("a\r\n.\r\n");
  simulation.client.rst();
  await settle();
  answer();
  await settle();
  assert.equal(released, 1);
});

test("an octet too many behind the reply to EHLO: the session ends, and does not hang at the next command", async () => {
  const simulation = new Simulation({ tls: [tlsRule("none")] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  const { client } = await simulation.reply(`${ehloReply(["PIPELINING"])}250 and more\r\n`);
  assert.match(client, /421 4\.4\.2 [^\r\n]*\r\n$/);
});

test("no final reply in time: the message has 451 4.4.2, the command behind it 421 4.4.2", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.data();
  await simulation.say("a\r\n.\r\nQUIT\r\n");
  await simulation.clock.advance(541_000);
  assert.match(simulation.client.take(), /^451 4\.4\.2 [^\r\n]*\r\n421 4\.4\.2 [^\r\n]*\r\n$/);
});

for (const command of ["EHLO again", "MAIL FROM:<a@b>"]) {
  test(`no final reply in time, no PIPELINING: ${command} behind the message has its reply`, async () => {
    const simulation = new Simulation();
    await simulation.greet();
    await simulation.data();
    await simulation.say(`a\r\n.\r\n${command}\r\n`);
    await simulation.clock.advance(541_000);
    assert.match(simulation.client.take(), /^451 4\.4\.2 [^\r\n]*\r\n421 4\.4\.2 [^\r\n]*\r\n$/);
  });
}

test("a chunk over the limit behind one that was not answered yet: both have their replies, in order", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 1000 } });
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say(`BDAT 6\r\nabcd\r\nBDAT 2000\r\n${"x".repeat(2000)}`);
  assert.equal(simulation.client.take(), "");
  assert.match((await simulation.reply("250 first\r\n")).client, /^250 first\r\n552 5\.3\.4 [^\r\n]*\r\n$/);
  assert.equal(simulation.leg.state, "reset");
  assert.match((await simulation.say("BDAT 1 LAST\r\nx")).client, /^503 5\.5\.1 /);
});

test("a command between two chunks, pipelined: the last chunk waits for its reply, and goes", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3\r\na\r\nNOOP\r\nBDAT 3 LAST\r\nb\r\n");
  await simulation.reply("250 chunk\r\n");
  assert.equal((await simulation.reply("250 noop\r\n")).leg, "BDAT 3 LAST\r\nb\r\n");
  assert.equal((await simulation.reply("250 queued\r\n")).client, "250 queued\r\n");
});

test("the nine minutes run on while the destination takes nothing", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\n");
  await simulation.clock.advance(179_000);
  simulation.leg.room = false;
  assert.equal((await simulation.reply("250 a\r\n")).leg, "BDAT 3 LAST\r\nb\r\n");
  assert.equal(simulation.client.take(), "");
  for (let taken = 0; taken < 3; taken++) {
    await simulation.clock.advance(100_000);
    simulation.leg.handler.drained();
    await simulation.say("NOOP\r\n");
  }
  await simulation.clock.advance(61_500);
  assert.match(simulation.client.take(), /^451 4\.4\.2 /);
});

test("by BDAT, too, the nine minutes run from the client's end of data, not from when the last chunk went", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\n");
  await simulation.clock.advance(170_000);
  await simulation.reply("250 chunk\r\n");
  await simulation.clock.advance(371_000);
  assert.match(simulation.client.take(), /^451 4\.4\.2 /);
});

for (const [how, begin, rest] of [
  ["DATA", "DATA\r\n", "a\r\n.\r\n"],
  ["BDAT", "BDAT 3\r\na\r\n", "BDAT 3 LAST\r\nb\r\n"],
] as const) {
  for (const [when, isSent, outcome] of [
    ["within it", false, "deferred"],
    ["when all of it went", true, "unknown"],
  ] as const) {
    test(`a message by ${how} whose leg is lost ${when} is on record with what the client was told`, async () => {
      const simulation = new Simulation();
      await simulation.greet("PIPELINING", "CHUNKING");
      await simulation.say(ENVELOPE);
      await simulation.reply("250 ok\r\n250 ok\r\n");
      await simulation.say(begin);
      await simulation.reply(how === "DATA" ? "354 go\r\n" : "250 a\r\n");
      if (isSent) await simulation.say(rest);
      simulation.leg.rst();
      await settle();
      const told = simulation.client.take() + (isSent ? "" : (await simulation.say(rest)).client);
      assert.match(told, /^421 4\.4\.2 /);
      const [tx] = simulation.transactions;
      assert.equal(tx?.outcome, outcome);
      assert.deepEqual([tx?.finalReply?.code, tx?.finalReply?.origin], [421, "warp"]);
    });
  }
}

for (const [when, replies, outcome, final] of [
  ["MAIL", [], "deferred", 421],
  ["RCPT", ["250 ok"], "deferred", 421],
  ["DATA", ["250 ok", "250 ok"], "deferred", 421],
  ["what comes behind MAIL's refusal", ["550 5.1.0 no"], "refused", undefined],
] as const) {
  test(`a leg that is lost instead of an answer to ${when}: the transaction is on record with what the client was told`, async () => {
    const simulation = new Simulation();
    await simulation.greet("PIPELINING");
    await simulation.say(`${ENVELOPE}DATA\r\n`);
    await simulation.reply(replies.map((reply) => `${reply}\r\n`).join(""));
    simulation.leg.rst();
    await settle();
    assert.match(simulation.client.take(), /^421 4\.4\.2 /);
    const [tx] = simulation.transactions;
    assert.deepEqual([tx?.outcome, tx?.finalReply?.code], [outcome, final]);
  });
}

for (const [when, replies] of [
  ["to a later RCPT", "250 ok\r\n250 ok\r\n421 4.7.0 closing\r\n"],
  ["that nobody asked for", "250 ok\r\n250 ok\r\n250 ok\r\n421 4.7.0 closing\r\n"],
] as const) {
  test(`a 421 ${when}: it is the answer for the recipients before it, too`, async () => {
    const simulation = new Simulation();
    await simulation.greet("PIPELINING");
    await simulation.say(`${ENVELOPE}RCPT TO:<c@example.net>\r\n`);
    assert.match((await simulation.reply(replies)).client, /421 4\.7\.0 closing\r\n$/);
    const [tx] = simulation.transactions;
    assert.equal(tx?.outcome, "deferred");
    assert.deepEqual(
      tx.recipients.map(({ finalReply }) => [finalReply?.code, finalReply?.origin]),
      [
        [421, "upstream"],
        [421, "upstream"],
      ],
    );
  });
}

test("a leg that is lost while a held MAIL is said: the recipient that it was said for is on record", async () => {
  const simulation = new Simulation({ router: { needs: { sender: false, recipient: true } } });
  await simulation.greet("PIPELINING");
  assert.match((await simulation.say(ENVELOPE)).leg, /^MAIL /);
  simulation.leg.rst();
  await settle();
  assert.match(simulation.client.take(), /^421 4\.4\.2 /);
  assert.deepEqual(
    simulation.transactions[0]?.recipients.map(({ address, finalReply }) => [
      address.address,
      finalReply?.code,
    ]),
    [["b@example.net", 421]],
  );
});

for (const [what, limit, refusal] of [
  ["waits for all replies", 1_000_000, "503 5.5.1"],
  ["is too large", 10, "552 5.3.4"],
] as const) {
  test(`a last chunk that ${what}, while one before it is refused, and a command between them has no reply yet: it has its own`, async () => {
    const simulation = new Simulation({ limits: { messageOctets: limit } });
    await simulation.greet("PIPELINING", "CHUNKING");
    await simulation.say(ENVELOPE);
    await simulation.reply("250 ok\r\n250 ok\r\n");
    await simulation.say("BDAT 6\r\nbody\r\nNOOP\r\nBDAT 8 LAST\r\nmore\r\n\r\n");
    assert.equal((await simulation.reply("452 no room\r\n")).client, "452 no room\r\n");
    const { client } = await simulation.reply("250 noop\r\n");
    assert.ok(client.startsWith(`250 noop\r\n${refusal} `), client);
    await simulation.say("RSET\r\n");
    if (simulation.legs.length > 1) {
      await simulation.reply("220 mx.example ESMTP\r\n");
      await simulation.reply(ehloReply(["PIPELINING", "CHUNKING"]));
    }
    assert.equal((await simulation.reply("250 reset\r\n")).client, "250 reset\r\n");
  });
}

test("a client that sends no more within a chunk has the replies before it, and then the end", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3\r\na\r\nBDAT 30 LAST\r\nb");
  simulation.client.fin();
  await settle();
  assert.equal(simulation.closed, false);
  assert.equal((await simulation.reply("250 a\r\n")).client, "250 a\r\n");
  assert.equal(simulation.leg.state, "reset");
  assert.equal(simulation.closed, true);
  assert.equal(simulation.transactions[0]?.outcome, "abandoned");
});

for (const [which, keywords] of [
  ["a chunk", ["PIPELINING", "CHUNKING"]],
  ["a chunk that is refused", ["PIPELINING"]],
] as const) {
  test(`a client that stalls within ${which} is told, and the session ends`, async () => {
    const simulation = new Simulation();
    await simulation.greet(...keywords);
    await simulation.say(ENVELOPE);
    await simulation.reply("250 ok\r\n250 ok\r\n");
    await simulation.say("BDAT 30 LAST\r\na\r\n");
    await simulation.clock.advance(186_000);
    assert.match(simulation.client.take(), /^421 4\.4\.2 [^\r\n]*\r\n$/);
    assert.equal(simulation.closed, true);
  });
}

test("between two chunks it is the destination that is waited for, not the client", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3\r\na\r\n");
  await simulation.reply("250 chunk\r\n");
  await simulation.say("NOOP\r\n");
  await simulation.clock.advance(200_000);
  assert.equal((await simulation.reply("250 noop\r\n")).client, "250 noop\r\n");
});

test("MAIL behind a chunk that was refused begins a transaction of its own, its recipients with it", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 1000 }, filter: () => undefined as never });
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  assert.match((await simulation.say(`BDAT 2000\r\n${"x".repeat(2000)}`)).client, /^552 5\.3\.4 /);
  await simulation.reply("250 reset\r\n");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  assert.match((await simulation.say("DATA\r\n")).client, /^354 /, "warp's own: a recipient was accepted");
  await simulation.say("a\r\n.\r\n");
  await simulation.reply("354 go\r\n");
  assert.equal((await simulation.reply("250 queued\r\n")).client, "250 queued\r\n");
  assert.deepEqual(
    simulation.transactions.map(({ outcome, recipients }) => [outcome, recipients.length]),
    [
      ["refused", 1],
      ["accepted", 1],
    ],
  );
});

test("MAIL from another IP, pipelined behind a message, waits for that message's final reply", async () => {
  const simulation = new Simulation({
    router: {
      needs: { sender: true, recipient: false },
      atConnect: () => ipDecision("203.0.113.1"),
      forTransaction: ({ mailFrom }) =>
        ipDecision(mailFrom.address.startsWith("bad") ? "203.0.113.66" : "203.0.113.1"),
    },
  });
  await simulation.greet("PIPELINING");
  await simulation.data("MAIL FROM:<good@example.com>");
  await simulation.say("a\r\n.\r\nMAIL FROM:<bad@example.com>\r\n");
  assert.equal(simulation.legs.length, 1, "the leg is not left before it has answered");
  simulation.legs[0]?.rst();
  await settle();
  assert.match(simulation.client.take(), /^421 4\.4\.2 /);
  assert.equal(simulation.transactions[0]?.outcome, "unknown");
});

test("a client that leaves while its route is looked up: nothing is said for it any more, and it is no error", async () => {
  let decided = (): void => {};
  const logged: string[] = [];
  const simulation = new Simulation({
    telemetry: { log: (_level, code) => logged.push(code) },
    router: {
      needs: { sender: true, recipient: false },
      forTransaction: () =>
        new Promise((resolve) => {
          decided = () => resolve(ipDecision("203.0.113.66"));
        }),
    },
  });
  await simulation.greet();
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  simulation.client.rst();
  await settle();
  decided();
  await settle();
  assert.equal(simulation.events.at(-1)?.kind, "after_conn");
  assert.deepEqual(logged, []);
  assert.equal(simulation.legs.length, 1);
});

test("a client that leaves during the handshake with the destination: no other leg is dialled", async () => {
  const simulation = new Simulation();
  simulation.legTls = "silent";
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  simulation.client.rst();
  await settle();
  await simulation.clock.advance(60_000);
  assert.equal(simulation.legs.length, 1);
  assert.equal(simulation.events.at(-1)?.kind, "after_conn");
});

test("what a client sends before its greeting is bounded", async () => {
  const simulation = new Simulation({ dial: () => "silent" });
  await simulation.start();
  simulation.client.feed("x".repeat(40_000));
  assert.equal(simulation.client.paused, true);
});

test("a bare newline of an earlier DATA is none of a message by BDAT", async () => {
  const simulation = new Simulation({ bareNewlines: "reject", filter: () => undefined as never });
  await held(simulation);
  assert.match((await simulation.say("a\nb\r\n.\r\n")).client, /^550 5\.6\.11 /);
  await simulation.reply("250 reset\r\n");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("BDAT 3 LAST\r\na\r\n");
  await simulation.reply("354 go\r\n");
  assert.equal((await simulation.reply("250 queued\r\n")).client, "250 queued\r\n");
});

for (const [kind, due] of [
  ["streamed", streamedDue],
  ["held", heldDue],
  ["sent in chunks", chunkedDue],
] as const) {
  test(`the proxy ends while the answer to a ${kind} message is due: its outcome is unknown`, async () => {
    const simulation = new Simulation(kind === "held" ? { filter: () => undefined as never } : {});
    await due(simulation);
    simulation.session.kill();
    assert.deepEqual(
      simulation.transactions.map(({ outcome }) => outcome),
      ["unknown"],
    );
  });
}

async function streamedDue(simulation: Simulation): Promise<void> {
  await simulation.greet("PIPELINING");
  await simulation.data();
  assert.match((await simulation.say("Subject: x\r\n\r\nhello\r\n.\r\n")).leg, /hello\r\n\.\r\n$/);
}

async function heldDue(simulation: Simulation): Promise<void> {
  await held(simulation);
  assert.equal((await simulation.say("Subject: x\r\n\r\nhello\r\n.\r\n")).leg, "DATA\r\n");
  assert.match((await simulation.reply("354 go\r\n")).leg, /hello\r\n\.\r\n$/);
}

async function chunkedDue(simulation: Simulation): Promise<void> {
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say(ENVELOPE);
  await simulation.reply("250 ok\r\n250 ok\r\n");
  assert.match((await simulation.say("BDAT 5 LAST\r\nhello")).leg, /^BDAT 5 LAST\r\nhello$/);
}

test("the proxy ends within a message, or while filters look at it: nothing was sent whole, so it is abandoned", async () => {
  const half = new Simulation();
  await half.greet();
  await half.data();
  await half.say("Subject: x\r\n\r\nhel");
  half.session.kill();
  const filtering = new Simulation({ filter: () => new Promise(() => {}) });
  await held(filtering);
  await filtering.say("Subject: x\r\n\r\nhello\r\n.\r\n");
  filtering.session.kill();
  for (const { transactions } of [half, filtering])
    assert.deepEqual(
      transactions.map(({ outcome }) => outcome),
      ["abandoned"],
    );
});

test("a 2xx while the end of the message has not left this process is none to it", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  simulation.leg.unsent = 1;
  await simulation.say("Subject: s\r\n\r\nhi\r\n.\r\n");
  const { client } = await simulation.reply("250 taken\r\n");
  assert.match(client, /^421 4\.4\.2 /);
  assert.equal(simulation.transactions[0]?.outcome, "unknown");
});

test("a refusal is the message's answer also while its end has not left", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  simulation.leg.unsent = 1;
  await simulation.say("Subject: s\r\n\r\nhi\r\n.\r\n");
  assert.equal((await simulation.reply("552 too large\r\n")).client, "552 too large\r\n");
});

for (const reply of ["221 bye\r\n", "221-bye\r\n221 now\r\n", "250 bye\r\n"]) {
  test(`QUIT is answered by ${JSON.stringify(reply)}, and the leg closed: the client has that reply and no other`, async () => {
    const simulation = new Simulation();
    await simulation.greet("PIPELINING");
    await simulation.say("QUIT\r\n");
    simulation.leg.feed(reply);
    simulation.leg.fin();
    await settle();
    assert.equal(simulation.client.take(), reply);
    assert.equal(simulation.client.state, "closed");
  });
}

test("transactions that were ended by RSET are all on record before the connection, though both sides are gone", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RSET\r\nMAIL FROM:<c@d>\r\n");
  await simulation.say("RSET\r\nMAIL FROM:<e@f>\r\n");
  simulation.client.rst();
  await settle();
  assert.deepEqual(
    simulation.events.map(({ kind }) => kind).filter((kind) => kind !== "after_comm"),
    ["after_transaction", "after_transaction", "after_transaction", "after_conn"],
  );
});
