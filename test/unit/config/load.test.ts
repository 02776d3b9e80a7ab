import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { parseOptions, UsageError } from "../../../src/cli/options.ts";
import { spec } from "../../../src/cli/proxy-options.ts";
import { ConfigError, loadConfig, loadFile, loadSettings } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-config-"));
after(() => rmSync(folder, { recursive: true }));
let files = 0;
function fileOf(yaml: string): string {
  const file = join(folder, `${++files}.yaml`);
  writeFileSync(file, yaml);
  return file;
}
function configOf(argv: string[], environment: Record<string, string> = {}): Config {
  return loadConfig(parseOptions(spec, argv), environment).config;
}
function errorOf(load: () => unknown): ConfigError {
  try {
    load();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error;
  }
  return assert.fail("the configuration was taken");
}

const LISTEN = (...addresses: [string, number][]) => addresses.map(([ip, port]) => ({ ip, port }));

/** A command line, an optional file below it, and what comes of it. */
const FLAGS: [argv: string, yaml: string, pick: (config: Config) => unknown, meaning: unknown][] = [
  // The original's.
  ["-ip 127.0.0.1 -port 2525", "", (c) => c.listen, LISTEN(["127.0.0.1", 2525])],
  ["-ip=127.0.0.1 -port=2525", "", (c) => c.listen, LISTEN(["127.0.0.1", 2525])],
  ["--ip 127.0.0.1 --port=2525", "", (c) => c.listen, LISTEN(["127.0.0.1", 2525])],
  ["-port 0", "", (c) => c.listen, LISTEN(["127.0.0.1", 10025], ["::1", 10025])],
  ["-ip 127.0.0.1", "", (c) => c.listen, LISTEN(["127.0.0.1", 10025])],
  ["-outbound-ip 0.0.0.0", "", (c) => c.outboundIp, { ipv4: undefined, ipv6: undefined }],
  ["-outbound-ip ::", "", (c) => c.outboundIp, { ipv4: undefined, ipv6: undefined }],
  ["-outbound-ip 192.0.2.1", "", (c) => c.outboundIp, { ipv4: "192.0.2.1", ipv6: undefined }],
  ["-message-size-limit 1000", "", (c) => c.limits.messageOctets, 1000],
  ["-verbose", "", (c) => c.log.verbose, true],
  ["-verbose=false", "log: { verbose: true }", (c) => c.log.verbose, false],
  ["-verbose=0", "log: { verbose: true }", (c) => c.log.verbose, false],
  // Ours.
  ["--ip :: --ip 192.0.2.1", "", (c) => c.listen, LISTEN(["::", 10025], ["192.0.2.1", 10025])],
  ["--ip [::1] --port 1", "", (c) => c.listen, LISTEN(["::1", 1])],
  ["--port 1", "listen: ['192.0.2.1:5', '[::1]:5']", (c) => c.listen, LISTEN(["192.0.2.1", 1], ["::1", 1])],
  ["--ip ::1", "listen: ['192.0.2.1:5']", (c) => c.listen, LISTEN(["::1", 5])],
  ["--port 1", "", (c) => c.listenIsDefault, true],
  ["--ip 127.0.0.1", "", (c) => c.listenIsDefault, false],
  ["--mode tproxy", "", (c) => c.capture.mode, "tproxy"],
  [
    "--destination mx.example:25",
    "",
    (c) => [c.capture.mode, c.capture.destination],
    ["fixed", { host: "mx.example", port: 25 }],
  ],
  [
    "--destination mx.example:25",
    "capture: { mode: tproxy, mark: 5 }",
    (c) => [c.capture.mode, c.capture.mark],
    ["fixed", 5],
  ],
  [
    "--mode redirect",
    "capture: { destination: 'mx.example:25' }",
    (c) => [c.capture.mode, c.capture.destination],
    ["redirect", undefined],
  ],
  [
    "--client 10.0.0.0/8 --client self",
    "clients: [192.0.2.1]",
    (c) => c.clients,
    { self: true, networks: [{ address: "10.0.0.0", prefix: 8, family: 4 }] },
  ],
  ["--upstream-tls encrypt", "", (c) => c.tls.map((rule) => rule.policy), ["encrypt"]],
  [
    "--upstream-tls none",
    "tls: [{ match: { recipient_domain: a.example }, policy: encrypt }, { policy: may }]",
    (c) => c.tls.map((rule) => [rule.match.recipientDomain, rule.policy]),
    [
      [["a.example"], "encrypt"],
      [undefined, "none"],
    ],
  ],
  ["--destination mx.example:25 --upstream-tls verify", "", (c) => c.tls[0]!.names, ["mx.example"]],
  [
    "--journal /tmp",
    "journal: { dir: /x, fsync: 2s }",
    (c) => [c.journal!.dir, c.journal!.fsyncMs],
    ["/tmp", 2000],
  ],
  [
    "--redis redis://h:1/2",
    "redis: { cluster: ['h:1'], prefix: 'p:' }",
    (c) => [c.redis!.url, c.redis!.cluster, c.redis!.prefix],
    ["redis://h:1/2", undefined, "p:"],
  ],
  [
    "--redis rediss://h:1/2",
    "redis: { cluster: ['h:1'], tls: { server_name: r.example } }",
    (c) => [c.redis!.url, c.redis!.cluster, c.redis!.tls?.serverName],
    ["rediss://h:1/2", undefined, "r.example"],
  ],
  [
    "--redis redis://h:1/2",
    "redis: { url: 'rediss://h', tls: { server_name: r.example } }",
    (c) => [c.redis!.url, c.redis!.tls],
    ["redis://h:1/2", undefined],
  ],
  ["--workers 4", "workers: 2", (c) => c.workers, 4],
  ["--metrics localhost:9625", "", (c) => c.metrics, { listen: { ip: "127.0.0.1", port: 9625 } }],
  ["--metrics 127.0.0.1:9625", "", (c) => c.metrics, { listen: { ip: "127.0.0.1", port: 9625 } }],
  ["--log-level debug --log-format text", "", (c) => [c.log.level, c.log.format], ["debug", "text"]],
  [
    "--hook a=unix:/a",
    "",
    (c) => c.hooks.map((h) => [h.name, h.address, h.roles]),
    [["a", { kind: "unix", path: "/a" }, undefined]],
  ],
  [
    "--observer o=unix:/o --filter f=127.0.0.1:7 --hook h=unix:/h",
    "hooks: [{ name: z, address: 'unix:/z' }]",
    (c) => c.hooks.map((h) => [h.name, h.roles]),
    [
      ["z", undefined],
      ["o", ["observe"]],
      ["f", ["filter"]],
      ["h", undefined],
    ],
  ],
  [
    "--filter a=unix:/a --observer a=unix:/a",
    "",
    (c) => c.hooks.map((h) => h.roles),
    [["filter", "observe"]],
  ],
  [
    "--filter a=unix:/new",
    "hooks: [{ name: a, address: 'unix:/old', roles: observe, deadline: 5s }]",
    (c) => c.hooks.map((h) => [h.address, h.roles, h.deadlineMs]),
    [[{ kind: "unix", path: "/new" }, ["filter"], 5000]],
  ],
];

