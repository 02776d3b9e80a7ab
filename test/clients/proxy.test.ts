/**
 * Hooks in Python and Go behind the real proxy: filters of both in one chain, audit logs of both beside it, routes; mail
 * by DATA and BDAT, pipelined, over TLS, from swaks, nodemailer and a plain socket.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import nodemailer from "nodemailer";
import { SMTPServer } from "smtp-server";
import { Destination } from "./support/destination.ts";
import { buildGoExamples, type Language, languages, Running } from "./support/hooks.ts";
import { finished, type Program, unavailable } from "./support/program.ts";
import { talk } from "./support/talk.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-clients-"));
const other: Record<Language, Language> = { python: "go", go: "python" };
const refusal = "550 5.7.1 Message contains a payment card number";
const good = "From: ann@example.org\r\nSubject: Hello\r\nX-Spam-Score: -99\r\n\r\nHello!\r\n..two dots\r\n";
const card = Buffer.from("Card 4111-1111-1111-1111").toString("base64");
const bad = `From: ann@example.org\r\nSubject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n${card}\r\n`;

const envelope = (from = "ann@example.org") => `MAIL FROM:<${from}>\r\nRCPT TO:<bob@example.test>\r\n`;
const byData = (message: string) => `${envelope()}DATA\r\n${message.replace(/^\./gm, "..")}.\r\n`;
const byBdat = (message: string) => {
  const half = Math.floor(message.length / 2);
  const rest = message.length - half;
  return `${envelope()}BDAT ${half}\r\n${message.slice(0, half)}BDAT ${rest} LAST\r\n${message.slice(half)}`;
};
const session = (...transactions: string[]) => `EHLO client.example\r\n${transactions.join("")}QUIT\r\n`;

/** The tagger in one language, the DLP filter in the other, in this order. */
async function chain(running: Running, tagger: Language): Promise<string[]> {
  const first = await running.example(tagger, "header-tagger");
  const second = await running.example(other[tagger], "dlp");
  return ["--filter", `tagger=${first.address}`, "--filter", `dlp=${second.address}`];
}

