/** The leg is replaced where the transaction's IP is another: replay, cover, pinned, parked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TransactionFacts } from "../../../src/egress/contract.ts";
import { DialError } from "../../../src/net/dial.ts";
import {
  ehloReply,
  ipDecision,
  Simulation,
  type SimulationOptions,
  settle,
} from "../../support/simulation.ts";

function routed(
  decide: (facts: TransactionFacts) => ReturnType<typeof ipDecision>,
  needs: { sender: boolean; recipient: boolean } = { sender: true, recipient: false },
  more: SimulationOptions = {},
): Simulation {
  return new Simulation({
    ...more,
    router: { needs, atConnect: () => ipDecision("203.0.113.1/out1.example"), forTransaction: decide },
  });
}

const bySender = (facts: TransactionFacts): ReturnType<typeof ipDecision> =>
  facts.mailFrom.address.startsWith("bad")
    ? ipDecision("203.0.113.66/bulk.example")
    : ipDecision("203.0.113.1/out1.example");

async function greeted(simulation: Simulation, ...keywords: string[]): Promise<void> {
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  assert.equal((await simulation.say("EHLO client.example\r\n")).leg, "EHLO out1.example\r\n");
  await simulation.reply(ehloReply(keywords));
}

/** The new leg's greeting and EHLO. */
async function replay(simulation: Simulation, name: string, ...keywords: string[]): Promise<string> {
  assert.equal((await simulation.reply("220 mx\r\n")).leg, `EHLO ${name}\r\n`);
  return (await simulation.reply(ehloReply(keywords))).leg;
}

test("a sender of another pool leaves from another IP, under that IP's name", async () => {
  const simulation = routed(bySender);
  await greeted(simulation, "PIPELINING");
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  assert.deepEqual(simulation.dialled, ["203.0.113.1", "203.0.113.66"]);
  assert.equal(await replay(simulation, "bulk.example", "PIPELINING"), "MAIL FROM:<bad@example.com>\r\n");
  assert.equal((await simulation.reply("250 ok\r\n")).client, "250 ok\r\n");
});

test("a sender of the same pool keeps the leg", async () => {
  const simulation = routed(bySender);
  await greeted(simulation);
  assert.equal(
    (await simulation.say("MAIL FROM:<good@example.com>\r\n")).leg,
    "MAIL FROM:<good@example.com>\r\n",
  );
  assert.equal(simulation.legs.length, 1);
});

test("alternating senders dial once: the leg before is kept for a while", async () => {
  const simulation = routed(bySender);
  await greeted(simulation, "PIPELINING");
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  await replay(simulation, "bulk.example", "PIPELINING");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RSET\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("MAIL FROM:<good@example.com>\r\n");
  assert.equal(simulation.legs.length, 2);
  assert.equal(simulation.legs[0]?.take(), "MAIL FROM:<good@example.com>\r\n");
  simulation.legs[0]?.feed("250 ok\r\n");
  await simulation.clock.advance(31_000);
  assert.equal(simulation.legs[1]?.take(), "QUIT\r\n", "and for no longer");
});

test("a parked leg whose SIZE is smaller than declared is not taken again", async () => {
  const simulation = routed(bySender);
  await greeted(simulation, "SIZE 500000");
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  await replay(simulation, "bulk.example", "SIZE 1000");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RSET\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("MAIL FROM:<good@example.com>\r\n");
  simulation.legs[0]?.feed("250 ok\r\n");
  await simulation.say("RSET\r\n");
  simulation.legs[0]?.feed("250 ok\r\n");
  await settle();
  simulation.legs[1]?.take();
  await simulation.say("MAIL FROM:<bad@example.com> SIZE=2000\r\n");
  assert.equal(simulation.legs.length, 3);
  assert.equal(
    await replay(simulation, "bulk.example", "SIZE 5000"),
    "MAIL FROM:<bad@example.com> SIZE=2000\r\n",
  );
});

test("a leg that was parked before the client's next EHLO is not taken again: it was told another name", async () => {
  const simulation = routed(bySender);
  await greeted(simulation);
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  await replay(simulation, "bulk.example");
  await simulation.reply("250 ok\r\n");
  await simulation.say("RSET\r\n");
  await simulation.reply("250 ok\r\n");
  assert.equal((await simulation.say("EHLO other.example\r\n")).leg, "EHLO bulk.example\r\n");
  assert.equal(simulation.legs[0]?.take(), "QUIT\r\n");
  await simulation.reply(ehloReply(["8BITMIME"]));
  await simulation.say("MAIL FROM:<good@example.com> BODY=8BITMIME\r\n");
  assert.equal(simulation.legs.length, 3);
});