describe("the proxy's command line", () => {
  for (const [argv, yaml, pick, meaning] of FLAGS) {
    it(`${argv}${yaml === "" ? "" : ` wins over ${yaml}`}`, () => {
      const words = argv.split(" ");
      if (yaml !== "") words.unshift("--config", fileOf(yaml));
      assert.deepEqual(pick(configOf(words)), meaning);
    });
  }

  it("takes the original's list of plugins with blanks around the names", () => {
    const environment = { DSN: "/x.db", FILE_PATH: "/x.log" };
    assert.deepEqual(configOf(["-plugins", " sqlite , file ,"], environment).plugins, ["sqlite", "file"]);
    assert.deepEqual(configOf(["-plugins", ""]).plugins, []);
  });

  const usage: [argv: string, message: RegExp][] = [
    ["--port 70000", /--port was "70000", should be a whole number from 0 to 65535/],
    ["--hook a", /--hook was "a", should be NAME=ADDRESS/],
    ["--filter =unix:/a", /--filter was "=unix:\/a", should be NAME=ADDRESS/],
    ["--filter a=unix:/a --observer a=unix:/b", /a is unix:\/a already/],
  ];
  for (const [argv, message] of usage) {
    it(`refuses ${argv} as wrong usage`, () => {
      assert.throws(
        () => configOf(argv.split(" ")),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    });
  }

  it("names the flag whose value the schema refuses, and says that the usage is wrong", () => {
    const error = errorOf(() => configOf(["--metrics", "nowhere", "--client", "10.0.0.1/8"]));
    assert.equal(error.isUsage, true);
    assert.deepEqual(
      error.lines.map((line) => line.split(": ").slice(0, 2).join(": ")),
      [
        '--client: clients[0] was "10.0.0.1/8", should be the network\'s own address, 10.0.0.0/8',
        '--metrics: metrics.listen was "nowhere", should be ADDRESS:PORT with a literal address, such as 127.0.0.1:10025 or [::1]:10025',
      ],
    );
  });

  it("names the flags where one asks for another", () => {
    for (const [argv, line] of [
      [["--tls-cert", "/c"], "--tls-cert: downstream_tls.key (--tls-key) is missing, should be a path"],
      [["--tls-key", "/k"], "--tls-key: downstream_tls.cert (--tls-cert) is missing, should be a path"],
      [
        ["--mode", "fixed"],
        "--mode: capture.destination (--destination) is missing; mode fixed sends every connection to it: HOST:PORT",
      ],
    ] as const) {
      const error = errorOf(() => configOf([...argv]));
      assert.deepEqual([error.lines, error.isUsage], [[line], true]);
    }
    const ofFile = errorOf(() =>
      configOf(["--config", fileOf("downstream_tls: { cert: /c }"), "--mode", "redirect"]),
    );
    assert.match(ofFile.lines.join(), /^[^-].*: downstream_tls\.key is missing/);
    assert.equal(ofFile.isUsage, false);
  });

  it("does not call it wrong usage where the file is wrong too", () => {
    const error = errorOf(() => configOf(["--config", fileOf("workers: 0"), "--metrics", "nowhere"]));
    assert.equal(error.isUsage, false);
    assert.equal(error.lines.length, 2);
  });
});

describe("the environment", () => {
  it("fills in what neither flags nor file say", () => {
    const environment = { DSN: "/d", FILE_PATH: "/f", SLACK_TOKEN: "t", SLACK_CHANNEL: "c", MYSQL_DSN: "m" };
    const config = configOf([], environment);
    assert.deepEqual(
      [config.sqlite.dsn, config.mysql.dsn, config.file.path, config.slack.token, config.slack.channel],
      ["/d", "m", "/f", "t", "c"],
    );
    assert.equal(configOf([], { ...environment, SQLITE_DSN: "/s" }).sqlite.dsn, "/s");
    assert.equal(configOf(["--config", fileOf("sqlite: { dsn: /own }")], environment).sqlite.dsn, "/own");
    assert.equal(configOf([], { DSN: "" }).sqlite.dsn, undefined);
  });

  it("takes PLUGIN_PATH with a note", () => {
    const { notes } = loadConfig(parseOptions(spec, []), { PLUGIN_PATH: "/opt/plugins" });
    assert.equal(notes.length, 1);
    assert.match(notes[0]!, /^PLUGIN_PATH is set and not used/);
  });

  it("can't give one DSN to two plugins", () => {
    const argv = ["-plugins", "mysql,sqlite"];
    const text = "one dsn can't serve mysql and sqlite, please set `MYSQL_DSN` and `SQLITE_DSN`";
    assert.deepEqual(errorOf(() => configOf(argv, { DSN: "/d" })).lines, [text]);
    assert.equal(configOf(argv, { DSN: "u@tcp(h:1)/d", SQLITE_DSN: "/s" }).mysql.dsn, "u@tcp(h:1)/d");
  });

  const missing: [plugins: string, lines: string[]][] = [
    ["mysql", ["missing dsn for mysql, please set `DSN`"]],
    ["sqlite", ["missing dsn for sqlite, please set `DSN`"]],
    ["file", ["missing path for file, please set `FILE_PATH`"]],
    [
      "slack",
      ["missing SLACK_TOKEN, please set `SLACK_TOKEN`", "missing SLACK_CHANNEL, please set `SLACK_CHANNEL`"],
    ],
  ];
  for (const [plugins, lines] of missing) {
    it(`that lacks a setting of ${plugins} is told in the original's words`, () => {
      assert.deepEqual(errorOf(() => configOf(["-plugins", plugins])).lines, lines);
      // A command that only reads the settings doesn't need the plugins' own.
      assert.deepEqual(loadSettings(parseOptions(spec, ["-plugins", plugins]), {}).plugins, [plugins]);
    });
  }
});

describe("a configuration file", () => {
  it("is refused with the line of each mistake, in the order of the file", () => {
    const file = fileOf(
      [
        "# a comment",
        "listen: 127.0.0.1:1",
        "prxy: a",
        "tls:",
        "  - policy: verfy",
        "  - policy: verify",
        "    names: [a b]",
        "hooks:",
        "  - name: a",
        "    address: unix:/a",
        "    when:",
        "      share: 101",
        "    wat: 1",
        "  - address: unix:/b",
        "journal:",
        "  dir: /tmp",
        "  max_size: 3Q",
      ].join("\n"),
    );
    const places = errorOf(() => loadFile(file, {})).lines.map(
      (line) => line.slice(file.length + 1).split(" ")[0],
    );
    assert.deepEqual(places, ["3:", "5:", "7:", "12:", "13:", "14:", "17:"]);
  });

  it("is refused where its YAML is broken, with the line", () => {
    const file = fileOf("listen: [\nworkers: 1\n");
    assert.match(errorOf(() => loadFile(file, {})).lines[0]!, new RegExp(`^${file}:[23]: `));
    const twice = fileOf("workers: 1\nworkers: 2\n");
    assert.match(errorOf(() => loadFile(twice, {})).lines[0]!, new RegExp(`^${twice}:2: .*unique`));
  });

  it("is refused where it isn't there, or is a bomb of aliases", () => {
    assert.match(errorOf(() => loadFile(join(folder, "none.yaml"), {})).lines[0]!, /can't be read/);
    const layer = (name: string, of: string) =>
      `${name}: &${name} [*${of}, *${of}, *${of}, *${of}, *${of}, *${of}, *${of}, *${of}, *${of}]`;
    const bomb = [
      "a: &a [x, x, x, x, x, x, x, x, x]",
      layer("b", "a"),
      layer("c", "b"),
      layer("d", "c"),
      layer("e", "d"),
    ];
    assert.match(errorOf(() => loadFile(fileOf(bomb.join("\n")), {})).lines[0]!, /alias/i);
  });

  it("may hold comments alone, but not nothing, as a full disk leaves it", () => {
    assert.equal(loadFile(fileOf("# all defaults\n"), {}).config.workers, 1);
    for (const text of ["", "\n"])
      assert.match(errorOf(() => loadFile(fileOf(text), {})).lines[0]!, /: is empty; /);
  });

  it("says what YAML makes of a pattern without quotes, and of a second document, and where", () => {
    const pattern = "rules:\n  - { match: { recipient_domain: *.bank.example }, source: system }\n";
    assert.match(
      errorOf(() => loadFile(fileOf(pattern), {})).lines.join(),
      /:2: \*\.bank\.example has to be in quotes; /,
    );
    assert.match(
      errorOf(() => loadFile(fileOf("workers: 1\n---\nworkers: 2\n"), {})).lines.join(),
      /:2: a second document/,
    );
    assert.equal(
      loadFile(fileOf("clients: &all [self]\nrules: [{ match: { client: *all }, source: system }]\n"), {})
        .config.rules.length,
      1,
    );
  });

  it("is refused where files that it names are missing, or certificate and key don't fit", () => {
    const rubbish = fileOf("rubbish");
    const { lines } = errorOf(() =>
      loadFile(
        fileOf(
          [
            "downstream_tls: { cert: /nonexistent/c, key: /nonexistent/k }",
            "tls: [{ policy: encrypt, ca: /nonexistent/ca }]",
            `hooks: [{ name: a, address: 'h.example:1', tls: { ca: ${rubbish}, cert: ${rubbish}, key: ${rubbish} } }]`,
            "filter: { spool: /nonexistent/spool }",
            `journal: { dir: ${rubbish}/below }`,
            "reputation: { state_file: /nonexistent/state.json }",
          ].join("\n"),
        ),
        {},
      ),
    );
    const settings = lines.map((line) => line.split(": ")[1]!.split(" ")[0]);
    assert.deepEqual(settings, [
      "downstream_tls.cert",
      "downstream_tls.key",
      "tls[0].ca",
      "hooks[0].tls.ca",
      "hooks[0].tls.cert",
      "hooks[0].tls.key",
      "filter.spool",
      "journal.dir",
      "reputation.state_file",
    ]);
  });

  const needsOpenssl = spawnSync("openssl", ["version"]).status === 0 ? false : "openssl is missing";
  it("says which of certificate and key is wrong, and how", { skip: needsOpenssl }, () => {
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const openssl = (...args: string[]) => assert.equal(spawnSync("openssl", args).status, 0, args.join(" "));
    const name = ["-subj", "/CN=mta.example"];
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, ...name);
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", join(folder, "encrypted.pem"));
    openssl(
      "rsa",
      "-in",
      key,
      "-aes256",
      "-passout",
      "pass:x",
      "-traditional",
      "-out",
      join(folder, "older.pem"),
    );
    openssl("x509", "-in", cert, "-outform", "der", "-out", join(folder, "cert.der"));
    const said = (certFile: string, keyFile: string) => {
      const file = fileOf(`downstream_tls: { cert: ${certFile}, key: ${keyFile} }`);
      return errorOf(() => loadFile(file, {})).lines.map((line) => line.replace(/^.*?: /, ""));
    };
    for (const encrypted of ["encrypted.pem", "older.pem"]) {
      const [line = "", ...others] = said(cert, join(folder, encrypted));
      assert.match(line, /^downstream_tls\.key was .*, which is encrypted, /);
      assert.deepEqual(others, []);
    }
    assert.match(
      said(join(folder, "cert.der"), key).join(),
      /^downstream_tls\.cert was [^:]*no certificate in PEM form$/,
    );
    assert.deepEqual(
      said(key, cert).map((line) => line.replace(/was ".*", which /, "")),
      [
        "downstream_tls.cert holds no certificate in PEM form",
        "downstream_tls.key holds no private key in PEM form",
      ],
    );
    const fitting = fileOf(`downstream_tls: { cert: ${cert}, key: ${key} }`);
    assert.deepEqual(loadFile(fitting, {}).warnings, []);
    const both = join(folder, "both.pem");
    writeFileSync(both, `${readFileSync(key, "utf8")}${readFileSync(cert, "utf8")}`);
    const inOne = fileOf(`downstream_tls: { cert: ${both}, key: ${both} }`);
    assert.deepEqual(loadFile(inOne, {}).warnings, []);
    openssl("x509", "-in", cert, "-signkey", key, "-days", "-1", "-out", cert);
    assert.match(
      loadFile(fitting, {}).warnings.join(),
      /:1: downstream_tls\.cert was .*, which expired on \d{4}-/,
    );
  });

  it("is taken with warnings that have their line", () => {
    const file = fileOf("workers: 1\nrules:\n  - source: client\n  - source: system\n");
    const { warnings } = loadFile(file, {});
    assert.deepEqual(warnings, [
      `${file}:4: rules[1] is never reached: rules[0] before it matches everything`,
    ]);
  });
});
