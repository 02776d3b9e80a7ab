/** The whole way: an SMTP client, the proxy, `warp hook rspamd`, a real Rspamd, and a destination that takes everything. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createTransport } from "nodemailer";
import { SMTPServer } from "smtp-server";
import { freePort, hasRspamd, type Rspamd, startRspamd } from "./rspamd-server.ts";

const missing = hasRspamd() ? false : "rspamd is missing";
if (missing && process.env.CI === "true") throw new Error(missing);

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
const received: string[] = [];
const children: ChildProcess[] = [];
let rspamd: Rspamd;
let destination: SMTPServer;
let folder: string;
let port: number;

before(async () => {
  if (missing) return;
  folder = await mkdtemp(`${tmpdir()}/warp-rspamd-proxy-`);
  rspamd = await startRspamd();
  destination = new SMTPServer({
    disabledCommands: ["AUTH", "STARTTLS"],
    onData(stream, _session, done) {
      let message = "";
      stream.setEncoding("latin1").on("data", (text: string) => {
        message += text;
      });
      stream.on("end", () => {
        received.push(message);
        done();
      });
    },
  });
  const server = destination.listen(0, "127.0.0.1");
  await once(server, "listening");
  await start(["hook", "rspamd", "--url", rspamd.url, "--listen", `unix:${folder}/hook.sock`], "listens to");
  port = await freePort();
  const to = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const flags = ["--ip", "127.0.0.1", "--port", String(port), "--destination", to];
  await start([...flags, "--filter", `rspamd=unix:${folder}/hook.sock`], "listens to");
});
after(async () => {
  if (missing) return;
  for (const child of children.reverse()) {
    if (child.exitCode !== null) continue;
    const closed = once(child, "close");
    child.kill("SIGTERM");
    await closed;
  }
  await new Promise<void>((resolve) => destination.close(() => resolve()));
  await rspamd.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Starts warp and waits until it says that it listens. */
function start(argv: string[], ready: string): Promise<void> {
  const child = spawn(process.execPath, [main, ...argv], { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let said = "";
  return new Promise((resolve, reject) => {
    const heard = (text: string): void => {
      said += text;
      if (said.includes(ready)) resolve();
    };
    child.stdout.setEncoding("utf8").on("data", heard);
    child.stderr.setEncoding("utf8").on("data", heard);
    child.once("close", (status) =>
      reject(new Error(`warp ${argv.join(" ")} ended with ${status}:\n${said}`)),
    );
  });
}

/** The reply to the end of data. */
async function send(fields: string[], body: string): Promise<string> {
  const transport = createTransport({ host: "127.0.0.1", port, secure: false, ignoreTLS: true });
  const raw = [...fields, "From: a@example.org", "To: b@example.net", "Subject: hi", "", body, ""].join(
    "\r\n",
  );
  const envelope = { from: "a@example.org", to: ["b@example.net"] };
  try {
    return (await transport.sendMail({ envelope, raw })).response;
  } catch (error) {
    return (error as { response?: string }).response ?? String(error);
  } finally {
    transport.close();
  }
}

test("mail through the proxy, judged by Rspamd", { skip: missing }, async (t) => {
  await t.test("an ordinary message arrives as it was sent", async () => {
    assert.match(await send([], "hello"), /^250 /);
    assert.equal(received.length, 1);
    assert.equal(received[0], "From: a@example.org\r\nTo: b@example.net\r\nSubject: hi\r\n\r\nhello\r\n");
  });
  await t.test("GTUBE is refused in Rspamd's words, and never reaches the destination", async () => {
    assert.equal(await send([], GTUBE), "550 5.7.1 Gtube pattern");
    assert.equal(received.length, 1);
  });
  await t.test("spam arrives marked, with the sender's own marks taken out", async () => {
    assert.match(await send(["X-Test-Score: 7", "X-Spam: No"], "hello"), /^250 /);
    assert.equal(received.length, 2);
    assert.match(received[1]!, /^X-Spam-Score: 7\r\nX-Spam: Yes\r\nX-Test-Score: 7\r\nFrom:/);
    assert.doesNotMatch(received[1]!, /X-Spam: No/);
  });
  await t.test("without Rspamd the client is told to try again, and nothing passes unfiltered", async () => {
    await rspamd.stop();
    assert.match(await send([], "hello"), /^451 4\.7\.1 /);
    assert.equal(received.length, 2);
  });
});
