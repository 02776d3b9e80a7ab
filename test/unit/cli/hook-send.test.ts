import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { unifiedDiff } from "../../../src/cli/hook-check/diff.ts";
import {
  add,
  addHeader,
  discard,
  type FilterHandler,
  insert,
  reject,
  relay,
  remove,
  replace,
  serveHook,
  set,
} from "../../../src/sdk/index.ts";
import fc from "../../support/property.ts";
import { temporaryFolder } from "../sdk/harness.ts";
import { type Run, runCommand } from "./run-command.ts";

/** Runs `warp hook-send` on a message against a filter that lives in this process. */
async function send(
  t: TestContext,
  filter: FilterHandler,
  message: string | Buffer,
  ...argv: string[]
): Promise<Run> {
  const folder = await temporaryFolder(t);
  const file = join(folder, "mail.eml");
  await writeFile(file, message);
  const stop = new AbortController();
  const server = await serveHook({
    name: "f",
    listen: `unix:${folder}/hook.sock`,
    signal: stop.signal,
    onError: () => undefined,
    beforeRelay: filter,
  });
  t.after(() => server.close(0));
  return run(server.address, file, ...argv.map((word) => word.replace("FOLDER", folder)));
}

const run = (...argv: string[]) => runCommand("hook-send", ...argv);

const MAIL =
  "From: A <a@example.org>\r\nTo: b@example.net, C <c@example.net>\r\nSubject: hi\r\nX-Old: 1\r\n\r\nhello\r\n.\r\n";

test("shows verdict, findings and the diff of the message that would leave", async (t) => {
  const filter: FilterHandler = () =>
    addHeader([insert("X-Score", "4.2"), set("Subject", "[SPAM] hi"), remove("X-Old"), add("X-End", "e")], {
      score: 4.2,
      tags: ["A", "B"],
      note: "seen",
    });
  const { status, stdout } = await send(t, filter, MAIL, "--output", "FOLDER/out.eml");
  assert.equal(status, 0);
  assert.match(
    stdout,
    /^verdict {2}add_header\nscore {4}4\.2\ntags {5}A, B\nnote {5}seen\ntime {5}[\d.]+ ms\n\n/,
  );
  assert.match(
    stdout,
    /@@ -1,7 \+1,8 @@\n\+X-Score: 4\.2\n From: A .*\n To: .*\n-Subject: hi\n-X-Old: 1\n\+Subject: \[SPAM\] hi\n\+X-End: e\n \n hello\n \.\n$/,
  );
});

test("what the hook says cannot forge lines, nor reach the terminal", async (t) => {
  const filter: FilterHandler = () => relay({ tags: ["\x1b[31m"], note: "a\nverdict  reject\x1b]0;x\x07" });
  const { stdout } = await send(t, filter, MAIL);
  assert.match(stdout, /^tags {5}\\x1b\[31m\nnote {5}a\\nverdict {2}reject\\x1b\]0;x\\x07\n/m);
});

test("a replacement may have the long lines of the message and no others, as in the proxy", async (t) => {
  const long = `S: x\r\n\r\n${"x".repeat(2000)}\r\n`;
  const kept = await send(t, () => replace(Buffer.from(long)), long);
  assert.equal(kept.status, 0);
  const made = await send(t, () => replace(Buffer.from(long)), MAIL);
  assert.equal(made.status, 1);
  assert.match(made.stdout, /a line over 998 octets that the message did not have/);
});

test("the message arrives as RFC 5322 octets, LF made CRLF and said so", async (t) => {
  let seen = "";
  let people = "";
  const filter: FilterHandler = async (envelope, message) => {
    seen = (await message.bytes()).toString("latin1");
    people = [envelope.mailFrom, ...envelope.recipients].map((each) => each?.address).join(" ");
    return relay();
  };
  const { status, stdout } = await send(t, filter, MAIL.replaceAll("\r\n", "\n").slice(0, -1));
  assert.equal(status, 0);
  assert.equal(seen, MAIL);
  assert.equal(people, "a@example.org b@example.net c@example.net");
  assert.match(stdout, /^sent {5}with CRLF in place of 7 bare line ends\nverdict {2}relay\n/);
  assert.match(stdout, /The message would leave as it came\.\n$/);
});

test("the envelope is what the options say", async (t) => {
  let seen: unknown;
  const filter: FilterHandler = ({ mailFrom, recipients, session, discardAllowed, smtputf8 }) => {
    seen = [
      mailFrom?.address,
      recipients.map(({ address }) => address),
      session?.client?.ip,
      session?.authUser,
      discardAllowed,
      smtputf8,
    ];
    return discard();
  };
  const options = [
    "--from",
    "<>",
    "--to",
    "ü@example.net",
    "--to",
    "y@example.net",
    "--client",
    "2001:db8::7",
    "--user",
    "u",
    "--allow-discard",
  ];
  const { status, stdout } = await send(t, filter, MAIL, ...options, "--json");
  assert.deepEqual(seen, ["", ["ü@example.net", "y@example.net"], "2001:db8::7", "u", true, true]);
  assert.deepEqual([status, JSON.parse(stdout).verdict], [0, "discard"]);
});

