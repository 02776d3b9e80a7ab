// The choice of the source IP by the contract that the session uses, with a store in memory and a clock from outside.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Decision, RouteAnswer, TransactionFacts } from "../../../src/egress/contract.ts";
import { legFits } from "../../../src/egress/fit.ts";
import { EgressRouter, type RouterSettings } from "../../../src/egress/router.ts";
import type { Notice } from "../../../src/events/events.ts";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { EMPTY_TALLY } from "../../../src/reputation/counts.ts";
import { MemoryReputationStore } from "../../../src/stores/reputation-memory.ts";
import { settingsWith } from "../../integration/reputation-settings.ts";
import { type Answer, connection, routeFacts, transaction } from "../reputation/transactions.ts";

const HOUR = 3_600_000;
const POOLS = {
  shared: {
    ips: [{ ip: "203.0.113.10", ehlo: "out1.example.net" }, { ip: "203.0.113.11" }, { ip: "2001:db8::10" }],
  },
  penalty: { ips: [{ ip: "203.0.113.66", ehlo: "bulk.example.net" }] },
};
const RULES: RouterSettings["rules"] = [
  {
    name: "hopeless",
    match: { tier: ["poor"], senderDomain: ["spam.example"] },
    action: { kind: "reject", reply: { code: 550, enhancedCode: "5.7.1", text: "sender suspended" } },
  },
  { name: "poor", match: { tier: ["poor"] }, action: { kind: "pool", pool: "penalty" } },
  { name: "rest", match: {}, action: { kind: "pool", pool: "shared" } },
];

class World {
  now = 1_000_000;
  readonly notices: Notice[] = [];
  readonly asked: string[] = [];
  answer: RouteAnswer | undefined;
  hook = false;
  readonly store = new MemoryReputationStore({
    settings: settingsWith([HOUR, 24 * HOUR]),
    now: () => this.now,
  });
  readonly router: EgressRouter;

  constructor(settings: Partial<RouterSettings> = {}) {
    const world = this;
    this.router = new EgressRouter(
      {
        pools: POOLS,
        rules: RULES,
        identity: { kinds: ["mail_from"], strip: new Set(["plus"]) },
        ...settings,
      },
      {
        store: this.store,
        ledger: this.store,
        telemetry: noTelemetry,
        now: () => this.now,
        isOwnAddress: (ip) => ip === "198.51.100.1",
        notify: (notice) => this.notices.push(notice),
        selectRoute: {
          get available() {
            return world.hook;
          },
          ask: async ({ sender }) => {
            this.asked.push(sender);
            return this.answer;
          },
        },
      },
    );
  }

  connect(clientIp = "198.51.100.1", destinationIp = "192.0.2.1"): Decision {
    return this.router.atConnect({
      client: { ip: clientIp, port: 1 },
      destination: { ip: destinationIp, port: 25 },
    });
  }

  async route(from: string, changes: Partial<TransactionFacts> = {}): Promise<Decision> {
    return this.router.forTransaction({ ...routeFacts(from), ...changes });
  }

  spam(from: string): void {
    this.store.count(`mail_from:${from}`, { ...EMPTY_TALLY, spam: 100 }, 100);
  }

  outcome(sourceIp: string, answer: Answer, count = 1, provider = "google.com"): void {
    for (let i = 0; i < count; i += 1) {
      this.router.outcomes.emit(
        transaction({ from: "someone@example.com", answers: [answer], sourceIp, provider }),
      );
    }
  }
}
function first(decision: Decision): string | undefined {
  assert.equal(decision.kind, "ip");
  return decision.kind === "ip" ? decision.candidates[0]!.ip : undefined;
}

