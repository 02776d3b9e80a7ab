/**
 * warp on a gateway between a sending host and its destinations: captured in PREROUTING, by TPROXY (where the
 * destination sees the client's own address, if the operator wants) and by REDIRECT.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type Certificate, makeCertificate } from "./certificate.ts";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import { makeMessage } from "./message.ts";
import { Postfix } from "./postfix.ts";
import type { Taken } from "./programs/destination.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("postfix", "swaks", "openssl");

const keepsTheClient = `
capture: { mode: tproxy }
clients: [self, 198.51.100.0/24, "2001:db8:1::/48"]
rules:
  - { name: default, source: client }
`;
const usesItsOwn = `
capture: { mode: tproxy }
clients: [self, 198.51.100.0/24, "2001:db8:1::/48"]
rules:
  - { name: default, source: system }
`;
const redirects = `
listen: ["[::]:10025"]
clients: [198.51.100.0/24, "2001:db8:1::/48"]
`;

describe("a gateway with warp", { skip }, () => {
  let lab: Lab;
  let gateway: Namespace;
  let mx: Namespace;
  let sender: Namespace;
  let certificate: Certificate;
  let destination: Program;
  let client: Postfix;
  let warp: Warp | undefined;

  before(async () => {
    lab = new Lab();
    sender = lab.namespace("sender");
    gateway = lab.namespace("gateway");
    mx = lab.namespace("mx");
    lab.link(sender, "eth0", ["198.51.100.2/24", "2001:db8:1::2/64"], gateway, "lan", [
      "198.51.100.1/24",
      "2001:db8:1::1/64",
    ]);
    lab.link(gateway, "wan", ["192.0.2.1/24", "2001:db8::1/64"], mx, "eth0", [
      "192.0.2.10/24",
      "2001:db8::10/64",
    ]);
    gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    for (const [namespace, ipv4, ipv6] of [
      [sender, "198.51.100.1", "2001:db8:1::1"],
      [mx, "192.0.2.1", "2001:db8::1"],
    ] as const) {
      namespace.run("ip", "route", "add", "default", "via", ipv4);
      namespace.run("ip", "-6", "route", "add", "default", "via", ipv6);
    }
    certificate = makeCertificate(lab, "mx.destination.example");
    const options = {
      listen: ["192.0.2.10", "2001:db8::10"],
      port: 25,
      hostname: "mx.destination.example",
      ...certificate,
    };
    destination = mx.startNode("test/netns/programs/destination.ts", JSON.stringify(options));
    await destination.line(/ready/);
    client = await Postfix.start(lab, sender, {
      name: "client",
      hostname: "out.sender.example",
      routes: { "four.example": "smtp:[192.0.2.10]", "six.example": "smtp:[2001:db8::10]" },
      settings: { smtp_tls_security_level: "may" },
    });
  });
  after(() => lab.end());

  /** Sends by both families and gives what arrived, IPv4 first. */
  async function exchange(name: string): Promise<[Taken, Taken]> {
    const before = client.deliveries.length;
    for (const domain of ["four", "six"]) {
      const { octets } = makeMessage(`${name}-${domain}`, 50_000);
      await client.submit("alice@sender.example", [`bob@${domain}.example`], octets);
    }
    const deliveries = (await client.delivered(before + 2)).slice(before);
    for (const line of deliveries) assert.match(line, /status=sent/);
    const all = destination.lines
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Taken);
    const find = (id: string) => all.find((message) => message.id === id);
    const [four, six] = [find(`${name}-four`), find(`${name}-six`)];
    assert.ok(four?.intact && six?.intact);
    assert.notEqual(four.tls, "");
    assert.notEqual(six.tls, "");
    assert.deepEqual([...((await warp?.destinations()) ?? [])].sort(), [
      "192.0.2.10:25",
      "[2001:db8::10]:25",
    ]);
    return [four, six];
  }

  async function during(config: string, body: () => Promise<void>): Promise<void> {
    warp = await Warp.start(lab, gateway, { config });
    try {
      await body();
    } finally {
      await warp.stop();
      warp = undefined;
    }
  }

  it("by TPROXY keeps the client's address towards the destination, in both families", async () => {
    await during(keepsTheClient, async () => {
      const [four, six] = await exchange("tproxy-client");
      assert.equal(four.peer, "198.51.100.2");
      assert.equal(six.peer, "2001:db8:1::2");
    });
  });

  it("by TPROXY uses the gateway's own address where the rule says system", async () => {
    await during(usesItsOwn, async () => {
      const [four, six] = await exchange("tproxy-system");
      assert.equal(four.peer, "192.0.2.1");
      assert.equal(six.peer, "2001:db8::1");
    });
  });

  it("by TPROXY takes over the sockets of a process that had another mode", async () => {
    const listen = 'listen: ["[::]:10025"]';
    const before = await Warp.start(lab, gateway, { config: listen, capture: false });
    await during(`${listen}${usesItsOwn}`, async () => {
      assert.equal(await before.program.ended, 0);
      const [four, six] = await exchange("tproxy-inherited");
      assert.equal(four.peer, "192.0.2.1");
      assert.equal(six.peer, "2001:db8::1");
    });
  });

  it("by TPROXY captures the gateway's own mail too", async () => {
    await during(keepsTheClient, async () => {
      const id = "tproxy-own";
      const args = [
        "--server",
        "192.0.2.10",
        "--from",
        "a@sender.example",
        "--to",
        "bob@four.example",
        "--data",
        "-",
      ];
      const input = makeMessage(id, 100).octets.subarray(0, -2);
      const done = await gateway.complete("swaks", args, { input });
      assert.equal(done.status, 0, done.stdout + done.stderr);
      assert.equal(await warp?.sessions(), 1);
      const line = await destination.line(new RegExp(`"id":"${id}"`));
      assert.equal((JSON.parse(line) as Taken).peer, "192.0.2.1");
    });
  });

  it("by REDIRECT serves both families from one dual-stack listener, from its own address", async () => {
    await during(redirects, async () => {
      const [four, six] = await exchange("redirect");
      assert.equal(four.peer, "192.0.2.1");
      assert.equal(six.peer, "2001:db8::1");
    });
  });

  it("refuses a client of no configured network with a 4xx that it can try again after", async () => {
    const config = `
listen: ["[::]:10025"]
clients: [203.0.113.0/24]
`;
    await during(config, async () => {
      // Sent there by hand: the rules would never capture it.
      const args = [
        "--server",
        "198.51.100.1:10025",
        "--from",
        "a@sender.example",
        "--to",
        "bob@four.example",
      ];
      const done = await sender.complete("swaks", args);
      assert.match(done.stdout, /421 4\.7\.1/);
    });
  });
});
