/**
 * Real mail through the real proxy, captured on the sending host itself: Postfix, swaks and smtp-source as clients,
 * Postfix, nodemailer and smtp-sink as destinations.
 */

import assert from "node:assert/strict";
import { chownSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import { makeMessage } from "./message.ts";
import { Postfix } from "./postfix.ts";
import type { Taken } from "./programs/destination.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("postfix", "swaks", "smtp-source", "smtp-sink", "openssl");
const nobody = 65534;
/** smtp-source's messages in the load test. */
const loadMessages = Number(process.env.WARP_LOAD_MESSAGES ?? 20_000);

let lab: Lab;
let host: Namespace;
let mx: Namespace;
let certificate: Certificate;
let destination: Postfix;
let nodemailer: Program;

function startNodemailer(options: { listen: string[]; tls: boolean }): Program {
  const { listen, tls } = options;
  const given = { listen, port: 25, hostname: "nodemailer.example", ...(tls ? certificate : {}) };
  return mx.startNode("test/netns/programs/destination.ts", JSON.stringify(given));
}

function taken(program: Program): Taken[] {
  return program.lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Taken);
}

const routes = {
  "four.example": "smtp:[192.0.2.10]",
  "six.example": "smtp:[2001:db8::10]",
  "node4.example": "smtp:[192.0.2.20]",
  "node6.example": "smtp:[2001:db8::20]",
  "elsewhere.example": "smtp:[192.0.2.10]",
  // Nothing listens on the first of the two.
  "second.example": "smtp:[192.0.2.40], [192.0.2.20]",
};