describe("the choice of the source IP", () => {
  it("lets a good and a bad sender leave from different pools, each with its EHLO name", async () => {
    const world = new World();
    world.spam("bad@example.com");
    const good = await world.route("good@example.com");
    const bad = await world.route("bad+tag@example.com");
    assert.deepEqual([good.rule, good.pool, good.tier], ["rest", "shared", "neutral"]);
    assert.deepEqual(
      [bad.rule, bad.pool, bad.tier, bad.sender],
      ["poor", "penalty", "poor", "mail_from:bad@example.com"],
    );
    assert.deepEqual(bad.kind === "ip" && bad.candidates, [{ ip: "203.0.113.66", ehlo: "bulk.example.net" }]);
  });
  it("refuses with the rule's own words, the first rule that matches", async () => {
    const world = new World();
    world.spam("x@spam.example");
    const decision = await world.route("x@spam.example");
    assert.equal(decision.kind === "reply" && decision.reply.text, "sender suspended");
    assert.equal(decision.rule, "hopeless");
  });
  it("uses IPv4 IPs for IPv4 destinations and IPv6 IPs for IPv6 ones", async () => {
    const world = new World();
    const to6 = { destination: { ip: "2001:db8:9::1", port: 25 } };
    assert.equal(first(await world.route("a@example.com", to6)), "2001:db8::10");
    const to4 = await world.route("a@example.com");
    assert.ok(to4.kind === "ip" && to4.candidates.every(({ ip }) => !ip!.includes(":")));
    world.spam("bad@example.com");
    assert.equal((await world.route("bad@example.com", to6)).kind, "none");
  });
  it("keeps a sender on its IP, and moves only those whose IP is gone", async () => {
    const world = new World();
    const senders = Array.from({ length: 200 }, (_, i) => `user${i}@example.com`);
    const before = await Promise.all(senders.map((sender) => world.route(sender)));
    world.router.unusable("203.0.113.10", "not_local");
    const after = await Promise.all(senders.map((sender) => world.route(sender)));
    let moved = 0;
    for (const [i, decision] of before.entries()) {
      if (first(decision) === "203.0.113.10") moved += 1;
      assert.equal(first(after[i]!), "203.0.113.11");
    }
    assert.ok(moved > 60 && moved < 140, `${moved}`);
    world.now += 30_000;
    assert.deepEqual(
      (await world.route(senders[0]!)).kind === "ip" && first(await world.route(senders[0]!)),
      first(before[0]!),
    );
  });
  it("does not mark an IP that ran out of ports", async () => {
    const world = new World();
    world.router.unusable("203.0.113.10", "no_port");
    const decision = await world.route("a@example.com");
    assert.equal(decision.kind === "ip" && decision.candidates.length, 2);
  });
  it("says which IPs could not be used and why where none is left", async () => {
    const world = new World();
    world.router.unusable("203.0.113.10", "not_local");
    world.router.unusable("203.0.113.11", "not_local");
    const decision = await world.route("a@example.com");
    assert.ok(decision.kind === "none");
    assert.deepEqual(
      decision.causes.map(({ cause }) => cause),
      ["not_local", "not_local", "family"],
    );
  });
});

describe("what must be known for a choice", () => {
  const needs = (match: RouterSettings["rules"][number]["match"]) =>
    new World({ rules: [{ name: "r", match, action: { kind: "pool", pool: "shared" } }] }).router.needs;
  it("is the sender where a rule looks at sender, domain, user, tier or provider", () => {
    const sender = { sender: true, recipient: false };
    assert.deepEqual(needs({ senderDomain: ["x"] }), sender);
    assert.deepEqual(needs({ sender: ["x"] }), sender);
    assert.deepEqual(needs({ authUser: ["x"] }), sender);
    assert.deepEqual(needs({ tier: ["poor"] }), sender);
    assert.deepEqual(needs({ provider: ["google.com"] }), sender);
    assert.deepEqual(needs({ recipientDomain: ["x"] }), { sender: false, recipient: true });
    assert.deepEqual(needs({ destination: [{ address: "192.0.2.0", prefix: 24 }] }), {
      sender: false,
      recipient: false,
    });
  });
  it("is the sender where a rule refuses, or a hook selects routes", () => {
    const reply = { code: 451, enhancedCode: "4.7.1", text: "later" };
    const world = new World({ rules: [{ name: "r", match: {}, action: { kind: "defer", reply } }] });
    assert.equal(world.router.needs.sender, true);
    const other = new World({ rules: [] });
    assert.deepEqual(other.router.needs, { sender: false, recipient: false });
    other.hook = true;
    assert.equal(other.router.needs.sender, true);
  });
  it("is the client's own address by default, and known at connect", () => {
    const world = new World({ rules: [] });
    const decision = world.connect();
    assert.deepEqual([decision.kind, decision.rule, decision.predicted], ["client", "default", false]);
  });
});

