import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parse as parseYaml } from "yaml";
import { parseConfig, pathText } from "../../../src/config/parse.ts";
import { everyKey } from "../../../src/config/reference.ts";
import { type Config, configSchema } from "../../../src/config/schema.ts";
import fc from "../../support/property.ts";

const HOST = { hostname: "mx-test" };

function configOf(yaml: string): Config {
  const result = parseConfig(parseYaml(yaml), HOST);
  assert.ok(result.config !== undefined, JSON.stringify(result));
  return result.config;
}
/** "path text" of every error. */
function problemsOf(yaml: string): string[] {
  const result = parseConfig(parseYaml(yaml), HOST);
  assert.equal(result.config, undefined, "the configuration was taken");
  const errors = result.problems!.filter((problem) => problem.isWarning !== true);
  return errors.map(({ path, text }) => `${pathText(path)} ${text}`);
}
function warningsOf(yaml: string): string[] {
  const result = parseConfig(parseYaml(yaml), HOST);
  assert.ok(result.config !== undefined, JSON.stringify(result));
  return result.warnings.map(({ path, text }) => `${pathText(path)} ${text}`);
}

const EXAMPLE = `
proxy: mx-out-1
listen: ["127.0.0.1:10025", "[::1]:10025"]
workers: 1
capture: { mode: redirect, mark: 0x77, ports: [25], opaque_ports: refuse }
clients: [self, 10.0.0.0/8]
destinations: { deny_self: true, deny: [10.0.0.0/8] }
downstream_tls: { cert: /etc/warp/tls.crt, key: /etc/warp/tls.key, min_version: TLSv1.2 }
tls:
  - { match: { destination: 198.51.100.0/24 }, policy: verify, names: [mx.partner.example], ca: /etc/warp/partner.pem }
  - { match: { recipient_domain: [bank.example, "*.bank.example"] }, policy: encrypt }
  - { policy: may }
hooks:
  - name: rspamd
    address: unix:/run/warp/rspamd.sock
    roles: [filter]
    deadline: 10s
    on_failure: tempfail
    enforce: true
    when: { sender_domain: ["*"], min_octets: 0, share: 25% }
  - { name: audit, address: "audit.example:7443", roles: [observe], tls: { ca: /a, cert: /b, key: /c }, events: [after_transaction, after_conn] }
filter: { hold_memory: 1MiB, hold_total: 256MiB, spool: /var/lib/warp/spool, chain_budget: 120s, discard: false }
journal: { dir: /var/lib/warp/journal, max_size: 2GiB, fsync: 1s }
redis: { url: "redis://127.0.0.1:6379/0", prefix: "warp:1:", budget: 50ms }
plugins: [sqlite, file]
reputation: { identity: mail_from, strip: [plus, batv, srs], half_lives: [1h, 1d], state_file: /var/lib/warp/reputation.json, tiers: { poor: { enter: 0.35, leave: 0.5 }, good: { enter: 0.85, leave: 0.75 } }, dwell: 10m }
pools:
  shared: { ips: [{ ip: 203.0.113.10, ehlo: out1.example.net }, { ip: "2001:db8::10", ehlo: out1.example.net }] }
  penalty: { ips: [{ ip: 203.0.113.66, ehlo: bulk.example.net, weight: 1, daily_cap: 20000 }], max_connections: 20 }
rules:
  - { name: blocked, match: { tier: poor, sender_domain: [spam.example] }, reject: "550 5.7.1 sender suspended" }
  - { name: poor, match: { tier: poor }, pool: penalty }
  - { name: default, source: client }
limits: { sessions: 5000, sessions_per_client: 500, message: 10240000, command_line: 16KiB, reply: 64KiB, recipients_recorded: 1000 }
timeouts: { dial: 25s, greeting: 5m, command: 5m, tls: 30s, data_start: 2m, data_block: 3m, end_of_data: 9m, idle: 5m, drain: 60s }
bare_newlines: normalize
log: { level: info, format: json, bodies: false }
metrics: { listen: "127.0.0.1:9625" }
`;