test("the recipient decides where a rule needs it: warp answers MAIL, and sends it with the first RCPT", async () => {
  const simulation = routed(
    (facts) => {
      assert.equal(facts.recipient?.address, "x@slow.example");
      return ipDecision("203.0.113.66/bulk.example");
    },
    { sender: false, recipient: true },
  );
  await greeted(simulation, "PIPELINING");
  const mail = await simulation.say("MAIL FROM:<a@example.com>\r\n");
  assert.match(mail.client, /^250 2\.1\.0 /);
  assert.equal(mail.leg, "");
  await simulation.say("RCPT TO:<x@slow.example>\r\n");
  assert.equal(await replay(simulation, "bulk.example", "PIPELINING"), "MAIL FROM:<a@example.com>\r\n");
  assert.equal((await simulation.reply("250 sender\r\n")).leg, "RCPT TO:<x@slow.example>\r\n");
  assert.equal((await simulation.reply("250 rcpt\r\n")).client, "250 rcpt\r\n");
});

test("a recipient for whom no leg could be had is on record with its reply", async () => {
  const simulation = routed(() => ({ ...ipDecision("x"), kind: "none", causes: [] }) as never, {
    sender: false,
    recipient: true,
  });
  await greeted(simulation);
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  assert.match((await simulation.say("RCPT TO:<x@y>\r\n")).client, /^451 4\.4\.4 /);
  const data = await simulation.say("DATA\r\n");
  assert.match(data.client, /^503 5\.5\.1 /, "no leg knows of its MAIL");
  assert.equal(data.leg, "");
  await simulation.say("RSET\r\n");
  await simulation.reply("250 ok\r\n");
  const [tx] = simulation.transactions;
  assert.equal(tx?.outcome, "deferred");
  assert.equal(tx?.recipients[0]?.rcptReply?.code, 451);
  assert.equal(tx?.recipients[0]?.rcptReply?.origin, "warp");
});

test("a sender for whom no leg could be had is on record with the reply, before the connection", async () => {
  const simulation = routed(bySender, undefined, {
    dial: (count) => (count > 1 ? new DialError("refused", "connection refused") : undefined),
  });
  await greeted(simulation);
  assert.match((await simulation.say("MAIL FROM:<bad@example.com>\r\n")).client, /^421 4\.4\.1 /);
  simulation.client.fin();
  await settle();
  const [tx] = simulation.transactions;
  assert.equal(tx?.mailFrom.address, "bad@example.com");
  assert.equal(tx?.outcome, "deferred");
  assert.equal(tx?.finalReply?.code, 421);
  assert.equal(tx?.finalReply?.origin, "warp");
  assert.deepEqual(
    simulation.events.map(({ kind }) => kind).filter((kind) => kind !== "after_comm"),
    ["after_transaction", "after_conn"],
  );
  assert.equal(simulation.connections[0]?.transactions, 1);
});

test("MAIL refused upstream becomes the reply to RCPT where warp had answered it", async () => {
  const simulation = routed(() => ipDecision("203.0.113.1/out1.example"), { sender: false, recipient: true });
  await greeted(simulation, "PIPELINING");
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  assert.equal((await simulation.say("RCPT TO:<x@y>\r\n")).leg, "MAIL FROM:<a@example.com>\r\n");
  assert.equal((await simulation.reply("550 5.7.1 no\r\n")).client, "550 5.7.1 no\r\n");
  assert.ok(simulation.lines.includes("<- 550 5.7.1 no"), "as the destination's own");
  await simulation.say("RCPT TO:<x@y>\r\n");
  assert.equal((await simulation.reply("421 4.3.2 closing\r\n")).client, "421 4.3.2 closing\r\n");
  assert.equal(simulation.client.state, "ended", "whoever says 421 closes");
  const [tx] = simulation.transactions;
  assert.deepEqual(
    tx?.recipients.map(({ finalReply }) => [finalReply?.code, finalReply?.origin]),
    [
      [550, "upstream"],
      [421, "upstream"],
    ],
  );
  const ofTransaction = /^(?:MAIL|RCPT|250 2\.1\.0|550|421)/;
  for (const event of simulation.events) {
    if (event.kind !== "after_comm" || !ofTransaction.test(event.data.toString())) continue;
    assert.equal(event.transactionId, tx?.transactionId, `${event.direction} ${event.data}`);
  }
});

test("a new leg that lacks a capability shown is not used: the next IP once, then 451 4.4.4", async () => {
  const simulation = routed(() =>
    ipDecision("203.0.113.66/a.example", "203.0.113.67/b.example", "203.0.113.68/c.example"),
  );
  await greeted(simulation, "8BITMIME");
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  await replay(simulation, "a.example");
  assert.deepEqual(simulation.dialled.slice(1), ["203.0.113.66", "203.0.113.67"]);
  await simulation.reply("220 mx\r\n");
  const { client } = await simulation.reply(ehloReply(["PIPELINING"]));
  assert.match(client, /^451 4\.4\.4 /);
  assert.equal(simulation.dialled.length, 3);
});

