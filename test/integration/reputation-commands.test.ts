// `warp classify`, `warp reputation` and `warp egress explain`, as a person runs them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { noTelemetry } from "../../src/events/telemetry.ts";
import { EMPTY_TALLY } from "../../src/reputation/counts.ts";
import { RedisIpLedger } from "../../src/stores/ip-ledger-redis.ts";
import { redisClient } from "../../src/stores/redis-connection.ts";
import { MemoryReputationStore } from "../../src/stores/reputation-memory.ts";
import { RedisReputationStore } from "../../src/stores/reputation-redis.ts";
import { needsRedis, RedisServer } from "./redis-server.ts";
import { settingsWith } from "./reputation-settings.ts";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const SETTINGS = settingsWith([3_600_000, 86_400_000]);

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
function warp(...argv: string[]): Run {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...argv], { encoding: "utf8" });
  return { status, stdout, stderr };
}

const ROUTES = `
pools:
  shared: { ips: [{ ip: 203.0.113.10, ehlo: out1.example.net }, { ip: 203.0.113.11, weight: 3 }, "2001:db8::10"] }
  penalty: { ips: [{ ip: 203.0.113.66, ehlo: bulk.example.net, daily_cap: 3 }] }
rules:
  - { name: blocked, match: { tier: poor, sender_domain: [spam.example] }, reject: "550 5.7.1 sender suspended" }
  - { name: poor, match: { tier: poor }, pool: penalty }
  - { name: partner, match: { client: 198.51.100.0/24, recipient_domain: bank.example }, source: system }
  - { name: rest, pool: shared }
`;

describe("warp classify", () => {
  it("says class, meaning and rule, to a person and to a program", () => {
    const run = warp("classify", "421 4.7.28 Our system has detected an unusual rate of unsolicited mail");
    assert.equal(run.status, 0);
    assert.match(run.stdout, /^throttled-rate: .*\(rule rate\)\n/);
    const json = warp(
      "classify",
      "--json",
      "--provider",
      "qq.com",
      "550",
      "Mailbox unavailable or access denied",
    );
    assert.deepEqual(JSON.parse(json.stdout), {
      class: "mailbox-full",
      detail: "QQ: this recipient receives too much at the moment",
      rule: "qq-recipient-busy",
      code: 550,
      enhanced_code: "",
    });
  });
  it("is used wrongly without a code", () => {
    const run = warp("classify", "hello");
    assert.equal(run.status, 2);
    assert.match(run.stderr, /"hello" has no reply code/);
  });
});

describe("warp reputation and warp egress without Redis", () => {
  let directory = "";
  let config = "";
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "warp-cli-"));
    config = join(directory, "warp.yaml");
    const stateFile = join(directory, "reputation.json");
    await writeFile(config, `reputation: { state_file: ${stateFile} }\n${ROUTES}`);
    const store = new MemoryReputationStore({ settings: SETTINGS, now: Date.now, stateFile });
    await store.open();
    store.count("mail_from:bad@example.com", { ...EMPTY_TALLY, spam: 100 }, 100);
    store.count("mail_from:good@example.com", { ...EMPTY_TALLY, ok: 100 }, 100);
    await store.close();
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it("show a sender by its address, however it is written", () => {
    const run = warp("reputation", "show", "bad+x@Example.com", "--config", config);
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /^mail_from:bad@example\.com \(.*reputation\.json, \d+ s old\)\n/);
    assert.match(run.stdout, /tier +poor, since /);
    const json = JSON.parse(
      warp("reputation", "show", "mail_from:bad@example.com", "--json", "--config", config).stdout,
    );
    assert.equal(json.tier, "poor");
    assert.equal(json.recipients, 100);
    assert.equal(json.counts.length, 2);
  });
  it("list the worst first", () => {
    const run = warp("reputation", "top", "--limit", "5", "--config", config);
    assert.deepEqual(
      run.stdout
        .split("\n")
        .filter(Boolean)
        .map((line) => line.split(/ +/).at(-1)),
      ["mail_from:bad@example.com", "mail_from:good@example.com"],
    );
  });
  it("pin, correct and forget, for the proxy to take", () => {
    warp("reputation", "set", "bad@example.com", "--tier", "good", "--config", config);
    let run = warp("reputation", "show", "bad@example.com", "--config", config);
    assert.match(run.stdout, /tier +good, set by hand/);
    run = warp(
      "reputation",
      "set",
      "bad@example.com",
      "--unpin",
      "--spam",
      "0",
      "--ok",
      "50",
      "--config",
      config,
    );
    assert.match(run.stdout, /tier +good, since/);
    run = warp("reputation", "reset", "bad@example.com", "--config", config);
    assert.equal(run.stdout, "mail_from:bad@example.com is forgotten\n");
    run = warp("reputation", "show", "bad@example.com", "--config", config);
    assert.match(run.stdout, /nothing is known/);
  });
  it("say how they are used", async () => {
    const tuple = join(directory, "tuple.yaml");
    await writeFile(
      tuple,
      `reputation: { identity: [mail_from, client], state_file: ${join(directory, "tuple.json")} }\n`,
    );
    const cases: readonly [argv: string[], stderr: RegExp, status: number][] = [
      [["set", "a@b", "--config", config], /set needs --tier, --unpin or a counter/, 2],
      [["show", "--config", config], /show needs a SENDER/, 2],
      [["set", "a@b", "--tier", "pore", "--config", config], /should be neutral, poor, good/, 2],
      [["top", "--tier", "poor", "--config", config], /--tier is for set/, 2],
      [["show", "a@b", "--config", tuple], /should be an identity .* mail_from\+client:MAIL_FROM\|CLIENT/, 2],
      [["set", "192.0.2.1", "--tier", "poor", "--config", tuple], /SENDER was "192\.0\.2\.1"/, 2],
      [["show", "a@b"], /in the proxy's memory alone; set redis or reputation\.state_file/, 1],
    ];
    for (const [argv, stderr, status] of cases) {
      const run = warp("reputation", ...argv);
      assert.match(run.stderr, stderr);
      assert.equal(run.status, status);
    }
    const named = warp("reputation", "show", "mail_from+client:a@b|192.0.2.1", "--config", tuple);
    assert.match(named.stdout, /^mail_from\+client:a@b\|192\.0\.2\.1 /);
    const explained = warp("egress", "explain", "--from", "a@b", "--tier", "pore", "--config", config);
    assert.match(explained.stderr, /--tier was "pore", should be neutral, poor, good/);
    assert.equal(explained.status, 2);
  });
  it("explain which rule, tier, pool and IP, and why", () => {
    const explain = (...argv: string[]) => warp("egress", "explain", ...argv, "--config", config);
    let run = explain("--from", "good@example.com", "--to", "bob@example.org", "--destination", "192.0.2.1");
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /^sender +mail_from:good@example\.com: tier good, score 0\.9/);
    assert.match(run.stdout, /^provider +192\.0\.2\.0\/24$/m);
    assert.match(run.stdout, /^rule +poor: no, tier differs$/m);
    assert.match(run.stdout, /^rule +rest: matches everything$/m);
    assert.match(run.stdout, /^decision +pool shared: 203\.0\.113\.1[01]$/m);
    assert.match(run.stdout, /2001:db8::10, weight 1: not used: of the other IP family/);
    assert.doesNotMatch(run.stdout, /^note/m);
    run = explain("--from", "good@example.com", "--auth-user", "alice");
    assert.match(run.stdout, /^note +a login pins its leg: .* next connection is dialled$/m);
    run = explain("--from", "x@spam.example", "--tier", "poor");
    assert.match(run.stdout, /^decision +550 5\.7\.1 sender suspended$/m);
    run = explain("--from", "<>", "--to", "a@bank.example", "--client", "198.51.100.7");
    assert.match(run.stdout, /^rule +partner: client, recipient_domain match$/m);
    assert.match(run.stdout, /^decision +the system's choice$/m);
    run = explain("--from", "x@example.com", "--tier", "poor", "--destination", "2001:db8:7::1", "--json");
    assert.equal(run.status, 1);
    const json = JSON.parse(run.stdout);
    assert.deepEqual([json.kind, json.pool, json.provider], ["none", "penalty", "2001:db8:7::/48"]);
    run = explain("--to", "a@b");
    assert.equal(run.status, 2);
  });
});