describe("the configuration", () => {
  it("gives every default for an empty file, as the design states them", () => {
    const config = configOf("");
    assert.equal(config.proxy, "mx-test");
    assert.deepEqual(config.listen, [
      { ip: "127.0.0.1", port: 10025 },
      { ip: "::1", port: 10025 },
    ]);
    assert.equal(config.listenIsDefault, true);
    assert.deepEqual(config.capture, {
      mode: "redirect",
      destination: undefined,
      mark: 0x77,
      ports: [25],
      opaque: { relay: [465], refuse: [] },
    });
    assert.deepEqual(config.clients, { self: true, networks: [] });
    assert.deepEqual(config.destinations, { denySelf: true, deny: [] });
    assert.deepEqual(config.outboundIp, { ipv4: undefined, ipv6: undefined });
    assert.deepEqual(config.tls, [
      {
        match: { destination: undefined, recipientDomain: undefined },
        policy: "may",
        names: [],
        ca: undefined,
      },
    ]);
    assert.equal(config.limits.messageOctets, 10_240_000);
    assert.deepEqual(config.timeouts, {
      dialMs: 25_000,
      greetingMs: 300_000,
      commandMs: 300_000,
      tlsMs: 30_000,
      dataStartMs: 120_000,
      dataBlockMs: 180_000,
      endOfDataMs: 540_000,
      idleMs: 300_000,
      drainMs: 60_000,
    });
    assert.equal(config.journal, undefined);
    assert.equal(config.redis, undefined);
    assert.equal(config.metrics, undefined);
    assert.equal(config.bareNewlines, "normalize");
  });

  it("reads the example with every section, units parsed", () => {
    const config = configOf(EXAMPLE);
    assert.equal(config.listenIsDefault, false);
    assert.deepEqual(config.tls[0]!.match.destination, [{ address: "198.51.100.0", prefix: 24, family: 4 }]);
    assert.equal(config.tls.length, 3);
    assert.deepEqual(config.hooks[0]!.address, { kind: "unix", path: "/run/warp/rspamd.sock" });
    assert.equal(config.hooks[0]!.deadlineMs, 10_000);
    assert.equal(config.hooks[0]!.when.sharePercent, 25);
    assert.deepEqual(config.hooks[1]!.events, ["after_transaction", "after_conn"]);
    assert.deepEqual(config.capture.opaque, { relay: [], refuse: [465] });
    assert.equal(config.filter.holdTotalOctets, 268_435_456);
    assert.deepEqual(config.journal, {
      dir: "/var/lib/warp/journal",
      maxSizeOctets: 2_147_483_648,
      fsyncMs: 1000,
    });
    assert.deepEqual(config.reputation.identity, ["mail_from"]);
    assert.deepEqual(config.reputation.halfLivesMs, [3_600_000, 86_400_000]);
    assert.deepEqual(config.pools.shared!.ips[1], {
      ip: "2001:db8::10",
      family: 6,
      ehlo: "out1.example.net",
      weight: 1,
      dailyCap: undefined,
    });
    assert.equal(config.pools.penalty!.maxConnections, 20);
    assert.deepEqual(config.rules[0]!.action, {
      kind: "reject",
      reply: { code: 550, enhancedCode: "5.7.1", text: "sender suspended" },
    });
    assert.deepEqual(config.rules[2]!.action, { kind: "source", source: "client" });
    assert.deepEqual(config.metrics, { listen: { ip: "127.0.0.1", port: 9625 } });
  });

  it("is frozen all the way down", () => {
    const config = configOf(EXAMPLE);
    assert.throws(() => {
      (config.hooks[0]!.when.senderDomain as string[]).push("x");
    }, TypeError);
    assert.throws(() => {
      (config.timeouts as { dialMs: number }).dialMs = 1;
    }, TypeError);
  });

  it("takes a section whose keys are commented out for one that isn't there", () => {
    assert.deepEqual(configOf("limits:\nhooks:\njournal:\n"), configOf(""));
  });

  it("adds the rule that matches everything where tls has none", () => {
    const { tls } = configOf("tls: [{ match: { recipient_domain: a.example }, policy: encrypt }]");
    assert.deepEqual(
      tls.map((rule) => rule.policy),
      ["encrypt", "may"],
    );
  });

  it("gives verify in fixed mode the name of the destination", () => {
    const yaml = "capture: { destination: 'mx.example:25' }\ntls: { policy: verify }";
    assert.deepEqual(configOf(yaml).tls[0]!.names, ["mx.example"]);
    assert.equal(configOf(yaml).capture.mode, "fixed");
    const byAddress = "capture: { destination: '192.0.2.1:25' }\ntls: { policy: verify }";
    assert.deepEqual(configOf(byAddress).tls[0]!.names, ["192.0.2.1"]);
  });

  it("treats 0.0.0.0 and :: as outbound IP as unset", () => {
    assert.deepEqual(configOf("outbound_ip: [0.0.0.0, '::']").outboundIp, {
      ipv4: undefined,
      ipv6: undefined,
    });
    assert.deepEqual(configOf("outbound_ip: [192.0.2.1, '2001:db8::1']").outboundIp, {
      ipv4: "192.0.2.1",
      ipv6: "2001:db8::1",
    });
  });

  const opaque: [yaml: string, relay: number[], refuse: number[], ports: number[]][] = [
    ["", [465], [], [25]],
    ["hooks: [{ name: a, address: 'unix:/a', roles: [observe] }]", [465], [], [25]],
    ["hooks: [{ name: a, address: 'unix:/a', roles: [filter] }]", [], [465], [25]],
    ["hooks: [{ name: a, address: 'unix:/a' }]", [], [465], [25]],
    ["capture: { opaque_ports: relay }\nhooks: [{ name: a, address: 'unix:/a' }]", [465], [], [25]],
    ["capture: { opaque_ports: refuse }", [], [465], [25]],
    ["capture: { opaque_ports: [465, 2465] }", [465, 2465], [], [25, 465, 2465]],
    ["capture: { opaque_ports: 2465 }", [2465], [465], [25, 2465]],
  ];
  for (const [yaml, relay, refuse, ports] of opaque) {
    it(`relays ${relay.join(" ") || "no"} and refuses ${refuse.join(" ") || "no"} opaque ports with ${yaml || "nothing"}`, () => {
      const { capture } = configOf(yaml);
      assert.deepEqual(capture.opaque, { relay, refuse });
      assert.deepEqual(capture.ports, ports);
    });
  }
});

