/**
 * A filter in Python and one in Go in one chain, in front of a captured Postfix: mail from Postfix, swaks and a plain
 * socket to a Postfix behind STARTTLS, by DATA and BDAT, pipelined.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { buildGoExamples } from "../clients/support/hooks.ts";
import { environment, unavailable } from "../clients/support/program.ts";
import { makeCertificate } from "./certificate.ts";
import { Lab, labUnavailable, type Namespace } from "./lab.ts";
import { makeMessage, type ReceivedMessage } from "./message.ts";
import { Postfix } from "./postfix.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("postfix", "swaks", "openssl") || unavailable("python3", "go");
const refusal = "550 5.7.1 Message contains a payment card number";
const card = Buffer.from("From: <alice@sender.example>\r\nSubject: x\r\n\r\nCard 4111 1111 1111 1111\r\n");
const from = "alice@sender.example";
const to = "bob@four.example";

describe("filters in Python and Go before the mail of a Postfix", { skip }, () => {
  let lab: Lab;
  let host: Namespace;
  let proxy: Warp;
  let client: Postfix;
  let destination: Postfix;

  before(
    async () => {
      lab = new Lab();
      host = lab.namespace("host");
      const mx = lab.namespace("mx");
      lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", ["192.0.2.10/24"]);
      destination = await Postfix.start(lab, mx, {
        name: "destination",
        hostname: "mx.destination.example",
        domains: ["four.example"],
        listen: ["192.0.2.10"],
        certificate: makeCertificate(lab, "mx.destination.example"),
      });
      client = await Postfix.start(lab, host, {
        name: "client",
        hostname: "out.sender.example",
        routes: { "four.example": "smtp:[192.0.2.10]" },
      });
      await buildGoExamples(lab.folder);
      const [tagger, dlp] = [`unix:${lab.folder}/tagger`, `unix:${lab.folder}/dlp.sock`];
      const python = ["clients/python/examples/header_tagger.py", tagger];
      await host.start("python3", python, { PATH: environment.PATH }).line(/listens on/);
      await host.start(`${lab.folder}/dlp`, [dlp]).line(/listens on/);
      const flags = ["--filter", `tagger=${tagger}`, "--filter", `dlp=${dlp}`, "--upstream-tls", "encrypt"];
      proxy = await Warp.start(lab, host, { flags });
    },
    { timeout: 300_000 },
  );
  after(() => lab.end());

  function assertPassed(found: readonly ReceivedMessage[], ids: readonly string[]): void {
    assert.deepEqual(found.map(({ id }) => id).sort(), [...ids].sort());
    for (const { claimed, header, id, found: sum } of found) {
      assert.equal(sum, claimed, id);
      assert.match(header, /^X-Spam-Score: 0\.0$/m, id);
      assert.match(header, /\(using TLSv1\.[23] with cipher/, id);
    }
  }

  it("Postfix: mail of every size arrives whole and tagged, a card number bounces", async () => {
    const sizes = [0, 1000, 100_000, 9_000_000];
    for (const size of sizes) await client.submit(from, [to], makeMessage(`postfix-${size}`, size).octets);
    await client.submit(from, [to], card);
    // The bounce to the sender is a delivery too.
    const toBob = () => client.deliveries.filter((line) => line.includes(`to=<${to}>`));
    const enough = () => (toBob().length > sizes.length ? toBob() : undefined);
    const deliveries = await client.program.until(enough, "deliveries to bob", 60_000);
    const refused = deliveries.filter((line) => !line.includes("status=sent"));
    assert.equal(refused.length, 1, deliveries.join("\n"));
    assert.match(refused.join("\n"), new RegExp(`said: ${refusal}`));
    const arrived = await destination.arrived("postfix-", sizes.length);
    assertPassed(
      arrived,
      sizes.map((size) => `postfix-${size}`),
    );
  });

  for (const [name, args] of [
    ["command by command", []],
    ["pipelining", ["--pipeline"]],
  ] as const) {
    it(`swaks, ${name}: the message arrives tagged, a card number is refused`, async () => {
      const id = `swaks-${args.length}`;
      const base = ["--server", "192.0.2.10", "--from", from, "--to", to, ...args, "--data", "-"];
      const input = makeMessage(id, 3000).octets.subarray(0, -2); // swaks ends it with a CRLF of its own
      const sent = await host.complete("swaks", base, { input });
      assert.equal(sent.status, 0, sent.stdout + sent.stderr);
      assertPassed(await destination.arrived(id, 1), [id]);
      const refused = await host.complete("swaks", base, { input: card });
      assert.ok(refused.stdout.includes(refusal), refused.stdout);
    });
  }

  it("BDAT in chunks and DATA, everything in one write: what passes goes on by BDAT, over TLS", async () => {
    const envelope = `MAIL FROM:<${from}>\r\nRCPT TO:<${to}>\r\n`;
    const message = makeMessage("bdat-1", 100_000).octets.toString("latin1");
    const chunks = `BDAT 50000\r\n${message.slice(0, 50_000)}BDAT ${message.length - 50_000} LAST\r\n${message.slice(50_000)}`;
    const bad = card.toString("latin1");
    const data = makeMessage("bdat-2", 1000).octets.toString("latin1").replace(/^\./gm, "..");
    const input = [
      "EHLO client.example\r\n",
      `${envelope}${chunks}`,
      `${envelope}BDAT ${bad.length} LAST\r\n${bad}`,
      `${envelope}DATA\r\n${data}.\r\n`,
      `${envelope}DATA\r\n${bad}.\r\n`,
      "QUIT\r\n",
    ].join("");
    const before = proxy.program.lines.length;
    const talk = ["test/netns/programs/octets.ts", "192.0.2.10"];
    const done = await host.complete(process.execPath, talk, { input: Buffer.from(input, "latin1") });
    const replies = done.stdout.trim().split("\n");
    const codes = replies.map((line) => line.slice(0, 3)).join(" ");
    const data354 = "250 250 354";
    assert.equal(
      codes,
      `220 250 250 250 250 250 250 250 550 ${data354} 250 ${data354} 550 221`,
      done.stdout + done.stderr,
    );
    assert.equal(replies.filter((line) => line === refusal).length, 2);
    assertPassed(await destination.arrived("bdat-", 2), ["bdat-1", "bdat-2"]);
    const lines = proxy.program.lines.slice(before);
    assert.ok(
      lines.some((line) => /\|> BDAT \d+/.test(line)),
      lines.filter((line) => /BDAT/.test(line)).join("\n"),
    );
  });
});
