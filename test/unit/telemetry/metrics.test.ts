import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Registry } from "prom-client";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { Busiest } from "../../../src/telemetry/busiest.ts";
import { Counter, Gauge, Histogram } from "../../../src/telemetry/cells.ts";
import { Log } from "../../../src/telemetry/log.ts";
import { Metrics, mergedMetrics } from "../../../src/telemetry/metrics.ts";
import { makeTelemetry } from "../../../src/telemetry/telemetry.ts";
import fc from "../../support/property.ts";
import { conn, Lines, recipient, reply, session, transaction } from "./events.ts";

function metrics(): Metrics {
  return new Metrics({ version: "1.2.3", withProcess: false });
}
/** Lines of the exposition that aren't comments. */
function samples(text: string): string[] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}
async function sample(from: Metrics, name: string): Promise<string | undefined> {
  return samples(await from.text())
    .find((line) => line.startsWith(`${name} `))
    ?.split(" ")
    .at(-1);
}

/** Names and labels that dashboards rely on. */
const NAMES: Record<string, string[]> = {
  warp_sessions_active: [],
  warp_sessions_total: ["result"],
  warp_session_duration_seconds: [],
  warp_legs_active: [],
  warp_legs_total: ["reason", "result"],
  warp_legs_unused_total: [],
  warp_dial_seconds: ["family"],
  warp_source_ip_unusable_total: ["ip", "cause"],
  warp_transactions_total: ["outcome"],
  warp_replies_total: ["stage", "class", "origin", "provider"],
  warp_stage_seconds: ["stage", "provider"],
  warp_message_octets: [],
  warp_octets_total: ["direction"],
  warp_own_replies_total: ["code", "reason"],
  warp_tls_handshakes_total: ["side", "policy", "version", "result"],
  warp_protocol_violations_total: ["side", "kind"],
  warp_hook_up: ["hook"],
  warp_hook_verdicts_total: ["hook", "verdict", "shadow"],
  warp_hook_failures_total: ["hook", "cause", "applied"],
  warp_hook_seconds: ["hook"],
  warp_held_octets: ["where"],
  warp_held_wait_seconds: [],
  warp_events_total: ["kind"],
  warp_events_unacked: ["hook"],
  warp_events_oldest_unacked_seconds: ["hook"],
  warp_events_dropped_total: ["hook"],
  warp_journal_octets: [],
  warp_redis_up: [],
  warp_redis_seconds: [],
  warp_redis_fallbacks_total: ["cause"],
  warp_redis_pending_writes: [],
  warp_redis_lost_writes_total: [],
  warp_route_choices_total: ["rule", "pool", "tier"],
  warp_ip_state: ["ip", "provider"],
  warp_workers: [],
  warp_workers_configured: [],
  warp_config_reloads_total: ["result"],
  warp_build_info: ["version"],
};