/** A file and everything that is wrong with it, in words. */
const WRONG: [what: string, yaml: string, problems: string[]][] = [
  ["an unknown key", "prxy: a", ["prxy is no known key; the nearest is proxy"]],
  ["an unknown key without a value", "prxy:", ["prxy is no known key; the nearest is proxy"]],
  [
    "a list without its brackets",
    "capture: { ports: 25,587 }",
    ["capture.587 is no known key; known here: mode, destination, mark, ports, opaque_ports"],
  ],
  ...[".bank.example", "@bank.example", "a@bank.example"].map((pattern): [string, string, string[]] => [
    `a pattern that no domain matches (${pattern})`,
    `tls: [{ match: { recipient_domain: "${pattern}" }, policy: encrypt }]`,
    [
      `tls[0].match.recipient_domain was "${pattern}", should be a domain or pattern without @ and blanks, such as example.com, "*.example.com" (what is below it) or "*"`,
    ],
  ]),
  [
    "a domain where an address is asked for",
    "rules: [{ match: { sender: bank.example }, source: system }]",
    [
      'rules[0].match.sender was "bank.example", should be an address or pattern, such as alice@example.com, "*@example.com" or "<>"',
    ],
  ],
  [
    "an unknown key in a section",
    "timeouts: { dail: 5s }",
    ["timeouts.dail is no known key; the nearest is timeouts.dial"],
  ],
  [
    "an unknown key in a list",
    "hooks: [{ name: a, address: 'unix:/a', dedline: 5s }]",
    ["hooks[0].dedline is no known key; the nearest is hooks.deadline"],
  ],
  [
    "an unknown key deep inside",
    "hooks: [{ name: a, address: 'unix:/a', when: { sendr: a } }]",
    ["hooks[0].when.sendr is no known key; the nearest is hooks.when.sender"],
  ],
  [
    "an unknown key in a map",
    "pools: { a: { ipz: 192.0.2.1, ips: 192.0.2.1 } }",
    ["pools.a.ipz is no known key; the nearest is pools.a.ips"],
  ],
  ["a key of another section", "deadline: 5s", ["deadline is no known key; there is hooks.deadline"]],
  [
    "everything at once",
    "workers: 0\nlog: { level: loud }\nlimits: { message: big }",
    [
      "workers was 0, should be a whole number from 1 to 256",
      'limits.message was "big", should be a number of octets, with or without a unit (KiB, MiB, GiB, KB, MB, GB), such as 16KiB',
      'log.level was "loud", should be trace, debug, info, warn, error, fatal or silent',
    ],
  ],
  [
    "a wrong word",
    "tls: { policy: verfy }",
    ['tls.policy was "verfy", should be none, may, encrypt or verify (the nearest is verify)'],
  ],
  [
    "a number without unit",
    "timeouts: { dial: 25 }",
    ["timeouts.dial was 25, should be a duration with its unit (ms, s, m, h, d), such as 10s or 1m30s"],
  ],
  [
    "a duration of nothing",
    "timeouts: { dial: 0 }",
    ["timeouts.dial was 0, should be a duration from 1ms to 24d"],
  ],
  ["a value instead of a section", "limits: 5", ["limits was 5, should be a section with keys of its own"]],
  [
    "a text instead of yes or no",
    "filter: { discard: maybe }",
    ['filter.discard was "maybe", should be true or false'],
  ],
  [
    "a missing key",
    "hooks: [{ name: a }]",
    [
      "hooks[0].address is missing, should be unix:/path or HOST:PORT, such as unix:/run/warp/hook.sock or 127.0.0.1:7443",
    ].slice(0, 1),
  ],
  ["a list at the top", "[1]", [" the file should hold keys and values at its top level"]],
  [
    "a name with blanks",
    "pools: { a b: { ips: 192.0.2.1 } }",
    ["pools.a b should be a name of letters, digits, dot, hyphen and underscore (at most 64)"],
  ],
  [
    "a network with host bits",
    "clients: 10.0.0.1/8",
    ['clients was "10.0.0.1/8", should be the network\'s own address, 10.0.0.0/8'],
  ],
  [
    "a Redis URL, without repeating it",
    "redis: { url: 'http://user:secret@h' }",
    ["redis.url was (hidden), should be redis://[USER:PASSWORD@]HOST:PORT/DB or rediss://… (TLS)"],
  ],
  [
    "no way to Redis",
    "redis: { prefix: 'x:' }",
    ["redis says none of url, sentinels and cluster, should say exactly one"],
  ],
  [
    "two ways to Redis",
    "redis: { url: 'redis://h', cluster: ['h:1'] }",
    ["redis says url and cluster of url, sentinels and cluster, should say exactly one"],
  ],
  [
    "a Redis password beside the URL",
    "redis: { url: 'redis://h', password: x }",
    [
      "redis.password is for sentinels and cluster; beside url it should not be there: the URL says it (rediss://USER:PASSWORD@HOST)",
    ],
  ],
  [
    "files for TLS to Redis beside a URL without TLS",
    "redis: { url: 'redis://h', tls: { ca: /ca.pem } }",
    ["redis.tls is for an encrypted connection; beside url it should be there only where that is rediss://…"],
  ],
  [
    "fixed without destination",
    "capture: { mode: fixed }",
    ["capture.destination is missing; mode fixed sends every connection to it: HOST:PORT"],
  ],
  [
    "a destination with redirect",
    "capture: { mode: redirect, destination: 'mx.example:25' }",
    [
      'capture.destination was "mx.example:25", but mode redirect asks the kernel for the destination; should not be there, or mode should be fixed',
    ],
  ],
  [
    "a destination where it listens itself",
    "capture: { destination: '127.0.0.1:10025' }",
    [
      'capture.destination was "127.0.0.1:10025", where the proxy itself listens (127.0.0.1:10025): every connection would come back to it',
    ],
  ],
  [
    "a loopback destination where it listens on every address",
    "{ listen: '0.0.0.0:2525', capture: { destination: 'localhost:2525' } }",
    [
      'capture.destination was "localhost:2525", where the proxy itself listens (0.0.0.0:2525): every connection would come back to it',
    ],
  ],
  ["no listen address", "listen: []", ["listen was an empty list, should name at least one ADDRESS:PORT"]],
  [
    "a listen address twice",
    "listen: ['127.0.0.1:1', '127.0.0.1:1']",
    ['listen[1] was "127.0.0.1:1", which is there twice'],
  ],
  [
    "metrics where the proxy listens",
    "metrics: { listen: '127.0.0.1:10025' }",
    ['metrics.listen was "127.0.0.1:10025", where the proxy itself listens; should be another port'],
  ],
  [
    "no clients",
    "clients: []",
    ["clients was an empty list, should name who may connect: self or a network"],
  ],
  [
    "verify without names",
    "tls: { policy: verify }",
    [
      "tls.names is missing; verify needs the names that the certificate may carry: a captured connection has only an IP address, and the names in greeting, EHLO and PTR are the peer's own choice",
    ],
  ],
  [
    "names without verify",
    "tls: { policy: encrypt, names: [a.example] }",
    [
      "tls.names was a.example, but policy encrypt checks no name; should not be there, or policy should be verify",
    ],
  ],
  [
    "an empty match",
    "tls: [{ match: { destination: [] }, policy: may }]",
    ["tls[0].match.destination was an empty list, which matches nothing"],
  ],
  [
    "a hook beyond loopback in plaintext",
    "hooks: [{ name: a, address: 'a.example:1' }]",
    [
      'hooks[0].address was "a.example:1", plaintext beyond loopback; should have tls beside it, or insecure: true where that network is trusted with the mail',
    ],
  ],
  [
    "a hook with tls and insecure",
    "hooks: [{ name: a, address: 'a.example:1', tls: {}, insecure: true }]",
    ["hooks[0].insecure was true beside tls; should be one of the two"],
  ],
  [
    "tls on a unix socket",
    "hooks: [{ name: a, address: 'unix:/a', tls: {} }]",
    ["hooks[0].tls is for TCP, but the address is unix:/a; should not be there"],
  ],
  [
    "a certificate without key",
    "hooks: [{ name: a, address: 'a.example:1', tls: { cert: /c } }]",
    ["hooks[0].tls.key is missing; cert and key belong together"],
  ],
  [
    "two hooks of one name",
    "hooks: [{ name: a, address: 'unix:/a' }, { name: a, address: 'unix:/b' }]",
    ['hooks[1].name was "a", which is the name of hooks[0] already; names have to be unique'],
  ],
  [
    "a hook with the name of a plugin",
    "plugins: [file]\nhooks: [{ name: file, address: 'unix:/a' }]",
    ['hooks[0].name was "file", which is the name of a plugin already; names have to be unique'],
  ],
  [
    "events of a pure filter",
    "hooks: [{ name: a, address: 'unix:/a', roles: filter, events: after_conn }]",
    ["hooks[0].events is for observers, but roles was filter; should not be there"],
  ],
  [
    "sizes that exclude each other",
    "hooks: [{ name: a, address: 'unix:/a', when: { min_octets: 2, max_octets: 1 } }]",
    ["hooks[0].when.max_octets was 1, below min_octets (2): no message would match"],
  ],
  [
    "more memory than budget",
    "filter: { hold_memory: 2MiB, hold_total: 1MiB }",
    ["filter.hold_memory was 2097152, above hold_total (1048576); should be below it"],
  ],
  [
    "a budget too small for a message",
    "filter: { hold_total: 5MiB }\nhooks: [{ name: a, address: 'unix:/a' }]",
    [
      "filter.hold_total was 5242880, should be at least limits.message (10240000): a longer message could never be held for the filters",
    ],
  ],
  [
    "a chain that outlasts the clock",
    "filter: { chain_budget: 10m }",
    [
      "filter.chain_budget was 600000 ms, should be below timeouts.end_of_data (540000 ms), of which it is a part",
    ],
  ],
  [
    "a rule without action",
    "rules: [{ name: a }]",
    ["rules[0] says no actions, should say one of pool, source, reject and defer"],
  ],
  [
    "a rule with two actions",
    "rules: [{ source: client, defer: '451 4.7.1 x' }]",
    ["rules[0] says 2 actions, should say one of pool, source, reject and defer"],
  ],
  [
    "an unknown pool",
    "pools: { shared: { ips: 192.0.2.1 } }\nrules: [{ pool: sharde }]",
    ['rules[0].pool was "sharde", which is no pool; the nearest is shared'],
  ],
  [
    "a pool where there are none",
    "rules: [{ source: { pool: a } }]",
    ['rules[0].pool was "a", but there are no pools'],
  ],
  [
    "an unknown tier",
    "rules: [{ match: { tier: por }, source: client }]",
    ['rules[0].match.tier was "por", which is no tier; the nearest is poor'],
  ],
  [
    "two rules of one name",
    "rules: [{ name: a, match: { sender: x }, source: client }, { name: a, source: client }]",
    ['rules[1].name was "a", which is the name of rules[0] already'],
  ],
  [
    "a 4xx reply in reject",
    "rules: [{ reject: '451 4.7.1 x' }]",
    [
      'rules[0].reject was "451 4.7.1 x", should be a reply with a 5xx code (not 521), such as "550 5.7.1 text"',
    ],
  ],
  [
    "tiers with workers and without Redis",
    "workers: 2\nrules: [{ match: { tier: poor }, source: client }]",
    [
      "workers was 2, but rules[0] asks for a tier and each worker would count for itself; should be 1, or redis should be set",
    ],
  ],
  [
    "a daily cap with workers and without Redis",
    "workers: 2\npools: { a: { ips: [192.0.2.1, { ip: 192.0.2.2, daily_cap: 5 }] }, b: { ips: [192.0.2.3] } }\nrules: [{ match: { sender: x }, pool: a }, { pool: b }]",
    [
      "workers was 2, but pools.a has a daily_cap and each worker would count for itself; should be 1, or redis should be set",
    ],
  ],
  [
    "an empty pool",
    "pools: { a: { ips: [] } }\nrules: [{ pool: a }]",
    ["pools.a.ips was an empty list, should name addresses"],
  ],
  [
    "an address in a pool twice",
    "pools: { a: { ips: [192.0.2.1, 192.0.2.1] } }\nrules: [{ pool: a }]",
    ['pools.a.ips[1].ip was "192.0.2.1", which is in this pool twice; weight says how much it gets'],
  ],
  [
    "the unspecified address in a pool",
    "pools: { a: { ips: [0.0.0.0] } }\nrules: [{ pool: a }]",
    ['pools.a.ips[0].ip was "0.0.0.0", should be one address of this host'],
  ],
  [
    "two outbound IPv4 addresses",
    "outbound_ip: [192.0.2.1, 192.0.2.2]",
    [
      "outbound_ip was 192.0.2.1, 192.0.2.2: should have at most one IPv4 address; more than one is a pool (pools, rules)",
    ],
  ],
  [
    "an outbound IP of the other family",
    "outbound_ip: 192.0.2.1\ncapture: { destination: '[2001:db8::1]:25' }",
    ["outbound_ip was 192.0.2.1, should have an IPv6 address: the destination is 2001:db8::1"],
  ],
  [
    "one half-life",
    "reputation: { half_lives: [1h] }",
    ["reputation.half_lives should be two durations, the shorter first, such as [1h, 1d]"],
  ],
  [
    "half-lives the wrong way round",
    "reputation: { half_lives: [1d, 1h] }",
    ["reputation.half_lives should be two durations, the shorter first, such as [1h, 1d]"],
  ],
  [
    "a tier without hysteresis",
    "reputation: { tiers: { poor: { enter: 0.4, leave: 0.4 } } }",
    [
      "reputation.tiers.poor.leave was 0.4, the same as enter; should be above it (a tier of bad senders) or below it (of good ones), so that nobody flaps",
    ],
  ],
  [
    "a tier called neutral",
    "reputation: { tiers: { neutral: { enter: 0.4, leave: 0.5 } } }",
    ["reputation.tiers.neutral is the name of those who are in no tier; should be another name"],
  ],
];