describe("warp reputation and warp egress with Redis", needsRedis, () => {
  let server: RedisServer;
  let directory = "";
  let config = "";
  before(async () => {
    server = await RedisServer.start();
    directory = await mkdtemp(join(tmpdir(), "warp-cli-"));
    config = join(directory, "warp.yaml");
    await writeFile(config, `redis: { url: "${server.url}" }\n${ROUTES}`);
  });
  after(async () => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  });

  it("see what the proxies wrote: counters, a cooling IP, a day's cap", async () => {
    const client = redisClient({ url: server.url }, "warp-test");
    const store = new RedisReputationStore({
      client,
      settings: SETTINGS,
      prefix: "warp:1:",
      budgetMs: 50,
      epoch: "01CLI",
      worker: 0,
      telemetry: noTelemetry,
      now: Date.now,
    });
    store.open();
    await store.ready(5_000);
    store.count("mail_from:bad@example.com", { ...EMPTY_TALLY, spam: 100 }, 100);
    const ledger = new RedisIpLedger({ client, prefix: "warp:1:", now: Date.now });
    const change = { ip: "203.0.113.11", provider: "google.com", from: "normal", at: Date.now() } as const;
    ledger.shareState({ ...change, state: "throttled", until: Date.now() + 60_000, why: "3 in a row" });
    const today = new Date().toISOString().slice(0, 10).replaceAll("-", "");
    ledger.countMessages("203.0.113.66", "google.com", today, 3);
    await ledger.close();
    await store.close();
    const top = warp("reputation", "top", "--json", "--config", config);
    assert.equal(JSON.parse(top.stdout).identity, "mail_from:bad@example.com");
    const run = warp(
      "egress",
      "explain",
      "--from",
      "a@example.com",
      "--provider",
      "google.com",
      "--destination",
      "192.0.2.1",
      "--config",
      config,
    );
    assert.match(
      run.stdout,
      /203\.0\.113\.11, weight 3: not used: cooling down for this provider, throttled \(3 in a row\)/,
    );
    assert.match(run.stdout, /^decision +pool shared: 203\.0\.113\.10$/m);
    const poor = ["egress", "explain", "--from", "bad@example.com", "--config", config];
    assert.match(warp(...poor).stdout, /^decision +pool penalty: 203\.0\.113\.66$/m);
    const capped = warp(...poor, "--provider", "google.com");
    assert.match(
      capped.stdout,
      /203\.0\.113\.66 as bulk\.example\.net, weight 1: not used: its cap is reached/,
    );
    assert.equal(capped.status, 1);
  });
  it("say that Redis cannot be reached", async () => {
    await server.kill();
    const run = warp("reputation", "show", "a@b", "--config", config);
    assert.equal(run.status, 1);
    assert.match(run.stderr, /Redis cannot be reached: connect ECONNREFUSED/);
    await server.run();
  });
});
