/** TLS on both sides of the proxy, with a Postfix that insists on it, and policies that a destination does not meet. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import { makeMessage } from "./message.ts";
import { Postfix } from "./postfix.ts";
import type { Taken } from "./programs/destination.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("postfix", "openssl", "swaks");

describe("TLS through warp", { skip }, () => {
  let lab: Lab;
  let host: Namespace;
  let mx: Namespace;
  let certificate: Certificate;
  let encrypted: Program;
  let plain: Program;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    mx = lab.namespace("mx");
    lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", ["192.0.2.20/24", "192.0.2.30/24"]);
    certificate = makeCertificate(lab, "mx.destination.example");
    encrypted = startDestination("192.0.2.20", certificate);
    plain = startDestination("192.0.2.30", undefined);
    await Promise.all([encrypted.line(/ready/), plain.line(/ready/)]);
  });
  after(() => lab.end());

  function startDestination(ip: string, tls: Certificate | undefined): Program {
    const options = { listen: [ip], port: 25, hostname: "mx.destination.example", ...tls };
    return mx.startNode("test/netns/programs/destination.ts", JSON.stringify(options));
  }

  function startClient(name: string, route: string, settings: Record<string, string>): Promise<Postfix> {
    const routes = { "destination.example": route };
    return Postfix.start(lab, host, { name, hostname: "out.sender.example", routes, settings });
  }

  async function takenBy(program: Program, id: string): Promise<Taken> {
    return JSON.parse(await program.line(new RegExp(`"id":"${id}"`))) as Taken;
  }

  it("serves a client that insists on encryption, with the operator's certificate", async () => {
    const own = makeCertificate(lab, "warp.example");
    const warp = await Warp.start(lab, host, { flags: ["--tls-cert", own.cert, "--tls-key", own.key] });
    const settings = { smtp_tls_security_level: "encrypt", smtp_tls_loglevel: "1" };
    const client = await startClient("insists", "smtp:[192.0.2.20]", settings);
    await client.submit(
      "a@sender.example",
      ["bob@destination.example"],
      makeMessage("insists", 20_000).octets,
    );
    const [delivery] = await client.delivered(1);
    await warp.stop();
    assert.match(delivery ?? "", /status=sent/);
    assert.ok(client.program.lines.some((line) => /TLS connection established to 192\.0\.2\.20/.test(line)));
    const message = await takenBy(encrypted, "insists");
    assert.equal(message.intact, true);
    assert.notEqual(message.tls, "");
  });

  it("leaves a client without mail where it insists and warp has no certificate", async () => {
    const warp = await Warp.start(lab, host);
    const client = await startClient("in-vain", "smtp:[192.0.2.20]", { smtp_tls_security_level: "encrypt" });
    await client.submit("a@sender.example", ["bob@destination.example"], makeMessage("in-vain", 100).octets);
    const [delivery] = await client.delivered(1);
    await warp.stop();
    assert.match(delivery ?? "", /status=deferred .*TLS is required/);
  });

  it("falls back to plaintext under may, at a destination without TLS", async () => {
    const warp = await Warp.start(lab, host);
    const client = await startClient("may", "smtp:[192.0.2.30]", {});
    await client.submit("a@sender.example", ["bob@destination.example"], makeMessage("may", 100).octets);
    const [delivery] = await client.delivered(1);
    await warp.stop();
    assert.match(delivery ?? "", /status=sent/);
    assert.equal((await takenBy(plain, "may")).tls, "");
  });

  it("sends nothing in plaintext under encrypt: the client goes on to the next host", async () => {
    const warp = await Warp.start(lab, host, { flags: ["--upstream-tls", "encrypt"] });
    const client = await startClient("encrypt", "smtp:[192.0.2.30], [192.0.2.20]", {});
    await client.submit("a@sender.example", ["bob@destination.example"], makeMessage("encrypt", 100).octets);
    const [delivery] = await client.delivered(1);
    await warp.stop();
    assert.match(delivery ?? "", /relay=192\.0\.2\.20.* status=sent/);
    assert.notEqual((await takenBy(encrypted, "encrypt")).tls, "");
    assert.ok(
      client.program.lines.some((line) => /192\.0\.2\.30.*421 4\.7\.4/.test(line)),
      "no 421 4.7.4 was logged",
    );
    assert.ok(!plain.lines.some((line) => line.includes('"id":"encrypt"')));
  });

  it("relays port 465 untouched: the client's TLS is the destination's", async () => {
    const options = { listen: ["192.0.2.20"], port: 465, hostname: "mx.destination.example", implicit: true };
    const implicit = mx.startNode(
      "test/netns/programs/destination.ts",
      JSON.stringify({ ...options, ...certificate }),
    );
    await implicit.line(/ready/);
    const warp = await Warp.start(lab, host, { config: "capture: { ports: [25, 465] }\n" });
    const envelope = ["--from", "a@sender.example", "--to", "bob@destination.example", "--data", "-"];
    const args = ["--server", "192.0.2.20", "--port", "465", "--tlsc", "--tls-get-peer-cert", ...envelope];
    const input = makeMessage("opaque", 20_000).octets.subarray(0, -2);
    const done = await host.complete("swaks", args, { input });
    const sessions = await warp.sessions();
    await warp.stop();
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.equal((await takenBy(implicit, "opaque")).intact, true);
    assert.equal(sessions, 1);
    assert.doesNotMatch(warp.program.lines.join("\n"), /MAIL FROM/);
  });

  for (const [name, outcome] of [
    ["mx.destination.example", /status=sent/],
    ["other.example", /status=deferred .*421 4\.7\.5/],
  ] as const) {
    it(`under verify asks for the name ${name}`, async () => {
      const config = `tls:\n  - { policy: verify, names: [${name}], ca: ${certificate.cert} }\n`;
      const warp = await Warp.start(lab, host, { config });
      const id = `verify-${name}`;
      const client = await startClient(id, "smtp:[192.0.2.20]", {});
      await client.submit("a@sender.example", ["bob@destination.example"], makeMessage(id, 100).octets);
      const [delivery] = await client.delivered(1);
      await warp.stop();
      assert.match(delivery ?? "", outcome);
    });
  }
});