describe("mail of this host through warp", { skip }, () => {
  let proxy: Warp;
  let client: Postfix;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    mx = lab.namespace("mx");
    const addresses = ["10", "20", "30", "40"].flatMap((n) => [`192.0.2.${n}/24`, `2001:db8::${n}/64`]);
    lab.link(host, "eth0", ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"], mx, "eth0", addresses);
    certificate = makeCertificate(lab, "mx.destination.example");
    destination = await Postfix.start(lab, mx, {
      name: "destination",
      hostname: "mx.destination.example",
      domains: ["four.example", "six.example"],
      listen: ["192.0.2.10", "2001:db8::10"],
      certificate,
      routes: { "host.example": "smtp:[192.0.2.1]" },
    });
    nodemailer = startNodemailer({ listen: ["192.0.2.20", "2001:db8::20"], tls: true });
    await nodemailer.line(/ready/);
    client = await Postfix.start(lab, host, {
      name: "client",
      hostname: "out.sender.example",
      domains: ["host.example"],
      listen: ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"],
      routes,
      settings: {
        smtp_tls_security_level: "may",
        smtp_tls_loglevel: "1",
        mynetworks: "127.0.0.0/8 [::1]/128",
      },
    });
    proxy = await Warp.start(lab, host);
  });
  after(() => lab.end());

  it("arrives whole and encrypted, from 0 octets to 10 MB, at two kinds of destination, by both families", async () => {
    const sizes = [0, 1000, 100_000, 10_000_000];
    const domains = ["four", "six", "node4", "node6"];
    for (const size of sizes) {
      for (const domain of domains) {
        const { octets } = makeMessage(`size-${size}-${domain}`, size);
        await client.submit("alice@sender.example", [`bob@${domain}.example`], octets);
      }
    }
    const deliveries = await client.delivered(16);
    assert.deepEqual(
      deliveries.filter((line) => !line.includes("status=sent")),
      [],
    );

    const atPostfix = await destination.arrived("size-", 8);
    assert.equal(atPostfix.length, 8);
    assert.deepEqual(
      atPostfix.filter(({ claimed, found }) => claimed !== found),
      [],
    );
    for (const { header, id } of atPostfix) assert.match(header, /\(using TLSv1\.[23] with cipher/, id);

    const atNodemailer = taken(nodemailer).filter(({ id }) => id.startsWith("size-"));
    assert.equal(atNodemailer.length, 8);
    assert.deepEqual(
      atNodemailer.filter(({ intact, tls }) => !intact || tls === ""),
      [],
    );
    // An MTA that picks its own address keeps it.
    assert.deepEqual([...new Set(atNodemailer.map(({ peer }) => peer))].sort(), ["192.0.2.1", "2001:db8::1"]);
    assert.deepEqual([...new Set(atNodemailer.map(({ helo }) => helo))], ["out.sender.example"]);

    const destinations = await proxy.destinations();
    for (const address of ["192.0.2.10", "[2001:db8::10]", "192.0.2.20", "[2001:db8::20]"])
      assert.ok(destinations.has(`${address}:25`), `${address} in ${[...destinations].join(" ")}`);
    // The client itself saw no STARTTLS: the encryption is warp's.
    assert.deepEqual(
      client.program.lines.filter((line) => /smtp\[.*TLS connection established/.test(line)),
      [],
    );
    assert.equal(client.queued(), 0);
  });

  it("reuses a connection for several messages, as the client likes", async () => {
    const before = client.deliveries.length;
    const sessionsBefore = await proxy.sessions();
    for (let n = 0; n < 20; n++) {
      await client.submit(
        "alice@sender.example",
        ["bob@four.example"],
        makeMessage(`reuse-${n}`, 500).octets,
      );
    }
    const deliveries = (await client.delivered(before + 20)).slice(before);
    assert.equal(deliveries.filter((line) => line.includes("status=sent")).length, 20);
    assert.ok(
      deliveries.some((line) => /conn_use=\d/.test(line)),
      "no connection was used twice",
    );
    assert.ok((await proxy.sessions()) - sessionsBefore < 20);
    const arrived = await destination.arrived("reuse-", 20);
    assert.equal(new Set(arrived.map(({ id }) => id)).size, 20);
    assert.equal(arrived.length, 20);
    assert.deepEqual(
      arrived.filter(({ claimed, found }) => claimed !== found),
      [],
    );
  });

  it("lets the client go on to the next host where a destination is dead", async () => {
    const before = client.deliveries.length;
    await client.submit(
      "alice@sender.example",
      ["bob@second.example"],
      makeMessage("second-host", 100).octets,
    );
    const [delivery] = (await client.delivered(before + 1)).slice(before);
    assert.match(delivery ?? "", /relay=192\.0\.2\.20.*status=sent/);
    assert.ok(
      client.program.lines.some((line) => /192\.0\.2\.40.*421.4\.4\.1/.test(line)),
      "no 421 4.4.1 was logged",
    );
  });

  it("does not touch inbound mail to this host's own port 25, nor local submission", async () => {
    const sessionsBefore = await proxy.sessions();
    const before = client.deliveries.length;
    await destination.submit(
      "carol@four.example",
      ["dave@host.example"],
      makeMessage("inbound", 1000).octets,
    );
    await client.delivered(before + 1);
    const servers = ["127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"];
    for (const [n, server] of servers.entries()) {
      const args = ["-f", `local-${n}@host.example`, "-t", "dave@host.example", `${server}:25`];
      const done = await host.complete("smtp-source", args);
      assert.equal(done.status, 0, done.stderr);
    }
    await client.delivered(before + 5);
    const senders = client.received().map(({ header }) => /^Return-Path: <(.*)@/m.exec(header)?.[1]);
    assert.deepEqual(senders.sort(), ["carol", "local-0", "local-1", "local-2", "local-3"]);
    assert.equal(await proxy.sessions(), sessionsBefore);
  });

  for (const [name, args] of [
    ["plainly", []],
    ["pipelined", ["--pipeline"]],
    ["by HELO alone", ["--protocol", "SMTP"]],
    ["with several recipients", ["--to", "b@node4.example,c@node4.example,d@node4.example"]],
    ["from the null sender", ["--from", "<>"]],
  ] as const) {
    it(`relays swaks ${name}`, async () => {
      const id = `swaks-${name.replaceAll(" ", "-")}`;
      const base = ["--server", "192.0.2.20", "--from", "a@sender.example", "--to", "bob@node4.example"];
      // swaks ends the message with a CRLF of its own.
      const input = makeMessage(id, 3000).octets.subarray(0, -2);
      const done = await host.complete("swaks", [...base, ...args, "--data", "-"], { input });
      assert.equal(done.status, 0, done.stdout + done.stderr);
      const [message] = taken(nodemailer).filter((each) => each.id === id);
      assert.equal(message?.intact, true);
      assert.notEqual(message?.tls, "");
    });
  }

  it("keeps the address that a client chose among this host's", async () => {
    const base = ["--server", "192.0.2.20", "--from", "a@sender.example", "--to", "bob@node4.example"];
    const input = makeMessage("second-address", 100).octets.subarray(0, -2);
    const done = await host.complete("swaks", [...base, "--local-interface", "192.0.2.2", "--data", "-"], {
      input,
    });
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.equal(taken(nodemailer).find(({ id }) => id === "second-address")?.peer, "192.0.2.2");
  });

  it("hands a destination's refusal to the client as it is", async () => {
    const before = client.deliveries.length;
    await client.submit(
      "alice@sender.example",
      ["bob@elsewhere.example"],
      makeMessage("refused", 100).octets,
    );
    const [delivery] = (await client.delivered(before + 1)).slice(before);
    assert.match(
      delivery ?? "",
      /status=bounced .*host 192\.0\.2\.10\[192\.0\.2\.10\] said: 554 5\.7\.1 <bob@elsewhere\.example>: Relay access denied/,
    );
  });

  it("offers no STARTTLS to a client without a certificate of its own", async () => {
    const args = ["--server", "192.0.2.20", "--from", "a@b.example", "--to", "bob@node4.example", "-tls"];
    const done = await host.complete("swaks", args);
    assert.notEqual(done.status, 0);
    assert.match(done.stdout + done.stderr, /STARTTLS not supported|host did not advertise STARTTLS/i);
  });

  it("refuses a direct connection to its own port", async () => {
    const args = ["--server", "127.0.0.1:10025", "--from", "a@b.example", "--to", "bob@node4.example"];
    const done = await host.complete("swaks", args);
    assert.notEqual(done.status, 0);
    assert.match(done.stdout, /<\*\* 421 4\.3\.5 /);
  });

  it("carries 20 parallel sessions of smtp-source without losing, doubling or changing a message", async () => {
    const folder = join(lab.folder, "sink");
    mkdirSync(folder);
    chownSync(folder, nobody, nobody);
    const sink = mx.start("smtp-sink", [
      "-u",
      "nobody",
      "-m",
      "1000",
      "-d",
      join(folder, "m."),
      "192.0.2.30:25",
      "600",
    ]);
    // A message that went there directly is what all the others have to be like.
    const send = (...args: string[]) =>
      host.complete(
        "smtp-source",
        ["-l", "4096", "-f", "a@sender.example", "-t", "b@sink.example", ...args, "192.0.2.30:25"],
        {
          timeoutMs: 300_000,
        },
      );
    await until(
      async () =>
        (
          await mx.complete("smtp-source", [
            "-m",
            "1",
            "-l",
            "4096",
            "-f",
            "a@sender.example",
            "-t",
            "b@sink.example",
            "192.0.2.30:25",
          ])
        ).status === 0,
    );
    const reference = sinkFiles(folder)[0]!;
    const referenceNames = new Set(readdirSync(folder));

    const sessionsBefore = await proxy.sessions();
    const done = await send("-s", "20", "-m", String(loadMessages));
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.equal((await proxy.sessions()) - sessionsBefore, loadMessages);
    const files = sinkFiles(folder, referenceNames);
    await sink.stop();
    assert.equal(files.length, loadMessages);
    assert.equal(new Set(files.map(({ messageId }) => messageId)).size, loadMessages, "a message came twice");
    assert.deepEqual([...new Set(files.map(({ rest }) => rest))], [reference.rest]);
  });
});

/** What smtp-sink kept: the Message-ID, and the message without what differs from one to the next. */
function sinkFiles(folder: string, but: ReadonlySet<string> = new Set()) {
  return readdirSync(folder)
    .filter((name) => !but.has(name))
    .map((name) => {
      const text = readFileSync(join(folder, name), "latin1");
      const message = text.slice(text.search(/^From: /m));
      const messageId = /^Message-Id: (.*)$/im.exec(message)?.[1] ?? "";
      const rest = message.replace(/^(Message-Id|Date): .*$/gim, "$1:");
      return { messageId, rest };
    });
}

/** Asks again until the answer is yes: for servers that do not say when they are ready. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it never was so");
}