describe("hooks of both clients behind the proxy", {
  skip: unavailable("python3", "go", "swaks", "openssl"),
}, () => {
  before(() => buildGoExamples(folder), { timeout: 300_000 });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const tagger of languages) {
    it(`tagger in ${tagger}, DLP in ${other[tagger]}: DATA and BDAT, all pipelined in one write`, async () => {
      await using destination = await Destination.start();
      await using running = new Running(folder);
      const filters = await chain(running, tagger);
      const { port } = await running.proxy(["--destination", destination.address, ...filters]);
      const replies = await talk(
        port,
        session(byData(good), byData(bad), byBdat(good), byBdat(bad), byData(good)),
      );
      const codes = replies.map((line) => line.slice(0, 3)).join(" ");
      const data = "250 250 354";
      assert.equal(
        codes,
        `220 250 ${data} 250 ${data} 550 250 250 250 250 250 250 250 550 ${data} 250 221`,
        replies.join("\n"),
      );
      assert.equal(replies.filter((line) => line === refusal).length, 2);
      assert.deepEqual(
        destination.received.map((one) => one.by),
        ["DATA", "BDAT", "DATA"],
      );
      for (const { message, from, to } of destination.received) {
        assert.deepEqual({ from, to }, { from: "ann@example.org", to: ["bob@example.test"] });
        assert.equal(
          message,
          good.replace(/^/, "X-Spam-Score: 1.5\r\n").replace("X-Spam-Score: -99\r\n", ""),
        );
      }
    });
  }

  it("encrypted on both sides, from swaks: the header arrives, the card number does not", async () => {
    const received: { readonly message: string; readonly secure: boolean }[] = [];
    const destination = new SMTPServer({
      authOptional: true,
      onData(stream, state, done) {
        let message = "";
        stream.setEncoding("latin1").on("data", (text: string) => {
          message += text;
        });
        stream.on("end", () => {
          received.push({ message, secure: state.secure });
          done();
        });
      },
    });
    destination.listen(0, "127.0.0.1");
    await once(destination.server, "listening");
    const at = destination.server.address() as AddressInfo;
    const [key, cert] = [join(folder, "tls.key"), join(folder, "tls.crt")];
    const make = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
    ];
    const made = await finished("openssl", [...make, "-subj", "/CN=proxy", "-keyout", key, "-out", cert]);
    assert.equal(made.status, 0, made.output);
    try {
      await using running = new Running(folder);
      const filters = await chain(running, "python");
      const tls = ["--tls-cert", cert, "--tls-key", key, "--upstream-tls", "encrypt"];
      const { port } = await running.proxy(["--destination", `127.0.0.1:${at.port}`, ...tls, ...filters]);
      const swaks = (...more: string[]) =>
        finished("swaks", [
          ...[
            "--server",
            `127.0.0.1:${port}`,
            "--tls",
            "--from",
            "ann@example.org",
            "--to",
            "bob@example.test",
          ],
          ...more,
        ]);
      const sent = await swaks("--body", "Hello");
      assert.equal(sent.status, 0, sent.output);
      const refused = await swaks("--body", "Card 4111 1111 1111 1111");
      assert.notEqual(refused.status, 0);
      assert.ok(refused.output.includes(refusal), refused.output);
      assert.deepEqual(
        received.map((one) => one.secure),
        [true],
      );
      assert.match(received[0]?.message ?? "", /^X-Spam-Score: \d\.\d\r\n/);
    } finally {
      await new Promise<void>((resolve) => destination.close(resolve));
    }
  });

  it("from nodemailer: ten megabytes pass, a card number in an attachment does not", async () => {
    await using destination = await Destination.start();
    await using running = new Running(folder);
    const filters = await chain(running, "go");
    const limit = ["--message-size-limit", "20000000"];
    const { port } = await running.proxy(["--destination", destination.address, ...limit, ...filters]);
    const transport = nodemailer.createTransport({
      host: "127.0.0.1",
      port,
      tls: { rejectUnauthorized: false },
    });
    const mail = { from: "ann@example.org", to: "bob@example.test", subject: "Files", text: "See there." };
    const attach = (content: string | Buffer) => [
      { filename: "cards.csv", contentType: "text/csv", content },
    ];
    const octets = 10 * 1024 * 1024;
    await transport.sendMail({ ...mail, attachments: attach(Buffer.alloc(octets, "name;city\r\n")) });
    await assert.rejects(
      transport.sendMail({ ...mail, attachments: attach("name,number\r\nBob,5555555555554444\r\n") }),
      (error: Error & { response?: string }) => error.response === refusal,
    );
    transport.close();
    assert.equal(destination.received.length, 1);
    assert.ok((destination.received[0]?.message.length ?? 0) > octets);
  });

  it("audit logs in both languages are complete and the same, though one is killed in between", async () => {
    await using destination = await Destination.start();
    await using running = new Running(folder);
    const files = { python: join(folder, "python.jsonl"), go: join(folder, "go.jsonl") };
    const audits = {
      python: await running.example("python", "audit", ["--file", files.python]),
      go: await running.example("go", "audit", ["--file", files.go]),
    };
    const dlp = await running.example("go", "dlp");
    const observers = languages.flatMap((name) => ["--observer", `${name}=${audits[name].address}`]);
    const flags = ["--filter", `dlp=${dlp.address}`, ...observers, "--journal", join(folder, "journal")];
    const { program: proxy, port } = await running.proxy(["--destination", destination.address, ...flags]);
    const send = async (count: number) => {
      for (let sent = 0; sent < count; sent += 1) await talk(port, session(byData(good), byData(bad)));
    };
    await send(10);
    await audits.python.program.stop("SIGKILL");
    await send(10);
    await running.example("python", "audit", ["--file", files.python]);
    await send(5);
    const logs = { python: await transactions(files.python, 50), go: await transactions(files.go, 50) };
    assert.equal(await proxy.stop(), 0, proxy.output);
    const ids = (name: Language) => logs[name].map((line) => line.id);
    assert.equal(new Set(ids("go")).size, 50, "none twice");
    assert.deepEqual(ids("python"), ids("go"));
    assert.equal(logs.go.filter((line) => line.outcome === "accepted").length, destination.received.length);
    assert.equal(logs.go.filter((line) => line.outcome === "filtered").length, 25);
    for (const [index, line] of logs.python.entries()) {
      const { at: _, ...rest } = line;
      const { at: __, ...same } = logs.go[index] ?? {};
      assert.deepEqual(rest, same);
    }
  });

  for (const language of languages) {
    it(`routes in ${language}: bulk mail leaves from its pool, a suspended sender is refused`, async () => {
      await using destination = await Destination.start();
      await using running = new Running(folder);
      const flags = ["--bulk-domain", "news.example", "--suspended", "bad.example"];
      const { address } = await running.example(language, "route", flags);
      const config = join(folder, "routes.yaml");
      writeFileSync(
        config,
        [
          "pools:",
          "  shared: { ips: [{ ip: 127.0.0.2 }] }",
          "  bulk: { ips: [{ ip: 127.0.0.3 }] }",
          "rules:",
          "  - { name: default, pool: shared }",
          "",
        ].join("\n"),
      );
      const options = [
        "--config",
        config,
        "--destination",
        destination.address,
        "--hook",
        `route=${address}`,
      ];
      const { program, port } = await running.proxy(options);
      await program.line(/hook_up/);
      const mail = (from: string) => `${envelope(from)}DATA\r\n${good}.\r\n`;
      await talk(port, session(mail("x@news.example")));
      await talk(port, session(mail("x@else.example")));
      const refused = await talk(port, session("MAIL FROM:<x@bad.example>\r\n"));
      assert.deepEqual(
        destination.received.map((one) => [one.from, one.peer]),
        [
          ["x@news.example", "127.0.0.3"],
          ["x@else.example", "127.0.0.2"],
        ],
        program.output,
      );
      assert.ok(refused.includes("451 4.7.1 Sender is suspended for now"), refused.join("\n"));
    });
  }

  it("a filter that is killed makes the client try again, and the next one serves", async () => {
    await using destination = await Destination.start();
    await using running = new Running(folder);
    const dlp = await running.example("python", "dlp");
    const flags = ["--filter", `dlp=${dlp.address}`];
    const { program, port } = await running.proxy(["--destination", destination.address, ...flags]);
    await dlp.program.stop("SIGKILL");
    const during = await talk(port, session(byData(good)));
    assert.ok(
      during.some((line) => line.startsWith("451 4.7.1")),
      during.join("\n"),
    );
    assert.deepEqual(destination.received, []);
    await running.example("go", "dlp", [], dlp.address);
    await backUp(program);
    const replies = await talk(port, session(byData(good), byData(bad)));
    assert.ok(replies.includes(refusal), replies.join("\n"));
    assert.equal(destination.received.length, 1);
  });
});

/** The hook's second greeting; the log says each with one line. */
async function backUp(program: Program): Promise<void> {
  await program.line(/hook_down[\s\S]*hook_up/);
}

interface AuditLine {
  readonly kind?: string;
  readonly id?: string;
  readonly at?: string;
  readonly outcome?: string;
}

/** The transactions in a log (beside notices), once there are so many (within half a minute). */
async function transactions(file: string, count: number): Promise<AuditLine[]> {
  const end = Date.now() + 30_000;
  for (;;) {
    const text = readFileSync(file, "utf8");
    const whole = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
    const lines = whole.filter((line) => line !== "").map((line) => JSON.parse(line) as AuditLine);
    const found = lines.filter((line) => line.kind === "after_transaction");
    if (found.length >= count) return found;
    if (Date.now() > end) throw new Error(`${found.length} transactions of ${count} in ${file}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