/** Each method of the layers' telemetry, and the samples that it makes. */
const TOLD: [what: string, tell: (from: Metrics) => void, expected: Record<string, string>][] = [
  ["an open session", (m) => m.sessionOpened(), { warp_sessions_active: "1" }],
  [
    "a closed session",
    (m) => {
      m.sessionOpened();
      m.sessionClosed("served", 30);
    },
    {
      warp_sessions_active: "0",
      'warp_sessions_total{result="served"}': "1",
      'warp_session_duration_seconds_bucket{le="0.025"}': "0",
      'warp_session_duration_seconds_bucket{le="0.05"}': "1",
      'warp_session_duration_seconds_bucket{le="+Inf"}': "1",
      warp_session_duration_seconds_sum: "0.03",
      warp_session_duration_seconds_count: "1",
    },
  ],
  [
    "a refused one",
    (m) => m.sessionRefused("refused_client"),
    { 'warp_sessions_total{result="refused_client"}': "1", warp_sessions_active: "0" },
  ],
  [
    "legs",
    (m) => {
      m.legDialled("connect", "connected");
      m.legDialled("connect", "refused");
      m.legDialled("tls_fallback", "connected");
      m.legClosed(false);
    },
    {
      'warp_legs_total{reason="connect",result="connected"}': "1",
      'warp_legs_total{reason="connect",result="refused"}': "1",
      'warp_legs_total{reason="tls_fallback",result="connected"}': "1",
      warp_legs_active: "1",
      warp_legs_unused_total: "1",
    },
  ],
  ["a dial", (m) => m.dialled(6, 1000), { 'warp_dial_seconds_sum{family="6"}': "1" }],
  [
    "a useless source",
    (m) => m.sourceIpUnusable("192.0.2.1", "no_port"),
    { 'warp_source_ip_unusable_total{ip="192.0.2.1",cause="no_port"}': "1" },
  ],
  ["octets", (m) => m.octets("in", 5), { 'warp_octets_total{direction="in"}': "5" }],
  [
    "an own reply",
    (m) => m.ownReply(421, "dial_failed"),
    { 'warp_own_replies_total{code="421",reason="dial_failed"}': "1" },
  ],
  [
    "a handshake",
    (m) => m.tlsHandshake("upstream", "may", "TLSv1.3", "ok"),
    { 'warp_tls_handshakes_total{side="upstream",policy="may",version="TLSv1.3",result="ok"}': "1" },
  ],
  [
    "a violation",
    (m) => m.violation("downstream", "bare_newline"),
    { 'warp_protocol_violations_total{side="downstream",kind="bare_newline"}': "1" },
  ],
  ["a hook", (m) => m.hookUp("a", true), { 'warp_hook_up{hook="a"}': "1" }],
  [
    "a verdict",
    (m) => m.hookVerdict("a", "relay", true, 20),
    {
      'warp_hook_verdicts_total{hook="a",verdict="relay",shadow="true"}': "1",
      'warp_hook_seconds_count{hook="a"}': "1",
    },
  ],
  [
    "a hook's failure",
    (m) => m.hookFailure("a", "deadline", "tempfail"),
    { 'warp_hook_failures_total{hook="a",cause="deadline",applied="tempfail"}': "1" },
  ],
  ["held octets", (m) => m.heldOctets("spool", 9), { 'warp_held_octets{where="spool"}': "9" }],
  ["a wait for room", (m) => m.heldWait(500), { warp_held_wait_seconds_sum: "0.5" }],
  ["events", (m) => m.events("after_comm", 3), { 'warp_events_total{kind="after_comm"}': "3" }],
  [
    "unacknowledged events",
    (m) => m.eventsUnacked("a", 4, 2500),
    { 'warp_events_unacked{hook="a"}': "4", 'warp_events_oldest_unacked_seconds{hook="a"}': "2.5" },
  ],
  ["dropped events", (m) => m.eventsDropped("a", 2), { 'warp_events_dropped_total{hook="a"}': "2" }],
  ["the journal", (m) => m.journalOctets(77), { warp_journal_octets: "77" }],
  ["Redis", (m) => m.redisUp(true), { warp_redis_up: "1" }],
  ["a call of Redis", (m) => m.redisCall(4), { 'warp_redis_seconds_bucket{le="0.005"}': "1" }],
  ["a fallback", (m) => m.redisFallback("slow"), { 'warp_redis_fallbacks_total{cause="slow"}': "1" }],
  ["waiting writes", (m) => m.redisPendingWrites(6), { warp_redis_pending_writes: "6" }],
  ["lost writes", (m) => m.redisLostWrites(2), { warp_redis_lost_writes_total: "2" }],
  [
    "a choice",
    (m) => m.routeChoice("poor", "penalty", "poor"),
    { 'warp_route_choices_total{rule="poor",pool="penalty",tier="poor"}': "1" },
  ],
  ["the workers", (m) => m.workers(3, 4), { warp_workers: "3", warp_workers_configured: "4" }],
  ["a reload", (m) => m.configReload("failed"), { 'warp_config_reloads_total{result="failed"}': "1" }],
  ["the version", () => {}, { 'warp_build_info{version="1.2.3"}': "1" }],
];

describe("the metrics", () => {
  it("have exactly the names and labels that dashboards rely on", () => {
    const found = Object.fromEntries(
      metrics()
        .registry.getMetricsAsArray()
        .map((metric) => [metric.name, (metric as unknown as { labels: string[] }).labels]),
    );
    assert.deepEqual(found, NAMES);
  });

  for (const [what, tell, expected] of TOLD) {
    it(`count ${what}`, async () => {
      const worker = metrics();
      tell(worker);
      for (const [name, value] of Object.entries(expected))
        assert.equal(await sample(worker, name), value, name);
    });
  }

  it("with the process's own beside them", async () => {
    const worker = new Metrics({ version: "1" });
    assert.notEqual(await sample(worker, "process_resident_memory_bytes"), undefined);
  });

  it("are what the layers' telemetry tells, method by method", async () => {
    const worker = metrics();
    const telemetry = makeTelemetry(
      new Log({ level: "silent", format: "json", destination: new Lines() }),
      worker,
    );
    assert.deepEqual(Object.keys(telemetry).sort(), Object.keys(noTelemetry).sort());
    telemetry.sessionOpened();
    assert.equal(await sample(worker, "warp_sessions_active"), "1");
  });
});

