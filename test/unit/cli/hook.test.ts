import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
/** Without `--listen`, which is asked for once the settings are right. */
function hook(kind: string, ...argv: string[]) {
  const { status, stderr } = spawnSync(process.execPath, [program, "hook", kind, ...argv], {
    encoding: "utf8",
  });
  return { status, stderr };
}

test("a setting that is wrong stops the start with one line that names it", () => {
  for (const [argv, expected] of [
    [
      ["--set", "file.fsync=maybe"],
      /^warp: --set: file\.fsync was "maybe", should be always, interval or never/,
    ],
    [["--set", "sqlite.synchronous=bogus"], /sqlite\.synchronous was "bogus", should be full or normal/],
    [
      ["--set", "sqlite.synchronus=full"],
      /sqlite\.synchronus is no known key; the nearest is sqlite\.synchronous/,
    ],
    [["--set", "slack.bogus=1"], /slack\.bogus is no known key/],
    [["--set", "slack.connections=perhaps"], /slack\.connections was "perhaps", should be true or false/],
    [["--set", "slack.thresholds.blocked_ips=many"], /slack\.thresholds\.blocked_ips was "many"/],
    [["--set", "file.path"], /--set was "file\.path", should be KIND\.KEY=VALUE/],
    [["--set", "fil.path=x"], /"fil" is no hook server/],
    [
      ["--slack-url", "not-a-url"],
      /--slack-url: slack\.url was \(hidden\), should be a URL of http or https/,
    ],
    [
      ["--rotate-size", "0"],
      /--rotate-size: file\.rotate_size was "0", should be a size of at least 1 octet/,
    ],
    [["--rotate-age", "0"], /file\.rotate_age was "0", should be a duration of at least 1ms/],
    [["--keep", "0"], /--keep: sqlite\.keep was "0", should be a duration of at least 1ms/],
    [["--url", "nowhere"], /--url: rspamd\.url should be a URL of http or https/],
    [
      ["--set", "rspamd.concurrent_messages=0"],
      /--set: rspamd\.concurrent_messages should be a whole number from 1/,
    ],
    [["--set", "rspamd.bogus=1"], /--set: rspamd\.bogus is no known key; known here: url, greylist, timeout/],
  ] as const) {
    const { status, stderr } = hook("sqlite", ...argv);
    assert.equal(status, 2, stderr);
    assert.match(stderr, expected);
    assert.ok(!/^warp: .*\n.*warp: /.test(stderr), stderr);
  }
});

test("settings by --set are those of the file", () => {
  const right = [
    "file.rotate_size=1MiB",
    "slack.connections=false",
    "slack.thresholds.blocked_ips=3",
    "sqlite.keep=30d",
  ];
  const { status, stderr } = hook("file", ...right.flatMap((text) => ["--set", text]));
  assert.equal(status, 2);
  assert.match(stderr, /--listen is missing/);
});

test("--init says which server it cannot reach", () => {
  const { status, stderr } = hook("mysql", "--init", "--mysql-dsn", "warp:secret@tcp(127.0.0.1:1)/warp");
  assert.equal(status, 1);
  assert.match(stderr, /^mysql: warp at 127\.0\.0\.1:1: connect ECONNREFUSED/);
});
