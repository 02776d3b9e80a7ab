/**
 * The choice of the source IP on a real host with several addresses: destinations record from where each transaction
 * comes, and under which name.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import type { Recorded } from "./programs/recorder.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable();
const SHARED = ["192.0.2.101", "192.0.2.102"];
const PENALTY = "192.0.2.166";
const NAMES: Readonly<Record<string, string>> = {
  "192.0.2.101": "out1.sender.example",
  "192.0.2.102": "out2.sender.example",
  "192.0.2.166": "bulk.sender.example",
};

let lab: Lab;
let host: Namespace;
let mx: Namespace;
let plain: Program;
let throttling: Program;

const config = (state: string) => `
reputation: { state_file: ${state} }
pools:
  shared: { ips: [{ ip: 192.0.2.101, ehlo: out1.sender.example }, { ip: 192.0.2.102, ehlo: out2.sender.example }] }
  penalty: { ips: [{ ip: 192.0.2.166, ehlo: bulk.sender.example }] }
rules:
  - { name: suspended, match: { sender_domain: [suspended.example] }, reject: "550 5.7.1 sender suspended" }
  - { name: poor, match: { tier: poor }, pool: penalty }
  - { name: rest, pool: shared }
`;

function start(program: Program): Promise<string> {
  return program.line(/^ready$/);
}
function recorded(program: Program, since = 0): Recorded[] {
  return program.lines
    .filter((line) => line.startsWith("{"))
    .slice(since)
    .map((line) => JSON.parse(line) as Recorded);
}
async function talk(
  address: string,
  senders: readonly string[],
  auth = false,
): Promise<{ from: string; answer: string }[]> {
  const talker = ["test/netns/programs/talker.ts", address, JSON.stringify({ senders, auth })];
  const done = await host.complete(process.execPath, talker, { timeoutMs: 60_000 });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { from: string; answer: string });
}

describe("source IPs by reputation", { skip }, () => {
  let proxy: Warp;
  let seen = 0;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    mx = lab.namespace("mx");
    const own = ["192.0.2.1/24", ...[...SHARED, PENALTY].map((ip) => `${ip}/24`)];
    lab.link(host, "eth0", own, mx, "eth0", ["192.0.2.10/24", "192.0.2.20/24"]);
    const recorder = (options: object) =>
      mx.startNode("test/netns/programs/recorder.ts", JSON.stringify({ port: 25, ...options }));
    plain = recorder({
      listen: ["192.0.2.10"],
      hostname: "mx.plain.example",
      spam: ["bad@sender.example"],
    });
    throttling = recorder({ listen: ["192.0.2.20"], hostname: "mx.throttling.example", throttleAfter: 4 });
    await Promise.all([start(plain), start(throttling)]);
    proxy = await Warp.start(lab, host, { config: config(join(lab.folder, "reputation.json")) });
  });
  after(() => lab.end());
  beforeEach(() => {
    seen = recorded(plain).length;
  });

  it("moves a sender whose mail is refused as spam to the penalty pool, within one connection", async () => {
    const answers = await talk("192.0.2.10", new Array<string>(40).fill("bad@sender.example"));
    assert.equal(answers.length, 40);
    assert.ok(answers.every(({ answer }) => answer.startsWith("550 5.7.1")));
    const from = recorded(plain, seen);
    assert.equal(from.length, 40);
    const moved = from.findIndex(({ peer }) => peer === PENALTY);
    assert.ok(moved >= 3 && moved < 35, `moved after ${moved}`);
    assert.ok(from.slice(0, moved).every(({ peer }) => SHARED.includes(peer)));
    assert.ok(from.slice(moved).every(({ peer }) => peer === PENALTY));
  });

  it("lets a good and a bad sender of one connection leave from different pools, each under its name", async () => {
    const senders = Array.from({ length: 12 }, (_, i) =>
      i % 2 === 0 ? "good@sender.example" : "bad@sender.example",
    );
    const answers = await talk("192.0.2.10", senders);
    assert.deepEqual(
      answers.map(({ answer }) => answer.slice(0, 3)),
      senders.map((sender) => (sender.startsWith("good") ? "250" : "550")),
    );
    const from = recorded(plain, seen);
    for (const { from: sender, peer, helo } of from) {
      assert.equal(SHARED.includes(peer), sender.startsWith("good"), `${sender} from ${peer}`);
      assert.equal(helo, NAMES[peer]);
    }
    assert.equal(from.length, 12);
    // The leg before is kept: alternating senders don't dial each time.
    assert.ok(new Set(from.map(({ connection }) => connection)).size <= 3);
  });

  it("answers MAIL by the rule that refuses, and goes on with the connection", async () => {
    const answers = await talk("192.0.2.10", ["a@suspended.example", "good@sender.example"]);
    assert.deepEqual(
      answers.map(({ answer }) => answer),
      ["550 5.7.1 sender suspended", "250 2.0.0 OK queued"],
    );
    assert.equal(recorded(plain, seen).length, 1);
  });

  it("keeps the leg of an authenticated session, whoever the sender is", async () => {
    await talk("192.0.2.10", ["good@sender.example", "bad@sender.example", "good@sender.example"], true);
    const from = recorded(plain, seen);
    assert.equal(from.length, 3);
    assert.equal(new Set(from.map(({ connection }) => connection)).size, 1);
  });

  it("skips an IP that was taken from the host", async () => {
    const senders = Array.from({ length: 10 }, (_, i) => `user${i}@sender.example`);
    await talk("192.0.2.10", senders);
    assert.deepEqual(new Set(recorded(plain, seen).map(({ peer }) => peer)), new Set(SHARED));
    host.run("ip", "address", "del", "192.0.2.101/24", "dev", "eth0");
    seen = recorded(plain).length;
    const answers = await talk("192.0.2.10", senders);
    host.run("ip", "address", "add", "192.0.2.101/24", "dev", "eth0");
    assert.ok(answers.every(({ answer }) => answer.startsWith("250")));
    const from = recorded(plain, seen);
    assert.equal(from.length, 10);
    assert.deepEqual(new Set(from.map(({ peer }) => peer)), new Set(["192.0.2.102"]));
    // It is looked for again half a minute later.
    await new Promise((resolve) => setTimeout(resolve, 30_500));
    seen = recorded(plain).length;
    await talk("192.0.2.10", senders);
    assert.deepEqual(new Set(recorded(plain, seen).map(({ peer }) => peer)), new Set(SHARED));
  });

  it("cools an IP down for the provider that throttles it, and for that one alone", async () => {
    const senders = Array.from({ length: 30 }, (_, i) => `sender${i}@sender.example`);
    for (const sender of senders) await talk("192.0.2.20", [sender]);
    const from = recorded(throttling);
    const throttled = from.filter(({ reply }) => reply.startsWith("421"));
    // Each IP is throttled after four, and left after three throttled answers in a row.
    for (const ip of SHARED) {
      assert.equal(throttled.filter(({ peer }) => peer === ip).length, 3, ip);
    }
    const last = await talk("192.0.2.20", ["sender0@sender.example"]);
    assert.match(last[0]?.answer ?? "", /^4\d\d 4\.4\.4/);
    assert.equal(recorded(throttling).length, from.length);
    const answers = await talk("192.0.2.10", senders.slice(0, 10));
    assert.ok(answers.every(({ answer }) => answer.startsWith("250")));
    assert.deepEqual(new Set(recorded(plain, seen).map(({ peer }) => peer)), new Set(SHARED));
    await proxy.program.line(/ip_state.*192\.0\.2\.10[12]/);
  });
});