describe("metrics of mail", () => {
  it("count outcome, replies of every stage and their times", async () => {
    const worker = metrics();
    worker.sink.emit(
      transaction({
        session: session({ provider: "example.org" }),
        recipients: [
          recipient("a@example.org", reply("250 ok")),
          recipient("b@example.org", reply("550 no"), reply("550 no", { replyClass: "unknown-recipient" })),
        ],
        finalReply: reply("250 2.0.0 queued", { replyClass: "accepted" }),
      }),
    );
    const labels = (stage: string, rest: string) => `{stage="${stage}",${rest}provider="example.org"}`;
    const replies = (stage: string, kind: string) =>
      `warp_replies_total${labels(stage, `class="${kind}",origin="upstream",`)}`;
    assert.equal(await sample(worker, 'warp_transactions_total{outcome="accepted"}'), "1");
    assert.equal(await sample(worker, replies("mail", "accepted")), "1");
    assert.equal(await sample(worker, replies("rcpt", "accepted")), "1");
    assert.equal(await sample(worker, replies("rcpt", "unknown-recipient")), "1");
    assert.equal(await sample(worker, replies("data", "accepted")), "1");
    assert.equal(await sample(worker, replies("end_of_data", "accepted")), "1");
    assert.equal(await sample(worker, `warp_stage_seconds_sum${labels("end_of_data", "")}`), "0.4");
    assert.equal(await sample(worker, `warp_stage_seconds_count${labels("tls", "")}`), undefined);
    assert.equal(await sample(worker, 'warp_message_octets_bucket{le="1024"}'), "1");
  });

  it("count a connection's stages once, however many transactions it has", async () => {
    const worker = metrics();
    const connects = () => sample(worker, 'warp_stage_seconds_count{stage="connect",provider="other"}');
    for (let index = 0; index < 3; index++) worker.sink.emit(transaction());
    assert.equal(await connects(), "1");
    assert.equal(await sample(worker, 'warp_stage_seconds_count{stage="mail",provider="other"}'), "3");
    worker.sink.emit(conn());
    worker.sink.emit(transaction());
    assert.equal(await connects(), "2");
  });

  it("name at most 50 providers, whatever destinations there are", async () => {
    const worker = metrics();
    for (let index = 0; index < 5000; index++) {
      worker.sink.emit(transaction({ session: session({ provider: `p${index % 500}.example` }) }));
    }
    const providers = new Set(
      samples(await worker.text()).flatMap((line) => /provider="([^"]*)"/.exec(line)?.[1] ?? []),
    );
    assert.equal(providers.size, 51);
    assert.ok(providers.has("other"));
  });

  it("let a busy newcomer take the place of a quiet provider", async () => {
    const worker = metrics();
    for (let index = 0; index < 50; index++)
      worker.sink.emit(transaction({ session: session({ provider: `p${index}.example` }) }));
    for (let index = 0; index < 30; index++)
      worker.sink.emit(transaction({ session: session({ provider: "big.example" }) }));
    const text = await worker.text();
    assert.match(text, /provider="big\.example"/);
    assert.equal(
      new Set([...text.matchAll(/provider="(p\d+\.example)"/g)].map((match) => match[1])).size,
      49,
    );
  });

  it("ask for ends only, so that lines need not be made for them", () => {
    const { sink } = metrics();
    assert.deepEqual(
      (["after_comm", "after_transaction", "after_conn", "notice"] as const).map((kind) => sink.wants(kind)),
      [false, true, true, false],
    );
  });
});

describe("the state of source IPs", () => {
  it("is shown per provider, and the worst of those without a place", async () => {
    const worker = metrics();
    worker.mail.provider.label("big.example");
    worker.ipState("192.0.2.1", "big.example", 2, 0);
    worker.ipState("192.0.2.1", "small.example", 1, 0);
    worker.ipState("192.0.2.1", "tiny.example", 3, 0);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="big.example"}'), "2");
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'), "3");
    worker.ipState("192.0.2.1", "tiny.example", 0, 0);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'), "1");
    worker.ipState("192.0.2.1", "big.example", 0, 0);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="big.example"}'), "0");
  });

  it("goes with a provider that gets a place or loses it", async () => {
    const worker = metrics();
    const use = (provider: string, times: number) => {
      for (let i = 0; i < times; i++) worker.mail.provider.label(provider);
    };
    worker.ipState("192.0.2.1", "big.example", 3, 0);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'), "3");
    use("big.example", 1);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="big.example"}'), "3");
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'), undefined);
    for (let i = 0; i < 49; i++) use(`p${i}.example`, 5);
    use("newcomer.example", 20);
    worker.ipState("192.0.2.1", "big.example", 0, 0);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="big.example"}'), undefined);
    assert.equal(await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'), "0");
  });

  it("is over by the clock, also where no mail asks for the IP any more", async () => {
    let now = 0;
    const worker = new Metrics({ version: "1.2.3", withProcess: false, now: () => now });
    worker.ipState("192.0.2.1", "a.example", 3, 1000);
    worker.ipState("192.0.2.2", "a.example", 1, 1000);
    const values = async () => [
      await sample(worker, 'warp_ip_state{ip="192.0.2.1",provider="other"}'),
      await sample(worker, 'warp_ip_state{ip="192.0.2.2",provider="other"}'),
    ];
    assert.deepEqual(await values(), ["3", "1"]);
    now = 1000;
    assert.deepEqual(await values(), ["1", "0"]);
  });
});