describe("at connect", () => {
  it("predicts what the client used last for this destination", async () => {
    const world = new World();
    world.spam("bad@example.com");
    assert.equal(world.connect().pool, "shared");
    const client = { ip: "198.51.100.1", port: 7 };
    const destination = { ip: "192.0.2.1", port: 25 };
    world.router.used(client, destination, await world.route("bad@example.com"));
    const predicted = world.connect();
    assert.deepEqual(
      [predicted.pool, predicted.predicted, first(predicted)],
      ["penalty", true, "203.0.113.66"],
    );
    assert.equal(world.connect("198.51.100.1", "192.0.2.2").pool, "shared");
    assert.equal(world.connect("198.51.100.9").pool, "shared");
  });
  it("does not predict what failed last", async () => {
    const world = new World();
    world.spam("bad@example.com");
    const client = { ip: "198.51.100.1", port: 7 };
    const destination = { ip: "192.0.2.1", port: 25 };
    world.router.used(client, destination, await world.route("bad@example.com"));
    world.router.failed(client, destination);
    assert.equal(world.connect().pool, "shared");
  });
  it("does not predict an IP that cools or is gone", async () => {
    const world = new World();
    world.spam("bad@example.com");
    world.router.used(
      { ip: "198.51.100.1", port: 7 },
      { ip: "192.0.2.1", port: 25 },
      await world.route("bad@example.com"),
    );
    world.router.unusable("203.0.113.66", "not_local");
    assert.equal(world.connect().pool, "shared");
  });
  it("takes any pool's IP where the likely one has none, since the sender's rule may name it", () => {
    const world = new World();
    world.router.unusable("203.0.113.10", "not_local");
    world.router.unusable("203.0.113.11", "not_local");
    assert.deepEqual([first(world.connect()), world.connect().predicted], ["203.0.113.66", true]);
    world.router.unusable("203.0.113.66", "not_local");
    assert.equal(world.connect().kind, "none");
  });
  it("never answers with a refusal", () => {
    const reply = { code: 550, enhancedCode: "5.7.1", text: "no" };
    const world = new World({ rules: [{ name: "r", match: {}, action: { kind: "reject", reply } }] });
    assert.equal(world.connect().kind, "client");
  });
  it("takes the outbound IP of the destination's family, and the system's choice for the other", () => {
    const world = new World({ rules: [], outboundIp: { ipv4: "203.0.113.5" } });
    assert.equal(first(world.connect()), "203.0.113.5");
    assert.equal(first(world.connect("198.51.100.1", "2001:db8::1")), undefined);
    world.router.unusable("203.0.113.5", "not_local");
    assert.equal(world.connect().kind, "none");
  });
});

describe("an IP that a provider throttles", () => {
  const THROTTLED = { code: 421, text: "4.7.28 unusual rate of unsolicited mail" };
  it("cools down for that provider alone, traffic shifts, and comes back", async () => {
    const world = new World();
    world.router.provider("192.0.2.1", Buffer.from("220 mx.google.com ESMTP"));
    world.router.provider("192.0.2.9", Buffer.from("220 mx.example.org ESMTP"));
    const [gmail, other] = [{}, { destination: { ip: "192.0.2.9", port: 25 } }];
    const senders = Array.from({ length: 50 }, (_, i) => `user${i}@example.com`);
    const used = async (changes: Partial<TransactionFacts>) =>
      new Set((await Promise.all(senders.map((sender) => world.route(sender, changes)))).map(first));
    assert.deepEqual(await used(gmail), new Set(["203.0.113.10", "203.0.113.11"]));
    world.outcome("203.0.113.10", THROTTLED, 3);
    assert.deepEqual(await used(gmail), new Set(["203.0.113.11"]));
    assert.deepEqual(await used(other), new Set(["203.0.113.10", "203.0.113.11"]));
    assert.equal(world.notices.length, 1);
    assert.deepEqual(
      [world.notices[0]!.code, world.notices[0]!.fields.state, world.notices[0]!.fields.provider],
      ["ip_state", "throttled", "google.com"],
    );
    world.now += 5 * 60_000;
    assert.deepEqual(await used(gmail), new Set(["203.0.113.10", "203.0.113.11"]));
  });
  it("is seen in a greeting that refuses, too", async () => {
    const world = new World();
    for (let i = 0; i < 3; i += 1) {
      world.router.outcomes.emit(
        connection("421 4.7.0 mx.example.org Error: too many connections", "203.0.113.10"),
      );
    }
    const view = world.router.throttle.view("203.0.113.10", "example.org", world.now);
    assert.equal(view.state, "throttled");
  });
  it("leaves nothing to send from where it is the only one", async () => {
    const world = new World();
    world.router.provider("192.0.2.1", Buffer.from("220 mx.google.com ESMTP"));
    world.spam("bad@example.com");
    world.outcome("203.0.113.66", { code: 550, text: "5.7.1 blocked using zen.spamhaus.org" }, 3);
    const decision = await world.route("bad@example.com");
    assert.ok(decision.kind === "none" && decision.causes[0]!.cause === "cooling");
  });
});