test("says what the client would hear for a reject", async (t) => {
  const { status, stdout } = await send(t, () => reject("550 5.7.1 No"), MAIL);
  assert.equal(status, 0);
  assert.match(stdout, /^verdict {2}reject: 550 5\.7\.1 No\n/);
});

test("writes a replacement octet for octet", async (t) => {
  const folder = await temporaryFolder(t);
  const filter: FilterHandler = async (_envelope, message) =>
    replace(Buffer.from((await message.bytes()).toString("latin1").replace("hello", "bye \xe9"), "latin1"));
  const { status, stdout } = await send(t, filter, MAIL, "--output", join(folder, "out"));
  assert.equal(status, 0);
  assert.equal((await readFile(join(folder, "out"))).toString("latin1"), MAIL.replace("hello", "bye \xe9"));
  assert.match(stdout, /-hello\n\+bye \\xe9\n/);
});

test("a hook that fails, or answers what is invalid, is exit status 1 with the reason", async (t) => {
  const failing = await send(t, () => Promise.reject(new Error("no database")), MAIL);
  assert.equal(failing.status, 1);
  assert.match(failing.stdout, /^failed {3}INTERNAL: no database\n/);
  const invalid = await send(t, () => ({ verdict: { case: "reject", value: { code: 250 } } }), MAIL);
  assert.equal(invalid.status, 1);
  assert.match(invalid.stdout, /^failed {3}invalid verdict: reject with code 250/);
});

test("wrong usage is exit status 2", async () => {
  assert.equal((await run("unix:/x", "/nonexistent")).status, 2);
  assert.equal((await run("unix:/x", "/dev/null", "--client", "x")).status, 2);
});

test("unified diff", async (t) => {
  const message = fc
    .array(fc.constantFrom("a", "b", "c", "", "d\n", "é"), { maxLength: 40 })
    .map((lines) => lines.join("\r\n"));
  await t.test("applied to one message gives the other, whatever they are", () => {
    fc.assert(
      fc.property(message, message, (before, after) => {
        const a = Buffer.from(before);
        const diff = unifiedDiff(a, Buffer.from(after), "a", "b");
        assert.deepEqual(patched(before, diff), after);
      }),
      { numRuns: 500 },
    );
  });
  await t.test("is short where the change is", () => {
    const lines = Array.from({ length: 1000 }, (_, index) => `line ${index}\r\n`);
    const diff = unifiedDiff(
      Buffer.from(lines.join("")),
      Buffer.from(lines.with(500, "new\r\n").join("")),
      "a",
      "b",
    );
    assert.equal(diff.split("\n").length, 2 + 1 + 8 + 1);
    assert.match(diff, /@@ -498,7 \+498,7 @@/);
  });
  await t.test("stays bounded where everything differs", () => {
    const made = (word: string) =>
      Buffer.from(Array.from({ length: 3000 }, (_, index) => `${word}${index}\r\n`).join(""));
    const diff = unifiedDiff(made("a"), made("b"), "a", "b");
    assert.equal(diff.split("\n").filter((line) => /^[-+]/.test(line)).length, 6002);
  });
  await t.test("never hands control characters to the terminal", () => {
    const diff = unifiedDiff(Buffer.from("a\r\n"), Buffer.from("\x1b[2J\x07\u0085é\r\n"), "a", "b");
    assert.match(diff, /\+\\x1b\[2J\\x07\\x85é\n/);
  });
});

/** Applies a unified diff as `patch` does; a line end is CRLF, but for a last line that is marked. */
function patched(before: string, diff: string): string {
  const source = before.split("\r\n");
  if (source.at(-1) === "") source.pop();
  else source.push(`${source.pop()}\0`);
  const visible = (line: string) => line.replaceAll("\n", "\\x0a");
  const out: string[] = [];
  let at = 0;
  for (const line of diff.split("\n").slice(2, -1)) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? /.exec(line);
    if (hunk) {
      const start = Number(hunk[1]) - (hunk[2] === "0" ? 0 : 1);
      out.push(...source.slice(at, start));
      at = start;
    } else if (line.startsWith("\\")) {
      if (out.at(-1) !== undefined && !out.at(-1)!.endsWith("\0") && lastWasNew) out.push(`${out.pop()}\0`);
    } else if (line.startsWith("+")) {
      out.push(line.slice(1).replaceAll("\\x0a", "\n"));
    } else {
      assert.equal(visible(source[at]!.replace(/\0$/, "")), line.slice(1));
      if (line.startsWith(" ")) out.push(source[at]!);
      at++;
    }
    lastWasNew = line.startsWith("+");
  }
  out.push(...source.slice(at));
  return out.map((line) => (line.endsWith("\0") ? line.slice(0, -1) : `${line}\r\n`)).join("");
}
let lastWasNew = false;
