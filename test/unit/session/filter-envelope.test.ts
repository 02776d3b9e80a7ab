/** Who gets a filtered message: a filter is told all of them, or the message is not for them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FilterEnvelope } from "../../../src/filter/contract.ts";
import { encodeEnvelope } from "../../../src/hooks/event-encoding.ts";
import { WireWriter } from "../../../src/hooks/wire.ts";
import { MAX_ENVELOPE_RECIPIENT_OCTETS } from "../../../src/session/transaction.ts";
import { Simulation } from "../../support/simulation.ts";

function filtered(...keywords: string[]) {
  const seen: FilterEnvelope[] = [];
  const simulation = new Simulation({
    filter: (_, envelope) => {
      seen.push(envelope);
      return undefined as never;
    },
  });
  const begin = async () => {
    await simulation.greet("PIPELINING", ...keywords);
    await simulation.say("MAIL FROM:<a@b>\r\n");
    await simulation.reply("250 ok\r\n");
  };
  const envelopeNow = () => seen.at(-1) as FilterEnvelope;
  const names = () => seen.at(-1)?.recipients.map(({ address }) => address);
  return { simulation, begin, names, envelopeNow };
}

/** Pipelined RCPTs, all answered alike. */
async function recipients(
  simulation: Simulation,
  addresses: readonly string[],
  reply: string,
): Promise<void> {
  for (let at = 0; at < addresses.length; at += 100) {
    const some = addresses.slice(at, at + 100);
    await simulation.say(some.map((address) => `RCPT TO:<${address}>\r\n`).join(""));
    await simulation.reply(reply.repeat(some.length));
  }
}
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `u${i}@x.example`);

test("a filter sees the recipient behind a thousand others", async () => {
  const { simulation, begin, names } = filtered();
  await begin();
  await recipients(simulation, [...numbered(1000), "b@bank.example"], "250 ok\r\n");
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  assert.deepEqual(names(), [...numbered(1000), "b@bank.example"]);
});

test("a filter sees the accepted recipient behind a thousand refused ones", async () => {
  const { simulation, begin, names } = filtered();
  await begin();
  await recipients(simulation, numbered(1000), "550 no\r\n");
  await recipients(simulation, ["b@bank.example"], "250 ok\r\n");
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  assert.deepEqual(names(), ["b@bank.example"]);
  await simulation.reply("354 go\r\n");
  await simulation.reply("250 ok\r\n");
  const [event] = simulation.transactions;
  assert.deepEqual([event?.recipients.length, event?.recipientsOmitted], [1000, 1]);
  assert.deepEqual(
    event?.omittedAnswers.map(({ count, rcptReply, finalReply: last }) => [
      count,
      rcptReply?.code,
      last?.code,
    ]),
    [[1, 250, 250]],
  );
});

const PARAMETER = `X=${"p".repeat(2000)}`;
const CALLS = Math.floor(MAX_ENVELOPE_RECIPIENT_OCTETS / 2000);

test("recipients beyond what fits into an envelope: 452 4.5.3, where a filter is asked", async () => {
  const { simulation, begin, names } = filtered();
  await begin();
  let refused = 0;
  for (let i = 0; i < CALLS + 10; i++) {
    const { client, leg } = await simulation.say(`RCPT TO:<u${i}@x.example> ${PARAMETER}\r\n`);
    if (leg !== "") await simulation.reply("250 ok\r\n");
    else {
      assert.match(client, /^452 4\.5\.3 [^\r\n]+\r\n$/);
      refused++;
    }
  }
  assert.ok(refused >= 10 && refused < 80, String(refused));
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  assert.equal(names()?.length, CALLS + 10 - refused);
});

test("the fullest envelope stays below the 4 MiB that a gRPC server takes by default", async () => {
  const { simulation, begin, envelopeNow } = filtered();
  await begin();
  // Octets that are no UTF-8 become three each.
  const long = `RCPT TO:<${"\xff".repeat(2000)}@x.example>\r\n`;
  for (const line of [long, `RCPT TO:<a@b>\r\n`]) {
    for (let leg = " "; leg !== ""; ) {
      ({ leg } = await simulation.say(line.repeat(100)));
      await simulation.reply("250 ok\r\n".repeat(leg.split("\r\n").length - 1));
    }
  }
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  const facts = { ...envelopeNow(), messageOctets: 6, truncated: false, headerOnly: false };
  const writer = new WireWriter();
  encodeEnvelope(
    writer,
    { ...facts, earlier: [], timeLeftMs: 1, discardAllowed: false },
    { proxy: "p", worker: 0, epoch: "e" },
  );
  assert.ok(writer.size > 3_100_000 && writer.size < 3_300_000, String(writer.size));
});

test("recipients that the destination refuses take no room in the envelope", async () => {
  const { simulation, begin } = filtered();
  await begin();
  for (let i = 0; i < CALLS + 10; i++) {
    assert.notEqual((await simulation.say(`RCPT TO:<u${i}@x.example> ${PARAMETER}\r\n`)).leg, "");
    await simulation.reply("550 no\r\n");
  }
});