describe("caps", () => {
  it("of a day send what is over to the next IP, per provider, until midnight UTC", async () => {
    const pools = {
      capped: { ips: [{ ip: "203.0.113.1", dailyCap: 3, weight: 1000 }, { ip: "203.0.113.2" }] },
    };
    const world = new World({
      pools,
      rules: [{ name: "r", match: { tier: ["neutral"] }, action: { kind: "pool", pool: "capped" } }],
    });
    world.now = Date.UTC(2026, 2, 1, 12);
    world.router.provider("192.0.2.1", Buffer.from("220 mx.google.com ESMTP"));
    assert.equal(first(await world.route("a@example.com")), "203.0.113.1");
    world.outcome("203.0.113.1", { code: 250, text: "2.0.0 OK" }, 2);
    const left = {
      from: "a@example.com",
      answers: [{ code: 421, text: "4.3.2 closing" }],
      provider: "google.com",
    };
    world.router.outcomes.emit({ ...transaction({ ...left, sourceIp: "203.0.113.1" }), messageOctets: 0 });
    assert.equal(first(await world.route("a@example.com")), "203.0.113.1", "no message came to that 421");
    world.outcome("203.0.113.1", { code: 250, text: "2.0.0 OK" });
    assert.equal(first(await world.route("a@example.com")), "203.0.113.2");
    assert.equal(
      first(await world.route("a@example.com", { destination: { ip: "192.0.2.200", port: 25 } })),
      "203.0.113.1",
    );
    world.now = Date.UTC(2026, 2, 2, 0);
    assert.equal(first(await world.route("a@example.com")), "203.0.113.1");
  });
  it("of connections count open legs, per provider, and share among workers", async () => {
    const pools = { capped: { ips: [{ ip: "203.0.113.1" }], maxConnections: 4 } };
    const rules = [{ name: "r", match: {}, action: { kind: "pool", pool: "capped" } as const }];
    const world = new World({ pools, rules, workers: 2 });
    world.router.legOpened("203.0.113.1", "192.0.2.1");
    assert.equal(world.connect().kind, "ip");
    world.router.legOpened("203.0.113.1", "192.0.2.1");
    assert.equal(world.connect().kind, "none");
    assert.equal(world.connect("198.51.100.1", "198.51.100.77").kind, "ip");
    // A leg that the session has already is no new connection.
    const own = await world.route("a@example.com", { ownLegs: ["203.0.113.1"] });
    assert.equal(first(own), "203.0.113.1");
    assert.equal((await world.route("a@example.com")).kind, "none");
    // The provider gets its name while legs are open: they count under that one from there on.
    world.router.provider("192.0.2.1", Buffer.from("220 mx.google.com ESMTP"));
    const legs = (provider: string) => world.router.ips.connections("203.0.113.1", provider);
    assert.deepEqual([legs("192.0.2.0/24"), legs("google.com")], [0, 2]);
    assert.equal(world.connect().kind, "none");
    world.router.legClosed("203.0.113.1", "192.0.2.1");
    world.router.legClosed("203.0.113.1", "192.0.2.1");
    assert.deepEqual([legs("192.0.2.0/24"), legs("google.com")], [0, 0]);
    assert.equal(world.connect().kind, "ip");
  });
});

describe("a leg that the client never saw", () => {
  it("cools its IP down when the destination refuses it, and another IP of the pool is chosen", async () => {
    const pools = { two: { ips: [{ ip: "203.0.113.1" }, { ip: "203.0.113.2" }] } };
    const rules = [{ name: "r", match: {}, action: { kind: "pool", pool: "two" } as const }];
    const world = new World({ pools, rules });
    const chosen = first(await world.route("a@example.com")) as string;
    const reply = { code: 554, text: Buffer.from("554 5.7.1 blocked using zen.spamhaus.org") };
    for (let i = 0; i < 3; i++) world.router.legRefused(chosen, "192.0.2.1", reply);
    assert.match(world.notices.at(-1)?.text ?? "", /normal → blocked/);
    assert.notEqual(first(await world.route("a@example.com")), chosen);
  });
});

