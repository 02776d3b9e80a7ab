/** Real TLS towards a destination: what each policy makes of certificates, old protocols and broken handshakes. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import * as tls from "node:tls";
import { folder, freePort, Warp } from "../process/warp.ts";
import { authority, greeted, RawClient, type TlsDestination, tlsDestination } from "./peers.ts";

interface Set {
  readonly warp: Warp;
  readonly port: number;
  readonly destination: TlsDestination;
}

describe("TLS towards the destination", { timeout: 120_000 }, () => {
  it("verifies chain and name with the authority that the rule names, and says the name in SNI", async (test) => {
    const dir = folder(test);
    const own = authority(dir, "own");
    const { port, destination } = await set(test, dir, own.issue("DNS:mx.partner.example"), [
      `{ policy: verify, names: [mx.partner.example], ca: ${own.ca} }`,
    ]);
    const client = await greeted(port);
    assert.match(await client.say("MAIL FROM:<a@example.com>"), /^250 ok/);
    assert.deepEqual(
      destination.sessions.map(({ servername, secure }) => [servername, secure]),
      [["mx.partner.example", true]],
    );
  });

  for (const [name, names, authorities] of [
    ["another name", "[other.example]", "own"],
    ["another authority", "[mx.partner.example]", "foreign"],
    ["the system's authorities", "[mx.partner.example]", "system"],
  ] as const) {
    it(`refuses with 421 4.7.5 where the rule asks for ${name}`, async (test) => {
      const dir = folder(test);
      const own = authority(dir, "own");
      const foreign = authority(dir, "foreign");
      const ca = authorities === "system" ? "" : `, ca: ${authorities === "own" ? own.ca : foreign.ca}`;
      const { port, destination } = await set(test, dir, own.issue("DNS:mx.partner.example"), [
        `{ policy: verify, names: ${names}${ca} }`,
      ]);
      const client = new RawClient(port);
      await client.reply();
      assert.match(await client.say("EHLO client.example"), /^421 4\.7\.5 /);
      await client.untilClosed();
      assert.equal(destination.sessions.length, 1);
    });
  }

  it("an authority that one rule names is trusted by that rule alone", async (test) => {
    const dir = folder(test);
    const own = authority(dir, "own");
    const { port } = await set(test, dir, own.issue("DNS:mx.partner.example"), [
      `{ match: { recipient_domain: [a.example] }, policy: verify, names: [mx.partner.example], ca: ${own.ca} }`,
      `{ match: { recipient_domain: [b.example] }, policy: verify, names: [mx.partner.example] }`,
      `{ policy: may }`,
    ]);
    const client = await greeted(port);
    await client.say("MAIL FROM:<a@example.com>");
    assert.match(await client.say("RCPT TO:<x@a.example>"), /^250 /);
    assert.match(await client.say("RCPT TO:<x@b.example>"), /^451 4\.7\.5 /);
    assert.match(await client.say("RCPT TO:<x@c.example>"), /^250 /);
  });

  it("an IP as the name needs an address in the certificate, and is never said in SNI", async (test) => {
    const dir = folder(test);
    const own = authority(dir, "own");
    const { port, destination } = await set(test, dir, own.issue("IP:127.0.0.1"), [
      `{ policy: verify, names: ["127.0.0.1"], ca: ${own.ca} }`,
    ]);
    const client = await greeted(port);
    assert.match(await client.say("MAIL FROM:<a@example.com>"), /^250 ok/);
    assert.equal(destination.sessions[0]?.servername, "");
  });

  it("may takes what the peer has, down to TLS 1.0; encrypt does not", async (test) => {
    const dir = folder(test);
    const old: tls.SecureContextOptions = {
      minVersion: "TLSv1",
      maxVersion: "TLSv1",
      ciphers: "DEFAULT:@SECLEVEL=0",
    };
    const own = authority(dir, "own");
    const may = await set(test, dir, own.issue("DNS:x"), [`{ policy: may }`], old);
    const client = await greeted(may.port);
    assert.match(await client.say("MAIL FROM:<a@example.com>"), /^250 ok/);
    assert.equal(may.destination.sessions[0]?.secure, true);

    const encrypt = await set(test, dir, own.issue("DNS:x"), [`{ policy: encrypt }`], old);
    const refused = new RawClient(encrypt.port);
    await refused.reply();
    assert.match(await refused.say("EHLO client.example"), /^421 4\.7\.4 /);
  });

  it("may delivers in plaintext on a new connection where the handshake breaks; the log says why", async (test) => {
    const dir = folder(test);
    const own = authority(dir, "own");
    const { port, destination, warp } = await set(
      test,
      dir,
      own.issue("DNS:x"),
      [`{ policy: may }`],
      {},
      true,
    );
    const client = await greeted(port);
    await client.say("MAIL FROM:<a@example.com>");
    await client.say("RCPT TO:<b@example.net>");
    await client.say("DATA");
    assert.match(await client.say("Subject: s\r\n\r\nhello\r\n."), /^250 taken/);
    assert.deepEqual(
      destination.sessions.map(({ secure, mail }) => [secure, mail.length > 0]),
      [
        [false, false],
        [false, true],
      ],
    );
    await warp.record("tls_fallback");
    assert.equal((await warp.record("delivery")).tls, "none");
  });
});

async function set(
  test: { after(run: () => unknown): void },
  dir: string,
  certificate: { cert: Buffer; key: Buffer },
  rules: readonly string[],
  context: tls.SecureContextOptions = {},
  broken = false,
): Promise<Set> {
  const destination = await tlsDestination({
    context: tls.createSecureContext({ ...certificate, ...context }),
    broken,
  });
  test.after(() => destination.close());
  const port = await freePort();
  const config = join(dir, `warp-${port}.yaml`);
  writeFileSync(
    config,
    `listen: ["127.0.0.1:${port}"]\ncapture: { mode: fixed, destination: "127.0.0.1:${destination.port}" }\ntls:\n${rules.map((rule) => `  - ${rule}\n`).join("")}`,
  );
  const warp = await Warp.start(["--config", config]);
  test.after(() => warp.stop("SIGKILL"));
  return { warp, port, destination };
}