describe("a wrong configuration", () => {
  for (const [what, yaml, problems] of WRONG) {
    it(`says what is wrong with ${what}`, () => assert.deepEqual(problemsOf(yaml), problems));
  }

  it("hides no mistake behind one in another section, nor behind a check across sections", () => {
    const problems = problemsOf("workers: x\ntls: { policy: verify }\nhooks: [{ name: 5 }]\nnonsense: 1");
    assert.deepEqual(
      problems.map((problem) => problem.split(" ")[0]),
      ["nonsense", "workers", "hooks[0].name", "hooks[0].address", "tls.names"],
    );
  });

  it("is refused in words, whatever stands where", () => {
    const keys = [...new Set(everyKey().map((path) => path.split(".").at(-1)!))];
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<unknown>(
          null,
          true,
          0,
          25,
          -1,
          "",
          "self",
          "10s",
          "1MiB",
          "127.0.0.1:1",
          "unix:/a",
          "may",
          "a",
        ),
        fc.string(),
        fc.array(tie("any"), { maxLength: 3 }),
        fc.dictionary(fc.oneof(fc.constantFrom(...keys), fc.string()), tie("any"), { maxKeys: 4 }),
      ),
    })).any;
    const document = fc.dictionary(fc.constantFrom(...Object.keys(configSchema.shape)), value, {
      maxKeys: 6,
    });
    fc.assert(
      fc.property(document, (root) => {
        const result = parseConfig(root, HOST);
        for (const { path, text } of result.config === undefined ? result.problems : result.warnings) {
          assert.ok(text.length > 5 && !/undefined|Invalid/.test(text), `${pathText(path)} ${text}`);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("never repeats a secret", () => {
    for (const yaml of ["slack: { token: 5 }", "redis: { password: 5 }", "mysql: { dsn: 5 }"]) {
      assert.match(problemsOf(yaml).join(), /was \(hidden\)/);
    }
  });

  it("never repeats a secret that stands in a wrong place", () => {
    for (const yaml of [
      'redis: "redis://:secret@host"',
      'redis: { cluster: ["redis://u:secret@host:1"] }',
      "redis: [{ password: secret }]",
      'mysql: "u:secret@tcp(host)/db"',
      "plugins: { mysql: { dsn: secret } }",
      "slack: secret",
      'hooks: [{ name: a, address: "u:secret@host" }]',
    ]) {
      assert.match(problemsOf(yaml).join(), /\(hidden\)/, yaml);
      assert.doesNotMatch(problemsOf(yaml).join(), /secret/, yaml);
    }
  });
});

describe("a doubtful configuration", () => {
  const doubtful: [what: string, yaml: string, warning: RegExp][] = [
    [
      "a rule behind one that matches everything",
      "rules: [{ source: client }, { source: system }]",
      /^rules\[1\] is never reached/,
    ],
    [
      "a TLS rule behind one that matches everything",
      "tls: [{ policy: may }, { policy: none }]",
      /^tls\[1\] is never reached/,
    ],
    ["everybody as client", "clients: 0.0.0.0/0", /^clients was 0\.0\.0\.0\/0: everybody/],
    [
      "an end of data longer than the client's patience",
      "timeouts: { end_of_data: 11m }",
      /^timeouts\.end_of_data .*RFC 5321/,
    ],
    ["a dial longer than an MTA's", "timeouts: { dial: 31s }", /^timeouts\.dial/],
    ["a line too short for AUTH", "limits: { command_line: 512 }", /^limits\.command_line .*RFC 4954/],
    ["a journal for nobody", "journal: { dir: /j }", /^journal keeps nothing/],
    [
      "fewer connections than workers",
      "workers: 4\npools: { a: { ips: 192.0.2.1, max_connections: 2 } }\nrules: [{ pool: a }]",
      /^pools\.a\.max_connections was 2, fewer than the 4 workers; .* may be 4$/,
    ],
    [
      "a state file of several workers",
      "workers: 2\nreputation: { state_file: /x }",
      /^reputation\.state_file is written by each of the 2 workers with its own counts/,
    ],
    ["a pool that no rule names", "pools: { a: { ips: 192.0.2.1 } }", /^pools\.a is named by no rule/],
    [
      "a deadline beyond the chain's budget",
      "hooks: [{ name: a, address: 'unix:/a', deadline: 3m }]",
      /^hooks\[0\]\.deadline/,
    ],
  ];
  for (const [what, yaml, warning] of doubtful) {
    it(`is taken with a warning: ${what}`, () => {
      const warnings = warningsOf(yaml);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, warning);
    });
  }
});