describe("SelectRoute", () => {
  it("may overrule the rules by a pool, by an IP of a pool, or by a refusal", async () => {
    const world = new World();
    world.hook = true;
    world.answer = { kind: "pool", hook: "h", pool: "penalty" };
    let decision = await world.route("a@example.com");
    assert.deepEqual([decision.rule, decision.pool, first(decision)], ["hook:h", "penalty", "203.0.113.66"]);
    world.answer = { kind: "source_ip", hook: "h", sourceIp: "203.0.113.10" };
    decision = await world.route("a@example.com");
    assert.deepEqual(decision.kind === "ip" && decision.candidates, [
      { ip: "203.0.113.10", ehlo: "out1.example.net" },
    ]);
    const reply = { code: 451, enhancedCode: "4.7.1", text: "not now" };
    world.answer = { kind: "refuse", hook: "h", reply };
    decision = await world.route("a@example.com");
    assert.ok(decision.kind === "reply" && decision.reply.origin === "hook" && decision.reply.hook === "h");
    assert.deepEqual(new Set(world.asked), new Set(["mail_from:a@example.com"]));
  });
  it("leaves it to the rules where it says nothing, or what cannot be", async () => {
    const world = new World();
    world.hook = true;
    const cases: (RouteAnswer | undefined)[] = [
      undefined,
      { kind: "pool", hook: "h", pool: "nowhere" },
      { kind: "source_ip", hook: "h", sourceIp: "198.51.100.200" },
      { kind: "source_ip", hook: "h", sourceIp: "2001:db8::10" },
    ];
    for (const answer of cases) {
      world.answer = answer;
      assert.equal((await world.route("a@example.com")).rule, "rest");
    }
  });
  it("is not asked where a rule refuses", async () => {
    const world = new World();
    world.hook = true;
    world.spam("x@spam.example");
    assert.equal((await world.route("x@spam.example")).kind, "reply");
    assert.deepEqual(world.asked, []);
  });
});

describe("a rule", () => {
  const matches = async (
    match: RouterSettings["rules"][number]["match"],
    changes: Partial<TransactionFacts> = {},
  ) => {
    const world = new World({ rules: [{ name: "r", match, action: { kind: "source", source: "system" } }] });
    return (await world.route("alice@mail.example.com", changes)).rule === "r";
  };
  it("joins values by «or» and keys by «and»", async () => {
    assert.equal(await matches({ senderDomain: ["other.example", "*.EXAMPLE.com"] }), true);
    assert.equal(await matches({ senderDomain: ["*.example.com"], sender: ["bob@*"] }), false);
    assert.equal(await matches({ sender: ["alice@*"], tier: ["neutral", "good"] }), true);
    assert.equal(await matches({ senderDomain: ["example.com"] }), false);
  });
  it("matches networks of client and destination, self, user and recipient", async () => {
    assert.equal(await matches({ client: { networks: [{ address: "198.51.100.0", prefix: 24 }] } }), true);
    assert.equal(await matches({ client: { self: true, networks: [] } }), true);
    const stranger = { client: { ip: "198.51.100.2", port: 1 } };
    assert.equal(await matches({ client: { self: true, networks: [] } }, stranger), false);
    assert.equal(await matches({ destination: [{ address: "192.0.2.0", prefix: 31 }] }), true);
    assert.equal(await matches({ destination: [{ address: "2001:db8::", prefix: 32 }] }), false);
    assert.equal(await matches({ authUser: ["*"] }), false);
    assert.equal(await matches({ authUser: ["al*"] }, { authUser: "Alice" }), true);
    const recipient = { address: "bob@bank.example", raw: Buffer.alloc(0) };
    assert.equal(await matches({ recipientDomain: ["bank.example"] }, { recipient }), true);
    assert.equal(await matches({ recipientDomain: ["bank.example"] }), false);
  });
  it("knows the null sender as <>", async () => {
    const world = new World({
      rules: [{ name: "r", match: { sender: ["<>"] }, action: { kind: "source", source: "system" } }],
    });
    assert.equal((await world.route("")).rule, "r");
    assert.equal((await world.route("a@b")).rule, "default");
  });
});

describe("a leg that is there", () => {
  it("fits where IP and EHLO name are the first choice's", async () => {
    const world = new World();
    const decision = await world.route("a@example.com");
    assert.ok(decision.kind === "ip");
    const [candidate, second] = decision.candidates;
    assert.equal(legFits(decision, { kind: "ip", candidate: candidate! }), true);
    assert.equal(legFits(decision, { kind: "ip", candidate: second! }), false);
    assert.equal(legFits(decision, { kind: "ip", candidate: { ...candidate!, ehlo: "other" } }), false);
    assert.equal(legFits(decision, { kind: "client" }), false);
  });
});
