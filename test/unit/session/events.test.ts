/** What a session tells: no secret, no body, each reply with its origin, every transaction once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Simulation, settle } from "../../support/simulation.ts";

test("AUTH is redacted, initial response and answers alike; the user of PLAIN is known once accepted", async () => {
  const simulation = new Simulation();
  await simulation.greet("AUTH PLAIN LOGIN");
  await simulation.say("AUTH LOGIN\r\n");
  await simulation.reply("334 VXNlcm5hbWU6\r\n");
  await simulation.say("c2VjcmV0LXVzZXI=\r\n");
  await simulation.reply("334 UGFzc3dvcmQ6\r\n");
  await simulation.say("c2VjcmV0LXBhc3M=\r\n");
  await simulation.reply("535 no\r\n");
  assert.equal(simulation.session.authUser, "");
  const plain = Buffer.from("\0alice\0secret-pass").toString("base64");
  assert.equal((await simulation.say(`AUTH PLAIN ${plain}\r\n`)).leg, `AUTH PLAIN ${plain}\r\n`);
  await simulation.reply("235 in\r\n");
  assert.equal(simulation.session.authUser, "alice");
  const told = simulation.lines.join("\n");
  for (const secret of ["c2VjcmV0", plain, "secret-pass"]) assert.equal(told.includes(secret), false);
});

test("secrets that come behind a refused AUTH are redacted until a known command comes", async () => {
  const simulation = new Simulation();
  await simulation.greet("AUTH LOGIN");
  for (const line of ["AUTH LOGIN", "c2VjcmV0LXVzZXI=", "c2VjcmV0LXBhc3M="]) {
    assert.equal((await simulation.say(`${line}\r\n`)).leg, `${line}\r\n`);
    await simulation.reply("503 no\r\n");
  }
  await simulation.say("NOOP\r\n");
  await simulation.reply("250 n\r\n");
  await simulation.say("XFOO bar\r\n");
  const told = simulation.lines.join("\n");
  assert.equal(told.includes("c2VjcmV0"), false);
  assert.equal(told.includes("-> XFOO bar"), true);
});

test("a bad line within AUTH cancels it upstream too: the next command is no answer", async () => {
  const simulation = new Simulation();
  await simulation.greet("AUTH LOGIN");
  await simulation.say("AUTH LOGIN\r\n");
  await simulation.reply("334 VXNlcm5hbWU6\r\n");
  const bad = await simulation.say("abc\ndef\r\n");
  assert.match(bad.client, /^500 5\.5\.2 /);
  assert.equal(bad.leg, "*\r\n");
  assert.equal((await simulation.say("NOOP\r\n")).leg, "");
  assert.equal((await simulation.reply("501 cancelled\r\n")).leg, "NOOP\r\n");
  assert.equal((await simulation.reply("250 n\r\n")).client, "250 n\r\n");
});

test("a message is told by its header section alone; with log.bodies by its first 64 KiB", async () => {
  for (const bodies of [false, true]) {
    const simulation = new Simulation({ bodies });
    await simulation.greet();
    await simulation.data();
    await simulation.say("Subject: s\r\nMessage-ID: <1@x>\r\n\r\nprivate\r\n..dot\r\n.\r\n");
    await simulation.reply("250 taken\r\n");
    const expected = bodies
      ? "Subject: s\r\nMessage-ID: <1@x>\r\n\r\nprivate\r\n.dot"
      : "Subject: s\r\nMessage-ID: <1@x>";
    assert.equal(simulation.lines.includes(`-> ${expected}`), true);
    assert.equal(simulation.lines.join().includes("private"), bodies);
    assert.equal(simulation.transactions[0]?.messageId.toString(), "<1@x>");
  }
});

test("a sender that cannot be read is on record as what it most likely is, never as the null sender", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.say("MAIL FROM:<a@example.org SIZE=5\r\n");
  await simulation.reply("250 2.1.0 m\r\n");
  await simulation.say("RCPT TO:< x@(y)z.example. >\r\n");
  await simulation.reply("250 2.1.5 r\r\n");
  await simulation.say("RSET\r\n");
  await simulation.reply("250 ok\r\n");
  const [record] = simulation.transactions;
  assert.equal(record?.mailFrom.address, "a@example.org");
  assert.equal(record?.mailFrom.raw.toString(), "<a@example.org SIZE=5");
  assert.equal(record?.recipients[0]?.address.address, "x@z.example");
});

test("a transaction's record has every recipient's own answer", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<x@y>\r\nRCPT TO:<no@y>\r\nDATA\r\n");
  await simulation.reply("250 2.1.0 m\r\n250 2.1.5 r\r\n550 5.1.1 who\r\n354 go\r\n");
  await simulation.say("hi\r\n.\r\n");
  await simulation.reply("451 4.7.1 later\r\n");
  const [record] = simulation.transactions;
  assert.equal(record?.outcome, "deferred");
  assert.deepEqual(
    record?.recipients.map((r) => [
      r.address.address,
      r.rcptReply?.code,
      r.finalReply?.code,
      r.finalReply?.enhancedCode,
    ]),
    [
      ["x@y", 250, 451, "4.7.1"],
      ["no@y", 550, 550, "5.1.1"],
    ],
  );
});

test("a 421 to the message is its answer, though the session ends with it: deferred, not unknown", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  await simulation.say("hi\r\n.\r\n");
  const { client } = await simulation.reply("421 4.7.28 too many\r\n");
  assert.equal(client, "421 4.7.28 too many\r\n");
  const [record] = simulation.transactions;
  assert.deepEqual([record?.outcome, record?.finalReply?.code], ["deferred", 421]);
});

for (const [name, end, outcome] of [
  ["RSET", "RSET\r\n", "abandoned"],
  ["QUIT", "QUIT\r\n", "abandoned"],
  ["EHLO", "EHLO again\r\n", "abandoned"],
] as const) {
  test(`a transaction that ends by ${name} is recorded once, as ${outcome}`, async () => {
    const simulation = new Simulation();
    await simulation.greet();
    await simulation.say("MAIL FROM:<a@b>\r\n");
    await simulation.reply("250 ok\r\n");
    await simulation.say(end);
    await simulation.reply(name === "QUIT" ? "221 bye\r\n" : "250 ok\r\n");
    simulation.client.rst();
    await settle();
    assert.deepEqual(
      simulation.transactions.map((event) => event.outcome),
      [outcome],
    );
  });
}

test("a client that leaves within the message: the leg is reset, no terminator, outcome abandoned", async () => {
  for (const leave of ["fin", "rst"] as const) {
    const simulation = new Simulation();
    await simulation.greet();
    await simulation.data();
    const { leg } = await simulation.say("half a mess");
    assert.equal(leg, "half a mess");
    simulation.client[leave]();
    await settle();
    assert.equal(simulation.leg.state, "reset");
    assert.equal(simulation.leg.take(), "");
    assert.equal(simulation.transactions[0]?.outcome, "abandoned");
    assert.equal(simulation.closed, true);
  }
});

test("a client that leaves behind the end of data: the destination's answer is still recorded", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  await simulation.say("all of it\r\n.\r\n");
  simulation.client.rst();
  await settle();
  assert.equal(simulation.closed, false);
  await simulation.reply("250 taken\r\n");
  assert.equal(simulation.transactions[0]?.outcome, "accepted");
  assert.equal(simulation.closed, true);
});

test("a 2xx ahead of the end of data is no acceptance", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  await simulation.say("half");
  await simulation.reply("250 already fine\r\n");
  assert.equal(simulation.leg.state, "reset");
  assert.match((await simulation.say(" rest\r\n.\r\n")).client, /^421 4\.4\.2 /);
  assert.deepEqual(simulation.violations, ["upstream unsolicited_reply"]);
});

for (const [name, provoke] of [
  ["a reply that nobody asked for", "250 surprise\r\n"],
  ["a reply that is none", "garbage\r\n"],
] as const) {
  test(`${name} ends the leg before it can shift the others`, async () => {
    const simulation = new Simulation();
    await simulation.greet();
    const { client } = await simulation.reply(provoke);
    assert.match(client, /^421 4\.4\.2 /);
    assert.equal(simulation.leg.state, "reset");
  });
}

test("354 to anything but DATA, 334 to anything but AUTH, and 2xx to DATA end the leg", async () => {
  for (const [command, reply] of [
    ["RCPT TO:<a@b>", "354 go"],
    ["XFOO", "354 go"],
    ["NOOP", "334 x"],
    ["DATA", "250 thanks"],
    ["DATA", "334 x"],
  ] as const) {
    const simulation = new Simulation();
    await simulation.greet();
    await simulation.say(`${command}\r\n`);
    assert.match((await simulation.reply(`${reply}\r\n`)).client, /^421 4\.4\.2 /, `${command}: ${reply}`);
  }
});

for (const [how, options] of [
  ["streamed", {}],
  ["held", { filter: () => undefined as never }],
] as const) {
  test(`a 3xx to the end of a ${how} message ends the leg`, async () => {
    const simulation = new Simulation(options);
    await simulation.greet("PIPELINING");
    await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    await simulation.reply("250 ok\r\n250 ok\r\n");
    await simulation.say("DATA\r\n");
    if (how === "streamed") await simulation.reply("354 go\r\n");
    await simulation.say("body\r\n.\r\n");
    if (how === "held") await simulation.reply("354 go\r\n");
    const { client } = await simulation.reply("353 for each recipient\r\n250 for c\r\n550 at last\r\n");
    assert.match(client, /^421 4\.4\.2 [^\r\n]*\r\n$/);
    assert.equal(simulation.transactions[0]?.outcome, "unknown");
  });

  test(`a 3xx to a ${how} chunk ends the leg`, async () => {
    const simulation = new Simulation(options);
    await simulation.greet("PIPELINING", "CHUNKING");
    await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    await simulation.reply("250 ok\r\n250 ok\r\n");
    await simulation.say("BDAT 6 LAST\r\nbody\r\n");
    assert.match((await simulation.reply("353 for each recipient\r\n")).client, /^421 4\.4\.2 /);
  });
}

test("a 421 at any time goes down as it is, and both sides close", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  assert.equal((await simulation.reply("421 4.3.2 going down\r\n")).client, "421 4.3.2 going down\r\n");
  assert.equal(simulation.client.state, "ended");
});

test("elapse is counted from connect to the destination's 354, and says where there was none", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RCPT TO:<c@d>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.clock.advance(1500);
  await simulation.say("DATA\r\n");
  await simulation.reply("354 go\r\n");
  await simulation.clock.advance(700);
  await simulation.say("x\r\n.\r\n");
  await simulation.reply("250 ok\r\n");
  simulation.client.rst();
  await settle();
  assert.equal(simulation.transactions[0]?.timing.elapseMs, 1500);
  assert.equal(simulation.connections[0]?.elapseMs, 1500);

  const none = new Simulation();
  await none.greet();
  none.client.rst();
  await settle();
  assert.equal(none.connections[0]?.elapseMs, -2);
});

test("elapse of a message by BDAT is counted to the reply to its last RCPT, held or not", async () => {
  for (const filter of [undefined, () => undefined as never]) {
    const simulation = new Simulation(filter === undefined ? {} : { filter });
    await simulation.greet("PIPELINING", "CHUNKING");
    await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    await simulation.clock.advance(1500);
    await simulation.reply("250 ok\r\n250 ok\r\n");
    await simulation.clock.advance(700);
    await simulation.say("BDAT 3 LAST\r\na\r\n");
    await simulation.reply("250 ok\r\n");
    assert.equal(simulation.transactions[0]?.timing.elapseMs, 1500);
  }
});

test("a destination that never reads stops the client, and ends after timeouts.data_block", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  simulation.leg.room = false;
  await simulation.say("x".repeat(1000));
  assert.equal(simulation.client.paused, true);
  await simulation.clock.advance(180_001);
  assert.equal(simulation.leg.state, "reset");
});

test("a client that never reads stops the leg, and is reset after timeouts.data_block", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  simulation.client.room = false;
  await simulation.say("NOOP\r\n");
  await simulation.reply("250 ok\r\n");
  assert.equal(simulation.leg.paused, true);
  await simulation.clock.advance(180_001);
  assert.equal(simulation.closed, true);
});

test("a command's time begins when the one before it was answered", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
  await simulation.clock.advance(200_000);
  await simulation.reply("250 m\r\n");
  await simulation.clock.advance(200_000);
  await simulation.reply("250 r\r\n");
  await simulation.clock.advance(100_000);
  assert.equal((await simulation.reply("354 go\r\n")).client, "354 go\r\n");
});

test("QUIT of an authenticated session whose leg was reset is still answered 221", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 10 } });
  await simulation.greet("AUTH PLAIN");
  await simulation.say("AUTH PLAIN AGEAYg==\r\n");
  await simulation.reply("235 ok\r\n");
  await simulation.data();
  await simulation.say(`${"x".repeat(50)}\r\n.\r\n`);
  assert.match((await simulation.say("QUIT\r\n")).client, /^221 2\.0\.0 /);
});

test("MAIL and RSET in one segment: the transaction is over, also when the reply to MAIL comes", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING", "CHUNKING");
  await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRSET\r\n");
  await simulation.reply("250 m\r\n250 r\r\n250 reset\r\n");
  const { client, leg } = await simulation.say("BDAT 2 LAST\r\nhi");
  assert.match(client, /^503 5\.5\.1 /);
  assert.equal(leg, "");
  assert.equal(simulation.transactions.length, 1);
});

test("of long replies to many recipients a transaction keeps one MiB, and the begin of each further one", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  const long = `550-${"x".repeat(60_000)}\r\n550 no\r\n`;
  for (let i = 0; i < 30; i++) {
    await simulation.say("RCPT TO:<b@c>\r\n");
    assert.equal((await simulation.reply(long)).client, long);
  }
  await simulation.say("RSET\r\n");
  await simulation.reply("250 reset\r\n");
  const texts =
    simulation.transactions[0]?.recipients.map(({ rcptReply }) => rcptReply?.text.length ?? 0) ?? [];
  assert.deepEqual([texts[0], texts.at(-1)], [long.length - 2, 512]);
  assert.ok(texts.reduce((sum, octets) => sum + octets, 0) < 1.1 * 1024 * 1024);
});

test("recipients of long lines are in a transaction's record up to one MiB", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  for (let i = 0; i < 900; i++) {
    await simulation.say(`RCPT TO:<b@c> X=${"x".repeat(2000)}\r\n`);
    await simulation.reply("250 ok\r\n");
  }
  await simulation.say("RSET\r\n");
  await simulation.reply("250 reset\r\n");
  const [event] = simulation.transactions;
  assert.equal((event?.recipients.length ?? 0) + (event?.recipientsOmitted ?? 0), 900);
  assert.ok((event?.recipients.length ?? 0) < 600);
});

for (const options of [{}, { filter: () => undefined as never }]) {
  test(`no chunk ends between a CR and its LF, ${"filter" in options ? "held" : "streamed"}`, async () => {
    const simulation = new Simulation(options);
    await simulation.greet("CHUNKING", "PIPELINING");
    await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    await simulation.reply("250 ok\r\n250 ok\r\n");
    const message = `${"a".repeat(65_535)}\r\n${"b".repeat(65_534)}\r\nc\r\n`;
    let sent = (await simulation.say(`BDAT ${message.length} LAST\r\n${message}`)).leg;
    const chunks: string[] = [];
    for (let line = /^BDAT (\d+).*\r\n/.exec(sent); line !== null; line = /^BDAT (\d+).*\r\n/.exec(sent)) {
      const end = line[0].length + Number(line[1]);
      chunks.push(sent.slice(line[0].length, end));
      sent = sent.slice(end) + (await simulation.reply("250 ok\r\n")).leg;
    }
    assert.equal(chunks.join(""), message);
    assert.deepEqual(
      chunks.map((chunk) => [chunk.length, chunk.endsWith("\r")]),
      [
        [65_535, false],
        [65_536, false],
        [5, false],
      ],
    );
  });
}