test("a new leg whose SIZE is smaller than declared does not cover", async () => {
  const simulation = routed(bySender);
  await greeted(simulation, "SIZE 500000");
  await simulation.say("MAIL FROM:<bad@example.com> SIZE=2000\r\n");
  await simulation.reply("220 mx\r\n");
  assert.match((await simulation.reply(ehloReply(["SIZE 1000"]))).client, /^451 4\.4\.4 /);
});

test("a 4xx in the replay becomes the reply to MAIL, a 5xx greeting 451 4.4.0", async () => {
  const first = routed(bySender);
  await greeted(first);
  await first.say("MAIL FROM:<bad@example.com>\r\n");
  assert.equal((await first.reply("450 4.7.1 not from there\r\n")).client, "450 4.7.1 not from there\r\n");

  const second = routed(bySender);
  await greeted(second);
  await second.say("MAIL FROM:<bad@example.com>\r\n");
  assert.match((await second.reply("554 5.7.1 blocked\r\n")).client, /^451 4\.4\.0 /);
});

test("the refusal of a leg that the client never saw counts for the IP that it left from", async () => {
  const refusals: string[] = [];
  const simulation = new Simulation({
    router: {
      needs: { sender: true, recipient: false },
      atConnect: () => ipDecision("203.0.113.1/out1.example"),
      forTransaction: (facts) => ({ ...bySender(facts), rule: "bulk", pool: "penalty", tier: "poor" }),
      legRefused: (ip, destinationIp, { code, text }) =>
        refusals.push(`${ip} ${destinationIp} ${code} ${text}`),
    },
  });
  await greeted(simulation);
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  await simulation.reply("554 5.7.1 blocked\r\n");
  assert.deepEqual(refusals, ["203.0.113.66 198.51.100.25 554 554 5.7.1 blocked"]);

  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  assert.equal((await simulation.reply("450 4.7.1 slower\r\n")).client, "450 4.7.1 slower\r\n");
  assert.equal(refusals.length, 1, "a 4xx is in the transaction's record");
  const pinned = false;
  const route = { sourceIp: "203.0.113.66", pool: "penalty", rule: "bulk", tier: "poor", pinned };
  assert.deepEqual(
    simulation.transactions.map(({ session, finalReply }) => [finalReply?.code, session.route]),
    [
      [451, route],
      [450, route],
    ],
  );
});

test("a leg that the destination refuses to connect is dialled from the next IP of the pool", async () => {
  const simulation = routed(() => ipDecision("203.0.113.66/a.example", "203.0.113.67/b.example"), undefined, {
    dial: (count) => (count === 2 ? new DialError("refused", "connection refused") : undefined),
  });
  await greeted(simulation);
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  assert.deepEqual(simulation.dialled.slice(1), ["203.0.113.66", "203.0.113.67"]);
  assert.equal(await replay(simulation, "b.example"), "MAIL FROM:<a@example.com>\r\n");
});

test("a predicted leg is dialled from up to three IPs, one that is final from one", async () => {
  const refused = () => new DialError("refused", "connection refused");
  const ips = ["1", "2", "3", "4"].map((n) => `203.0.113.${n}`);
  for (const predicted of [true, false]) {
    const router = { atConnect: () => ({ ...ipDecision(...ips), predicted }) };
    const simulation = new Simulation({ router, dial: refused });
    await simulation.start();
    assert.deepEqual(simulation.dialled, ips.slice(0, predicted ? 3 : 1));
  }
});

test("what is predicted is forgotten where no leg could be had, or its greeting refuses", async () => {
  let failed = 0;
  const router = {
    needs: { sender: true, recipient: false },
    atConnect: () => ipDecision("203.0.113.1/out1.example"),
    failed: () => {
      failed++;
    },
  };
  const dead = new Simulation({ router, dial: () => new DialError("refused", "connection refused") });
  await dead.start();
  assert.equal(failed, 1);
  const refused = new Simulation({ router });
  await refused.start();
  await refused.reply("554 5.7.1 blocked\r\n");
  assert.equal(failed, 2);
  const served = new Simulation({ router });
  await served.start();
  await served.reply("220 mx\r\n");
  assert.equal(failed, 2);
});