test("without a filter, any number of recipients passes", async () => {
  const simulation = new Simulation();
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\n");
  await simulation.reply("250 ok\r\n");
  for (let i = 0; i < CALLS + 10; i++) {
    assert.notEqual((await simulation.say(`RCPT TO:<u${i}@x.example> ${PARAMETER}\r\n`)).leg, "");
    await simulation.reply("250 ok\r\n");
  }
});

test("a filter that comes up behind more recipients than it can be told of: 451 4.7.1", async () => {
  const { simulation, begin, names } = filtered();
  const { chain } = simulation.session.env;
  Object.assign(chain, { required: false });
  await begin();
  for (let i = 0; i < CALLS + 10; i++) {
    await simulation.say(`RCPT TO:<u${i}@x.example> ${PARAMETER}\r\n`);
    await simulation.reply("250 ok\r\n");
  }
  Object.assign(chain, { required: true });
  assert.match((await simulation.say("DATA\r\n")).client, /^354 /);
  const { client, leg } = await simulation.say("body\r\n.\r\n");
  assert.match(client, /^451 4\.7\.1 /);
  assert.equal(leg, "RSET\r\n");
  assert.equal(names(), undefined);
  assert.equal(simulation.heldNow, 0);
});

test("a recipient named between the chunks of a held message: 503 5.5.1, and the destination isn't told", async () => {
  const { simulation, begin, names } = filtered("CHUNKING");
  await begin();
  await recipients(simulation, ["c@d"], "250 ok\r\n");
  const { client, leg } = await simulation.say(
    "BDAT 6\r\nbody\r\nRCPT TO:<b@bank.example>\r\nBDAT 0 LAST\r\n",
  );
  assert.match(client, /^250 [^\r\n]+\r\n503 5\.5\.1 [^\r\n]+\r\n$/);
  assert.equal(leg, "BDAT 6 LAST\r\nbody\r\n");
  assert.deepEqual(names(), ["c@d"]);
});

test("a filter sees the recipient whose RCPT is parted by a blank of C's", async () => {
  const { simulation, begin, names } = filtered();
  await begin();
  await simulation.say("RCPT\vTO:<b@bank.example>\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  assert.deepEqual(names(), ["b@bank.example"]);
});

test("a filter sees the sender that a server in JavaScript takes behind a RSET of its own", async () => {
  const { simulation, begin, envelopeNow } = filtered();
  await begin();
  const say = (text: string) => simulation.say(Buffer.from(text).toString("latin1"));
  await say("R\u017fET\r\n");
  await simulation.reply("250 ok\r\n");
  await say("MA\u0131L FROM:<bad@b>\r\nRCPT TO:<c@d>\r\n");
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  assert.equal(envelopeNow().mailFrom.address, "bad@b");
});

for (const command of ["RSET x", "QUIT x", "EHLO"]) {
  test(`${command} that is refused within a transaction ends the leg, which still has it`, async () => {
    const { simulation, begin } = filtered();
    await begin();
    await recipients(simulation, ["b@bank.example"], "250 ok\r\n");
    await simulation.say(`${command}\r\n`);
    const { client } = await simulation.reply("501 5.5.4 syntax\r\n");
    assert.match(client, /^501 5\.5\.4 syntax\r\n421 4\.4\.2 /);
    assert.equal(simulation.leg.state, "reset");
  });
}

test("a RSET of warp's own that is refused ends the leg", async () => {
  const simulation = new Simulation({
    filter: () => ({
      kind: "reject",
      reply: { code: 550, enhancedCode: "5.7.1", text: "no" },
      hook: "h",
      origin: "hook",
      outcomes: [],
    }),
  });
  await simulation.greet("PIPELINING");
  await simulation.say("MAIL FROM:<a@b>\r\nRCPT TO:<b@bank.example>\r\n");
  await simulation.reply("250 ok\r\n250 ok\r\n");
  await simulation.say("DATA\r\nbody\r\n.\r\n");
  const { client } = await simulation.reply("500 what\r\n");
  assert.match(client, /421 4\.4\.2 /);
});

test("recipients behind a MAIL that is taken within a transaction are those of the new one", async () => {
  const { simulation, begin, names } = filtered();
  await begin();
  await recipients(simulation, ["a@x.example"], "250 ok\r\n");
  await simulation.say("MAIL FROM:<c@d>\r\nRCPT TO:<b@bank.example>\r\nDATA\r\nbody\r\n.\r\n");
  await simulation.reply("250 ok\r\n");
  await simulation.reply("250 ok\r\n");
  assert.deepEqual(names(), ["b@bank.example"]);
});

for (const begin of ["DATA\r\n", "BDAT 65536 LAST\r\n"]) {
  test(`a message of bare newlines is stored in few pieces: ${begin.slice(0, 4)}`, async () => {
    const { simulation, begin: mail } = filtered("CHUNKING");
    await mail();
    await recipients(simulation, ["c@d"], "250 ok\r\n");
    await simulation.say(`${begin}${"\n".repeat(65_536)}${begin === "DATA\r\n" ? "\r\n.\r\n" : ""}`);
    assert.ok(simulation.holdWrites < 10, String(simulation.holdWrites));
  });
}
