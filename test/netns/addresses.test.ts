/** Hosts whose addresses are not what one expects: without IPv6, and with addresses that come while warp runs. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import { makeMessage } from "./message.ts";
import type { Taken } from "./programs/destination.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("swaks");

async function withHost(
  body: (lab: Lab, host: Namespace, destination: Program) => Promise<void>,
): Promise<void> {
  const lab = new Lab();
  try {
    const host = lab.namespace("host");
    const mx = lab.namespace("mx");
    lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", ["192.0.2.20/24"]);
    const options = { listen: ["192.0.2.20"], port: 25, hostname: "mx.destination.example" };
    const destination = mx.startNode("test/netns/programs/destination.ts", JSON.stringify(options));
    await destination.line(/ready/);
    await body(lab, host, destination);
  } finally {
    await lab.end();
  }
}

async function send(host: Namespace, id: string, ...args: string[]): Promise<string> {
  const base = [
    "--server",
    "192.0.2.20",
    "--from",
    "a@sender.example",
    "--to",
    "bob@four.example",
    "--data",
    "-",
  ];
  const input = makeMessage(id, 100).octets.subarray(0, -2);
  const done = await host.complete("swaks", [...base, ...args], { input });
  assert.equal(done.status, 0, done.stdout + done.stderr);
  return done.stdout;
}

async function peerOf(destination: Program, id: string): Promise<string> {
  return (JSON.parse(await destination.line(new RegExp(`"id":"${id}"`))) as Taken).peer;
}

describe("warp by default", { skip }, () => {
  it("serves a host without IPv6 by IPv4 alone, rules included", async () => {
    await withHost(async (lab, host, destination) => {
      host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1");
      const warp = await Warp.start(lab, host);
      assert.doesNotMatch(host.run("nft", "list", "ruleset"), /ipv6/);
      await send(host, "ipv4-alone");
      assert.equal(await warp.sessions(), 1);
      assert.equal(await peerOf(destination, "ipv4-alone"), "192.0.2.1");
      await warp.stop();
    });
  });

  it("serves such a host from the dual-stack listener that it is told to have, by TPROXY", async () => {
    await withHost(async (lab, host, destination) => {
      host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1");
      const warp = await Warp.start(lab, host, { shared: ["--mode", "tproxy", "--ip", "::"] });
      assert.match(warp.rules(), /^# IPv6 is off on this host/m);
      await send(host, "ipv4-alone-tproxy");
      assert.equal(await warp.sessions(), 1);
      assert.equal(await peerOf(destination, "ipv4-alone-tproxy"), "192.0.2.1");
      await warp.stop();
    });
  });

  it("takes an address that the host gets later for one of its own", async () => {
    await withHost(async (lab, host, destination) => {
      const warp = await Warp.start(lab, host);
      host.run("ip", "address", "add", "192.0.2.9/24", "dev", "eth0");
      await send(host, "later", "--local-interface", "192.0.2.9");
      assert.equal(await warp.sessions(), 1);
      assert.equal(await peerOf(destination, "later"), "192.0.2.9");
      await warp.stop();
    });
  });

  it("refuses to relay to this host by way of its own port, whatever address a rule missed", async () => {
    await withHost(async (lab, host) => {
      host.run("ip", "address", "add", "203.0.113.5/32", "dev", "lo");
      const warp = await Warp.start(lab, host, { capture: false });
      // A rule of the operator's own, without the exception for local destinations.
      host.run("nft", "add table ip operator");
      host.run("nft", "add chain ip operator output { type nat hook output priority -100; }");
      host.run("nft", "add rule ip operator output meta mark != 0x77 tcp dport 25 redirect to :10025");
      const args = ["--server", "203.0.113.5", "--from", "a@sender.example", "--to", "bob@four.example"];
      const done = await host.complete("swaks", args);
      await warp.stop();
      assert.match(done.stdout, /<\*\* +421 4\.3\.5 /);
    });
  });
});