for (const [verb, line, reply] of [
  ["AUTH", "AUTH PLAIN AGEAYg==", "235 in"],
  ["XCLIENT", "XCLIENT NAME=x", "220 again"],
  ["XFORWARD", "XFORWARD NAME=x", "250 ok"],
] as const) {
  test(`after a 2xx to ${verb} the leg is never replaced`, async () => {
    const simulation = routed((facts) => ({ ...bySender(facts), pool: "penalty" }));
    await greeted(simulation, "AUTH PLAIN");
    await simulation.say(`${line}\r\n`);
    await simulation.reply(`${reply}\r\n`);
    assert.equal(
      (await simulation.say("MAIL FROM:<bad@example.com>\r\n")).leg,
      "MAIL FROM:<bad@example.com>\r\n",
    );
    assert.equal(simulation.legs.length, 1);
    await simulation.reply("250 ok\r\n");
    await simulation.say("RSET\r\n");
    await simulation.reply("250 ok\r\n");
    const route = simulation.transactions[0]?.session.route;
    assert.deepEqual([route?.sourceIp, route?.pool], ["203.0.113.1", ""], "the pool is the leg's own");
  });
}

test("a rule's reject holds on a pinned leg too, and nothing is sent", async () => {
  const reply = {
    code: 550,
    enhancedCode: "5.7.1",
    text: "sender suspended",
    origin: "warp",
    hook: "",
  } as const;
  const simulation = routed(() => ({ ...ipDecision("x"), rule: "hopeless", kind: "reply", reply }) as never);
  await greeted(simulation, "AUTH PLAIN");
  await simulation.say("AUTH PLAIN AGEAYg==\r\n");
  await simulation.reply("235 in\r\n");
  const { client, leg } = await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  assert.equal(client, "550 5.7.1 sender suspended\r\n");
  assert.equal(leg, "");
  const route = simulation.transactions[0]?.session.route;
  assert.deepEqual([route?.sourceIp, route?.rule], ["", "hopeless"]);
});

test("a rule's reject of a recipient holds on a pinned leg too, which is kept whatever the rule says", async () => {
  const reply = { code: 550, enhancedCode: "5.7.1", text: "not there", origin: "warp", hook: "" } as const;
  const simulation = routed(
    ({ recipient }) =>
      recipient?.address.endsWith("@bad.example")
        ? ({ ...ipDecision("x"), kind: "reply", reply } as never)
        : ipDecision("203.0.113.66/bulk.example"),
    { sender: true, recipient: true },
  );
  await greeted(simulation, "AUTH PLAIN");
  await simulation.say("AUTH PLAIN AGEAYg==\r\n");
  await simulation.reply("235 in\r\n");
  await simulation.say("MAIL FROM:<a@example.com>\r\n");
  const { client, leg } = await simulation.say("RCPT TO:<x@bad.example>\r\n");
  assert.equal(client, "550 5.7.1 not there\r\n");
  assert.equal(leg, "");
  const refusal = simulation.events.findLast((event) => event.kind === "after_comm");
  assert.deepEqual([refusal?.direction, refusal?.origin], ["<|", "warp"]);
  assert.equal((await simulation.say("RCPT TO:<x@good.example>\r\n")).leg, "MAIL FROM:<a@example.com>\r\n");
  assert.equal((await simulation.reply("250 sender\r\n")).leg, "RCPT TO:<x@good.example>\r\n");
  assert.equal(simulation.legs.length, 1);
});

test("MAIL within a transaction is refused by warp where somebody has to be routed", async () => {
  const simulation = routed(bySender);
  await greeted(simulation);
  await simulation.say("MAIL FROM:<good@example.com>\r\n");
  await simulation.reply("250 ok\r\n");
  const { client, leg } = await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  assert.match(client, /^503 5\.5\.1 /);
  assert.equal(leg, "");
});

test("an encrypted leg is not replaced by a plain one", async () => {
  const simulation = routed(bySender);
  await simulation.start();
  await simulation.reply("220 mx\r\n");
  await simulation.say("EHLO c\r\n");
  await simulation.reply(ehloReply(["STARTTLS"]));
  await simulation.reply("220 go\r\n");
  await simulation.reply(ehloReply([]));
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  await simulation.reply("220 mx\r\n");
  assert.match((await simulation.reply(ehloReply([]))).client, /^451 4\.4\.4 /);
});

test("a new leg that is lost while it is introduced takes the one that it was to replace with it", async () => {
  let open = 0;
  const simulation = routed(bySender, undefined, {
    telemetry: { legDialled: () => open++, legClosed: () => open-- },
  });
  await greeted(simulation);
  await simulation.say("MAIL FROM:<bad@example.com>\r\n");
  simulation.legs[1]?.rst();
  await settle();
  assert.match(simulation.client.take(), /^421 4\.4\.2 /);
  assert.equal(simulation.legs[0]?.take(), "QUIT\r\n");
  await simulation.clock.advance(10_000);
  assert.equal(open, 0);
});