describe("metrics of several workers", () => {
  it("are added up; states are the worst, ages the highest", async () => {
    const one = metrics();
    const two = metrics();
    for (const worker of [one, two]) {
      worker.sessionOpened();
      worker.sessionClosed("served", 30);
      worker.sessionOpened();
    }
    one.hookUp("a", true);
    two.hookUp("a", false);
    one.eventsUnacked("a", 1, 1000);
    two.eventsUnacked("a", 2, 9000);
    one.workers(2, 2);
    const text = await mergedMetrics([await one.export(), await two.export()]);
    for (const line of [
      "warp_sessions_active 2",
      'warp_sessions_total{result="served"} 2',
      'warp_session_duration_seconds_bucket{le="0.05"} 2',
      "warp_session_duration_seconds_count 2",
      'warp_hook_up{hook="a"} 0',
      'warp_events_unacked{hook="a"} 3',
      'warp_events_oldest_unacked_seconds{hook="a"} 9',
      "warp_workers 2",
      'warp_build_info{version="1.2.3"} 1',
    ]) {
      assert.ok(text.includes(`${line}\n`), line);
    }
  });

  it("show the lag of the busiest, whom idle ones would hide in an average", async () => {
    const name = "nodejs_eventloop_lag_p99_seconds";
    const lagOf = async (value: number) => {
      const exported = await new Metrics({ version: "1" }).export();
      return exported
        .filter((metric) => metric.name === name)
        .map((metric) => ({ ...metric, values: [{ labels: {}, value }] }));
    };
    const text = await mergedMetrics([await lagOf(0.4), await lagOf(0), await lagOf(0)]);
    assert.ok(text.includes(`${name} 0.4\n`), text);
  });

  it("survive the way from worker to primary as JSON", async () => {
    const worker = metrics();
    worker.octets("in", 5);
    const sent = JSON.parse(JSON.stringify(await worker.export())) as Awaited<ReturnType<Metrics["export"]>>;
    assert.ok((await mergedMetrics([sent])).includes('warp_octets_total{direction="in"} 5\n'));
  });
});

describe("cells", () => {
  it("bound the label sets of a metric", async () => {
    const registry = new Registry();
    const counter = new Counter(registry, { name: "c", help: "c", labels: ["a", "b"], maxCells: 3 });
    for (let index = 0; index < 100; index++) counter.cell(String(index), "x").value++;
    const { values } = await counter.get();
    assert.equal(values.length, 4);
    assert.deepEqual(values.at(-1), { labels: { a: "other", b: "other" }, value: 97 });
  });

  it("count every observation in one bucket, and all of them in the sum", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 20 })), async (numbers) => {
        const histogram = new Histogram(new Registry(), { name: "h", help: "h" }, [1, 5, 10]);
        for (const number of numbers) histogram.cell().observe(number);
        const { values } = await histogram.get();
        const bucket = (le: unknown) => values.find((value) => value.labels.le === le)?.value ?? 0;
        for (const le of [1, 5, 10])
          assert.equal(bucket(le), numbers.filter((number) => number <= le).length);
        assert.equal(bucket("+Inf"), numbers.length);
        if (numbers.length > 0) {
          assert.equal(
            values.at(-2)!.value,
            numbers.reduce((sum, number) => sum + number, 0),
          );
          assert.equal(values.at(-1)!.value, numbers.length);
        }
      }),
    );
  });

  it("escape label values in the exposition", async () => {
    const registry = new Registry();
    new Gauge(registry, { name: "g", help: "g", labels: ["a"] }).cell('x"\n\\').value = 1;
    assert.ok((await registry.metrics()).includes('g{a="x\\"\\n\\\\"} 1'));
  });
});

describe("the busiest", () => {
  it("are never more than their slots, whatever comes", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 2000 }), (values) => {
        const places = new Set<string>();
        const busiest = new Busiest(5, (lost) => places.delete(lost));
        for (const value of values) {
          const label = busiest.label(`v${value}`);
          if (label !== "other") places.add(label);
          assert.ok(places.size <= 5);
        }
      }),
    );
  });

  it("give no place to nothing", () => {
    const busiest = new Busiest(5, () => {});
    assert.deepEqual(
      [busiest.label(""), busiest.label("other"), busiest.peek("x")],
      ["other", "other", "other"],
    );
  });
});
