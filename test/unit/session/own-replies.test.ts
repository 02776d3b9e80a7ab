/** Each of warp's own replies, as a client sees it; the table of docs/transparency.md. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FilterOutcome } from "../../../src/events/events.ts";
import { DialError } from "../../../src/net/dial.ts";
import { ehloReply, GOOD_TLS, ipDecision, Simulation, settle, tlsRule } from "../../support/simulation.ts";

test("a dial that is refused is told in the greeting: 421 4.4.1", async () => {
  const simulation = new Simulation({ dial: () => new DialError("refused", "connection refused") });
  await simulation.start();
  assert.match(simulation.client.take(), /^421 4\.4\.1 .*\r\n$/);
  assert.equal(simulation.client.state, "ended");
});

test("a dial without an answer is told after timeouts.dial: 421 4.4.1", async () => {
  const simulation = new Simulation({ dial: () => "silent" });
  await simulation.start();
  await simulation.clock.advance(24_999);
  assert.equal(simulation.client.take(), "");
  await simulation.clock.advance(2);
  assert.match(simulation.client.take(), /^421 4\.4\.1 /);
});

test("no usable source IP: 451 4.4.4", async () => {
  const simulation = new Simulation({
    router: { atConnect: () => ipDecision("203.0.113.7") },
    dial: () => new DialError("not_local", "not here"),
  });
  await simulation.start();
  assert.match(simulation.client.take(), /^451 4\.4\.4 /);
});

test("a lost leg answers the oldest outstanding command and closes: 421 4.4.2", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
  await simulation.reply("250 ok\r\n");
  simulation.leg.rst();
  await settle();
  assert.match(simulation.client.take(), /^421 4\.4\.2 [^\r\n]*\r\n$/);
  assert.equal(simulation.client.state, "ended");
  assert.equal(simulation.transactions.length, 1);
});

test("a leg that is lost while nothing is asked: 421 4.4.2, close", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  simulation.leg.fin();
  await settle();
  assert.match(simulation.client.take(), /^421 4\.4\.2 /);
});

test("encrypt without STARTTLS: 421 4.7.4 to EHLO, close", async () => {
  const simulation = new Simulation({ tls: [tlsRule("encrypt")] });
  await simulation.greet("PIPELINING");
  assert.match(simulation.client.take() || simulation.lines.at(-1) || "", /421 4\.7\.4|connections closed/);
  assert.deepEqual(simulation.ownReplies, [421]);
  assert.equal(simulation.lines.filter((line) => line.startsWith("<| 421 4.7.4")).length, 1);
});

test("verify with an untrusted chain: 421 4.7.5 to EHLO, close", async () => {
  const simulation = new Simulation({ tls: [tlsRule("verify", { names: ["mx.example"] })] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  const { client } = await simulation.reply(ehloReply(["PIPELINING"]));
  assert.match(client, /^421 4\.7\.5 /);
  assert.equal(simulation.client.state, "ended");
});

test("encrypt for a recipient on a plaintext leg: 451 4.7.4 to that RCPT alone", async () => {
  const bank = tlsRule("encrypt", { matchesRecipientDomain: (domain) => domain === "bank.example" });
  const simulation = new Simulation({ tls: [bank, tlsRule("may")] });
  await simulation.greet("PIPELINING");
  const sent = await simulation.say(
    "MAIL FROM:<a@b>\r\nRCPT TO:<x@bank.example>\r\nRCPT TO:<y@shop.example>\r\n",
  );
  assert.equal(sent.leg, "MAIL FROM:<a@b>\r\nRCPT TO:<y@shop.example>\r\n");
  const { client } = await simulation.reply("250 m\r\n250 y\r\n");
  assert.match(client, /^250 m\r\n451 4\.7\.4 [^\r\n]+\r\n250 y\r\n$/);
});

test("verify for a recipient on an unverified leg: 451 4.7.5", async () => {
  const bank = tlsRule("verify", { names: ["mx.bank"], matchesRecipientDomain: () => true });
  const simulation = new Simulation({ tls: [bank, tlsRule("may")] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  await simulation.reply(ehloReply([]));
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  assert.match((await simulation.say("RCPT TO:<x@bank>\r\n")).client, /^451 4\.7\.5 /);
});

test("a policy beyond may and MAIL before EHLO: 503 5.5.1", async () => {
  const simulation = new Simulation({ tls: [tlsRule("encrypt")] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  const { client, leg } = await simulation.say("MAIL FROM:<a@b>\r\n");
  assert.match(client, /^503 5\.5\.1 /);
  assert.equal(leg, "");
});

for (const policy of ["encrypt", "verify"] as const) {
  test(`policy ${policy}, EHLO refused: nothing of a mail or of a login goes up in plaintext`, async () => {
    const simulation = new Simulation({ tls: [tlsRule(policy)] });
    await simulation.start();
    await simulation.reply("220 mx\r\n");
    await simulation.say("EHLO c\r\n");
    assert.equal((await simulation.reply("502 what\r\n")).client, "502 what\r\n");
    for (const line of [
      "MAIL FROM:<a@b>",
      "RCPT TO:<c@d>",
      "DATA",
      "AUTH PLAIN AGEAYg==",
      "XCLIENT LOGIN=a",
    ]) {
      const { client, leg } = await simulation.say(`${line}\r\n`);
      assert.match(client, /^503 5\.5\.1 /, line);
      assert.equal(leg, "", line);
    }
    assert.equal((await simulation.say("NOOP\r\n")).leg, "NOOP\r\n");
    assert.ok(!simulation.lines.some((line) => line.includes("AGEAYg==")), "the secret is in no event");
  });
}

test("too large by MAIL's SIZE: 552 5.3.4 and nothing is sent", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 1000 } });
  await simulation.greet("SIZE 99999999");
  const { client, leg } = await simulation.say("MAIL FROM:<a@b> SIZE=1001\r\n");
  assert.match(client, /^552 5\.3\.4 /);
  assert.equal(leg, "");
});

test("a SIZE that is no number (RFC 1870) is left to the destination", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 1000 } });
  await simulation.greet("SIZE 99999999");
  const line = "MAIL FROM:<a@b> SIZE=1e9\r\n";
  assert.equal((await simulation.say(line)).leg, line);
});

test("too large while streaming: the leg is reset, the data swallowed, 552 5.3.4 at its end, a new leg for the next command", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 100 } });
  await simulation.greet("PIPELINING");
  await simulation.data();
  const first = simulation.leg;
  await simulation.say(`${"x".repeat(60)}\r\n`);
  assert.equal((await simulation.say(`${"y".repeat(60)}\r\n`)).client, "");
  assert.equal(first.state, "reset");
  assert.equal(first.take().includes("\r\n.\r\n"), false);
  assert.match((await simulation.say("z\r\n.\r\n")).client, /^552 5\.3\.4 /);
  await simulation.say("MAIL FROM:<n@example.com>\r\n");
  assert.equal(simulation.legs.length, 2);
  await simulation.reply("220 mx again\r\n");
  const { leg } = await simulation.reply(ehloReply(["PIPELINING"]));
  assert.equal(leg, "MAIL FROM:<n@example.com>\r\n");
  assert.equal((await simulation.reply("250 fine\r\n")).client, "250 fine\r\n");
});

test("bare newlines with reject: the leg is reset, 550 5.6.11 after the true end of data", async () => {
  const simulation = new Simulation({ bareNewlines: "reject" });
  await simulation.greet();
  await simulation.data();
  await simulation.say("a\nb\r\n");
  assert.equal(simulation.leg.state, "reset");
  assert.match((await simulation.say("c\r\n.\r\n")).client, /^550 5\.6\.11 /);
});

test("a command line over the limit: 500 5.5.2, close", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  const { client, leg } = await simulation.say("X".repeat(17000));
  assert.match(client, /^500 5\.5\.2 /);
  assert.equal(leg, "QUIT\r\n");
  assert.equal(simulation.client.state, "ended");
});

for (const [name, line] of [
  ["a bare LF", "NOOP a\nRSET\r\n"],
  ["a bare CR", "NOOP a\rRSET\r\n"],
  ["a NUL", "RCPT TO:b@bank.example\0.other.example\r\n"],
  ["over 2,048 octets for RCPT", `RCPT TO:(${"x".repeat(2023)})b@bank.example.other.example\r\n`],
  ["over 2,048 octets for MAIL", `${" ".repeat(2032)}MAIL FROM:<a@b>\r\n`],
] as const) {
  test(`${name} in a command line: 500 5.5.2, once, and nothing of it is sent`, async () => {
    const simulation = new Simulation();
    await simulation.greet();
    const { client, leg } = await simulation.say(line);
    assert.match(client, /^500 5\.5\.2 [^\r\n]+\r\n$/);
    assert.equal(leg, "");
    assert.equal((await simulation.say("NOOP\r\n")).leg, "NOOP\r\n");
  });
}

test("a client that says very much at once keeps the others waiting for 500 lines, and is answered in full", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  simulation.client.handler.data(Buffer.from("\0\r\n".repeat(1200)));
  let replies = simulation.client.take();
  assert.equal(replies.match(/^500 /gm)?.length, 500);
  await settle();
  replies += simulation.client.take();
  assert.equal(replies.match(/^500 /gm)?.length, 1200);
  assert.equal((await simulation.say("NOOP\r\n")).leg, "NOOP\r\n");
});

test("STARTTLS that was not offered: 502 5.5.1", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  assert.match((await simulation.say("STARTTLS\r\n")).client, /^502 5\.5\.1 /);
});

for (const [where, options] of [
  ["without a filter", {}],
  ["with a filter", { filter: () => undefined as never }],
] as const) {
  test(`LHLO, after which every recipient has an answer to the message, ${where}: 502 5.5.1`, async () => {
    const simulation = new Simulation(options);
    await simulation.greet();
    const { client, leg } = await simulation.say("LHLO client.example\r\n");
    assert.match(client, /^502 5\.5\.1 /);
    assert.equal(leg, "");
  });

  for (const parameter of ["BODY=BINARYMIME", "PRDR", "SIZE=10 prdr"]) {
    test(`MAIL with ${parameter}, which was withheld, ${where}: 555 5.5.4`, async () => {
      const simulation = new Simulation(options);
      await simulation.greet("PRDR", "BINARYMIME");
      const { client, leg } = await simulation.say(`MAIL FROM:<a@b> ${parameter}\r\n`);
      assert.match(client, /^555 5\.5\.4 /);
      assert.equal(leg, "");
    });
  }
}

test("plaintext pipelined behind the client's STARTTLS: 421 4.7.0, close", async () => {
  const simulation = new Simulation({ downstreamTls: true });
  await simulation.greet();
  const { client, leg } = await simulation.say("STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n");
  assert.match(client, /^421 4\.7\.0 [^\r\n]+\r\n$/);
  assert.equal(leg.includes("MAIL"), false);
  assert.equal(simulation.client.state, "ended");
});

test("BDAT without a transaction: its octets are swallowed, 503 5.5.1", async () => {
  const simulation = new Simulation();
  await simulation.greet("CHUNKING");
  const { client, leg } = await simulation.say("BDAT 10 LAST\r\nMAIL FROM:NOOP\r\n");
  assert.match(client, /^503 5\.5\.1 [^\r\n]+\r\n/);
  assert.equal(leg, "NOOP\r\n");
});

test("BDAT where the leg does not offer CHUNKING: 503 5.5.1, nothing is sent", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RCPT TO:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  const { client, leg } = await simulation.say("BDAT 4 LAST\r\nQUIT");
  assert.match(client, /^503 5\.5\.1 /);
  assert.equal(leg, "");
});

test("filter failed, tempfail and reject: 451 4.7.1 and 554 5.7.1, RSET upstream", async () => {
  for (const [code, enhancedCode, expected] of [
    [451, "4.7.1", /^451 4\.7\.1 /],
    [554, "5.7.1", /^554 5\.7\.1 /],
  ] as const) {
    const simulation = new Simulation({
      filter: () => ({
        kind: "reject",
        reply: { code, enhancedCode, text: "x" },
        hook: "f",
        origin: "warp",
        outcomes: [],
      }),
    });
    await simulation.greet("PIPELINING");
    await filteredMessage(simulation);
    const { client, leg } = await simulation.say("body\r\n.\r\n");
    assert.match(client, expected);
    assert.equal(leg, "RSET\r\n");
  }
});

test("no room for a held message: 451 4.3.1 at the end of data, RSET upstream", async () => {
  const simulation = new Simulation({ holdFull: true, filter: () => undefined as never });
  await simulation.greet("PIPELINING");
  await filteredMessage(simulation);
  const { client, leg } = await simulation.say("body\r\n.\r\n");
  assert.match(client, /^451 4\.3\.1 /);
  assert.equal(leg, "RSET\r\n");
});

test("no room for what a filter made of a message: 451 4.3.1, RSET upstream, and the verdict is in the event", async () => {
  const outcome = { hook: "f", verdict: "replace" } as FilterOutcome;
  const simulation = new Simulation({ filter: () => ({ kind: "no_storage", outcomes: [outcome] }) });
  await simulation.greet("PIPELINING");
  await filteredMessage(simulation);
  const { client, leg } = await simulation.say("body\r\n.\r\n");
  assert.match(client, /^451 4\.3\.1 /);
  assert.equal(leg, "RSET\r\n");
  const [event] = simulation.transactions;
  assert.deepEqual([event?.filters, event?.outcome], [[outcome], "deferred"]);
});

test("no final reply within timeouts.end_of_data: 451 4.4.2, the leg is reset, the outcome unknown", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.data();
  await simulation.say("hi\r\n.\r\n");
  await simulation.clock.advance(540_001);
  assert.match(simulation.client.take(), /^451 4\.4\.2 /);
  assert.equal(simulation.leg.state, "reset");
  assert.equal(simulation.transactions[0]?.outcome, "unknown");
});

test("an upstream that leaves while a filter holds: 451 4.4.2", async () => {
  const simulation = new Simulation({ filter: () => new Promise(() => {}) });
  await simulation.greet("PIPELINING");
  await filteredMessage(simulation);
  await simulation.say("body\r\n.\r\n");
  simulation.leg.fin();
  await settle();
  assert.match(simulation.client.take(), /^451 4\.4\.2 /);
});

test("a leg whose new greeting is a 5xx: 451 4.4.0 to the command at hand", async () => {
  const simulation = await afterOversize();
  await simulation.say("MAIL FROM:<a@b>\r\n");
  assert.match((await simulation.reply("554 go away\r\n")).client, /^451 4\.4\.0 /);
});

test("no leg that covers: 451 4.4.4", async () => {
  const simulation = await afterOversize();
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("220 mx\r\n");
  assert.match((await simulation.reply(ehloReply(["PIPELINING"]))).client, /^451 4\.4\.4 /);
});

test("a pinned session whose leg was reset: 421 4.3.0", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 10 } });
  await simulation.greet("AUTH PLAIN");
  await simulation.say("AUTH PLAIN AGEAYg==\r\n");
  await simulation.reply("235 ok\r\n");
  await simulation.data();
  assert.match((await simulation.say(`${"x".repeat(50)}\r\n.\r\n`)).client, /^552 5\.3\.4 /);
  assert.match((await simulation.say("MAIL FROM:<a@b>\r\n")).client, /^421 4\.3\.0 /);
});

test("a client that says nothing: 421 4.4.2 after timeouts.idle", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  await simulation.clock.advance(300_001);
  assert.match(simulation.client.take(), /^421 4\.4\.2 /);
});

test("octets that complete no command gain a client no time", async () => {
  const simulation = new Simulation();
  await simulation.greet();
  for (let i = 0; i < 4; i++) {
    await simulation.clock.advance(80_000);
    await simulation.say("N");
  }
  assert.match(simulation.lines.join("\n"), /<\| 421 4\.4\.2 /);
});

test("stopping: an idle client is told 421 4.3.2 at once, one in a transaction behind it", async () => {
  const idle = new Simulation();
  await idle.greet();
  await idle.clock.advance(1000);
  idle.session.drain();
  await settle();
  assert.match(idle.client.take(), /^421 4\.3\.2 /);

  const fresh = new Simulation();
  await fresh.greet();
  fresh.session.drain();
  await settle();
  assert.equal(fresh.client.take(), "", "it has just come, and may bring its message");
  await fresh.clock.advance(1001);
  assert.match(fresh.client.take(), /^421 4\.3\.2 /);

  const slow = new Simulation();
  await slow.start();
  slow.session.drain();
  await slow.clock.advance(5000);
  assert.equal((await slow.reply("220 mx.example ESMTP\r\n")).client, "220 mx.example ESMTP\r\n");
  await slow.clock.advance(900);
  await slow.say("HELO client\r\n");
  assert.equal((await slow.reply("250 mx.example\r\n")).client, "250 mx.example\r\n", "it is its turn again");
  await slow.clock.advance(900);
  await slow.data();
  await slow.say("hi\r\n.\r\n");
  assert.match((await slow.reply("250 taken\r\n")).client, /^250 taken\r\n421 4\.3\.2 /);

  const busy = new Simulation();
  await busy.greet();
  await busy.data();
  busy.session.drain();
  await settle();
  assert.equal(busy.client.take(), "");
  await busy.say("hi\r\n.\r\n");
  assert.match((await busy.reply("250 taken\r\n")).client, /^250 taken\r\n421 4\.3\.2 /);
});

test("QUIT without a leg is answered 221, and no leg is dialled for it", async () => {
  const simulation = new Simulation({ limits: { messageOctets: 10 } });
  await simulation.greet();
  await simulation.data();
  await simulation.say(`${"x".repeat(50)}\r\n.\r\n`);
  assert.match((await simulation.say("QUIT\r\n")).client, /^221 2\.0\.0 /);
  assert.equal(simulation.legs.length, 1);
  assert.equal(simulation.closed, true);
});

/** The envelope of a message that a filter holds: warp's own 354 was answered. */
async function filteredMessage(simulation: Simulation): Promise<void> {
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RCPT TO:<c@d>\r\n");
  await simulation.reply("250 ok\r\n");
  const { client, leg } = await simulation.say("DATA\r\n");
  assert.match(client, /^354 /);
  assert.equal(leg, "");
}

async function afterOversize(): Promise<Simulation> {
  const simulation = new Simulation({ limits: { messageOctets: 10 } });
  simulation.legTls = GOOD_TLS;
  await simulation.greet("PIPELINING", "8BITMIME");
  await simulation.data();
  await simulation.say(`${"x".repeat(50)}\r\n.\r\n`);
  return simulation;
}
