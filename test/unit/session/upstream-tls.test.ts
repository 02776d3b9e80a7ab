/** STARTTLS towards the destination: RFC 3207, policies, the fallback, the wall between plaintext and TLS. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ehloReply, Simulation, settle, tlsRule } from "../../support/simulation.ts";

/** Greeting and EHLO; the destination offers STARTTLS, and warp has just said it. */
async function offered(simulation: Simulation, ...keywords: string[]): Promise<void> {
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO client.example\r\n");
  const { client, leg } = await simulation.reply(ehloReply(["STARTTLS", "PIPELINING", ...keywords]));
  assert.equal(client, "");
  assert.equal(leg, "STARTTLS\r\n");
}

test("the client gets the reply to the EHLO behind TLS, without STARTTLS", async () => {
  const simulation = new Simulation();
  await offered(simulation);
  assert.equal((await simulation.reply("220 go\r\n")).leg, "EHLO client.example\r\n");
  const { client } = await simulation.reply(ehloReply(["STARTTLS", "PIPELINING", "AUTH PLAIN"]));
  assert.equal(client, "250-mx.example at your service\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n");
  assert.equal(simulation.leg.encrypted, true);
});

test("nothing is upgraded under policy none", async () => {
  const simulation = new Simulation({ tls: [tlsRule("none")] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  const { client, leg } = await simulation.reply(ehloReply(["STARTTLS"]));
  assert.equal(leg, "");
  assert.equal(client, "250 mx.example at your service\r\n");
});

for (const refusal of ["454 4.7.0 not now", "502 never heard of it"]) {
  test(`may: STARTTLS answered with ${refusal.slice(0, 3)} goes on in plaintext on the same leg`, async () => {
    const simulation = new Simulation();
    await offered(simulation);
    const { client } = await simulation.reply(`${refusal}\r\n`);
    assert.equal(client, "250-mx.example at your service\r\n250 PIPELINING\r\n");
    assert.equal(simulation.legs.length, 1);
  });

  test(`encrypt: STARTTLS answered with ${refusal.slice(0, 3)} is 421 4.7.4`, async () => {
    const simulation = new Simulation({ tls: [tlsRule("encrypt")] });
    await offered(simulation);
    assert.match((await simulation.reply(`${refusal}\r\n`)).client, /^421 4\.7\.4 /);
  });
}

const FAILURES: readonly [name: string, fail: (simulation: Simulation) => Promise<unknown>][] = [
  [
    "a broken handshake",
    (simulation) => {
      simulation.leg.tls = new Error("wrong version number");
      return simulation.reply("220 go\r\n");
    },
  ],
  [
    "a handshake without an answer",
    async (simulation) => {
      simulation.leg.tls = "silent";
      await simulation.reply("220 go\r\n");
      await simulation.clock.advance(30_001);
    },
  ],
  ["no answer to STARTTLS", (simulation) => simulation.clock.advance(30_001)],
  ["plaintext behind the answer to STARTTLS", (simulation) => simulation.reply("220 go\r\n250 injected\r\n")],
  ["half a line of plaintext behind the answer", (simulation) => simulation.reply("220 go\r\n250-inj")],
  [
    "a connection lost behind TLS",
    async (simulation) => {
      await simulation.reply("220 go\r\n");
      simulation.leg.rst();
      await settle();
    },
  ],
];

for (const [name, fail] of FAILURES) {
  test(`may: ${name} is a new leg in plaintext`, async () => {
    const simulation = new Simulation();
    await offered(simulation);
    await fail(simulation);
    assert.equal(simulation.legs.length, 2);
    assert.equal(simulation.client.take(), "", "the client sees nothing of it");
    assert.equal((await simulation.reply("220 mx again\r\n")).leg, "EHLO client.example\r\n");
    const { client, leg } = await simulation.reply(ehloReply(["STARTTLS", "PIPELINING"]));
    assert.equal(client, "250-mx.example at your service\r\n250 PIPELINING\r\n");
    assert.equal(leg, "", "and TLS is not tried again");
  });

  test(`encrypt: ${name} is 421 4.7.4, and never plaintext`, async () => {
    const simulation = new Simulation({ tls: [tlsRule("encrypt")] });
    await offered(simulation);
    await fail(simulation);
    const told = simulation.client.take() || simulation.lines.filter((line) => line.startsWith("<|")).join();
    assert.match(told, /421 4\.7\.4 /);
    assert.equal(simulation.legs.length, 1);
    assert.equal(simulation.client.state, "ended");
  });
}

test("injected plaintext is a violation with its own name", async () => {
  const simulation = new Simulation();
  await offered(simulation);
  await simulation.reply("220 go\r\n250 injected\r\n");
  assert.deepEqual(simulation.violations, ["upstream injected_plaintext"]);
});

test("a HELO client gets the same upgrade, and a reply of one line", async () => {
  const simulation = new Simulation();
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  assert.equal((await simulation.say("HELO old.example\r\n")).leg, "EHLO old.example\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  assert.equal((await simulation.reply(ehloReply(["SIZE 5"]))).client, "250 mx.example at your service\r\n");
  assert.equal(simulation.leg.encrypted, true);
});

test("the outcome is in the record of the transaction", async () => {
  const simulation = new Simulation();
  await offered(simulation);
  await simulation.reply("220 go\r\n");
  await simulation.reply(ehloReply([]));
  await simulation.data();
  await simulation.say("hi\r\n.\r\n");
  await simulation.reply("250 taken\r\n");
  const tls = simulation.transactions[0]?.session.upstreamTls;
  assert.equal(tls?.encrypted, true);
  assert.equal(tls?.verified, false);
  assert.equal(tls?.reason, "self-signed certificate");
  assert.equal(tls?.policy, "may");
});

test("the client's own STARTTLS: what it said in plaintext counts no more", async () => {
  const simulation = new Simulation({ downstreamTls: true });
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<plain@example.com>\r\n");
  await simulation.reply("250 ok\r\n");
  const { client, leg } = await simulation.say("STARTTLS\r\n");
  assert.match(client, /^220 2\.0\.0 /);
  assert.equal(leg, "RSET\r\n");
  await simulation.reply("250 reset\r\n");
  assert.equal(simulation.client.encrypted, true);
  assert.match((await simulation.say("MAIL FROM:<a@example.com>\r\n")).client, /^503 5\.5\.1 /);
  assert.equal((await simulation.say("EHLO c\r\n")).leg, "EHLO c\r\n");
  assert.equal(
    (await simulation.reply(ehloReply(["DSN"]))).client,
    "250-mx.example at your service\r\n250 DSN\r\n",
  );
});

test("the client's own STARTTLS: a login in plaintext counts no more, upstream neither", async () => {
  const simulation = new Simulation({ downstreamTls: true });
  await simulation.greet("PIPELINING", "AUTH PLAIN");
  await simulation.say("AUTH PLAIN AGEAYg==\r\n");
  await simulation.reply("235 in\r\n");
  const { client, leg } = await simulation.say("STARTTLS\r\n");
  assert.match(client, /^220 2\.0\.0 /);
  assert.equal(leg, "QUIT\r\n");
  assert.equal((await simulation.say("EHLO c\r\n")).client, "");
  assert.equal(simulation.legs.length, 2);
  assert.equal((await simulation.reply("220 mx.example ESMTP\r\n")).leg, "EHLO c\r\n");
  await simulation.reply(ehloReply(["AUTH PLAIN"]));
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  await simulation.reply("550 5.7.1 log in first\r\n");
  simulation.client.fin();
  await settle();
  const session = simulation.connections[0]?.session;
  assert.deepEqual([session?.authUser, session?.route.pinned], ["", false]);
});

test("what EHLO offered before TLS counts no more where the one behind it is refused", async () => {
  const simulation = new Simulation();
  await offered(simulation, "CHUNKING");
  await simulation.reply("220 go\r\n");
  assert.equal((await simulation.reply("502 5.5.1 no EHLO here\r\n")).client, "502 5.5.1 no EHLO here\r\n");
  await simulation.say("HELO client.example\r\n");
  await simulation.reply("250 hello\r\n");
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RCPT TO:<b@example.net>\r\n");
  await simulation.reply("250 ok\r\n");
  const { client, leg } = await simulation.say("BDAT 3 LAST\r\nabc");
  assert.match(client, /^503 5\.5\.1 /);
  assert.equal(leg, "");
  assert.ok(simulation.lines.includes(">| BDAT 3 LAST"), "and it is not told as passed on");
});

test("a HELO client is introduced by HELO where EHLO behind TLS is refused", async () => {
  const simulation = new Simulation();
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("HELO old.example\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  assert.equal((await simulation.reply("502 5.5.1 no EHLO here\r\n")).leg, "HELO old.example\r\n");
  assert.equal((await simulation.reply("250 hello\r\n")).client, "250 hello\r\n");
  assert.ok(simulation.lines.includes(">| HELO old.example"), "the client's own line is told");
});

test("an EHLO reply that does not meet the policy is told to the operator", async () => {
  const simulation = new Simulation({ tls: [tlsRule("encrypt")] });
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO client.example\r\n");
  await simulation.reply(ehloReply(["SIZE 5"]));
  assert.ok(simulation.lines.some((line) => line.startsWith("|< 250-") && line.includes("SIZE 5")));
});
