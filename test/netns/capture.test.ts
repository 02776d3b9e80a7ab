/**
 * The capture alone, without SMTP: what `warp rules` applies brings exactly the right connections to the listener, and
 * the addon says where they were going. The server `mx` answers directly where a connection was not captured.
 */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { Lab, labUnavailable, type Namespace, root } from "./lab.ts";

const port = 10025;
const mark = 0x77;
const skip = labUnavailable("iptables", "setpriv", "socat");

interface Answer {
  readonly captured?: string;
  readonly reached?: string;
  readonly peer?: string;
  readonly local?: string;
  readonly error?: string;
}

/** What `warp rules` is told; the same flags as the proxy's. */
interface Flags {
  readonly mode?: "redirect" | "tproxy";
  /** Default: the proxy's own, both loopback addresses. */
  readonly ip?: readonly string[];
  /** Default: this host. */
  readonly client?: readonly string[];
}

function wordsOf(flags: Flags): readonly string[] {
  return [
    ...(flags.mode === undefined ? [] : ["--mode", flags.mode]),
    ...(flags.ip ?? []).flatMap((ip) => ["--ip", ip]),
    ...(flags.client ?? []).flatMap((client) => ["--client", client]),
  ];
}

function rules(namespace: Namespace, flags: Flags, ...args: string[]) {
  const words = [...wordsOf(flags), ...args];
  return namespace.attempt(process.execPath, [`${root}/src/cli/main.ts`, "rules", ...words]);
}

/** Where the listeners of the stand-in have to be. */
function listenersOf(flags: Flags): readonly string[] {
  return flags.ip ?? ["127.0.0.1", "::1"];
}

async function apply(namespace: Namespace, given: Flags, ...args: string[]): Promise<void> {
  const done = rules(namespace, given, "--apply", ...args);
  assert.equal(done.status, 0, done.stderr);
}

async function connect(namespace: Namespace, ip: string, ...options: string[]): Promise<Answer> {
  const args = [`${root}/test/netns/programs/connect.ts`, ip, "25", ...options];
  const done = await namespace.complete(process.execPath, args);
  return JSON.parse(done.stdout) as Answer;
}

/** Rules without their counters, in an order that does not depend on which chain was made first. */
function normalized(ruleset: string): string[] {
  return ruleset
    .replace(/packets \d+ bytes \d+/g, "")
    .split("\n")
    .sort();
}

/** Not every kernel has ip6tables' REDIRECT. */
function ip6tablesRedirects(namespace: Namespace): boolean {
  const test = [
    "-t",
    "nat",
    "-A",
    "OUTPUT",
    "-p",
    "tcp",
    "--dport",
    "9",
    "-j",
    "REDIRECT",
    "--to-ports",
    "9",
  ];
  if (namespace.attempt("ip6tables", test).status !== 0) return false;
  namespace.run("ip6tables", ...test.map((word) => (word === "-A" ? "-D" : word)));
  return true;
}

describe("capture of this host's connections", { skip }, () => {
  let lab: Lab;
  let host: Namespace;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    const mx = lab.namespace("mx");
    const mxAddresses = ["192.0.2.10/24", "192.0.2.20/24", "2001:db8::10/64"];
    lab.link(host, "eth0", ["192.0.2.1/24", "2001:db8::1/64"], mx, "eth0", mxAddresses);
    const bare = mxAddresses.map((address) => address.split("/")[0]!);
    const servers = [
      mx.startNode("test/netns/programs/answer.ts", "25", ...bare),
      host.startNode("test/netns/programs/answer.ts", "25", "192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"),
    ];
    await Promise.all(servers.map((server) => server.line(/ready/)));
  });
  after(() => lab.end());

  for (const { form, args } of [
    { form: "nftables", args: [] as string[] },
    { form: "iptables", args: ["--iptables"] },
  ]) {
    describe(`by ${form}`, () => {
      let listeners: { stop(): Promise<number> }[] = [];
      let given: Flags = {};
      let ipv6 = true;

      before(async () => {
        ipv6 = form === "nftables" || ip6tablesRedirects(host);
        given = ipv6 ? {} : { ip: ["127.0.0.1"] };
        const started = listenersOf(given).map((ip) =>
          host.startNode("test/netns/programs/original-destination.ts", ip, String(port)),
        );
        listeners = started;
        await Promise.all(started.map((listener) => listener.line(/ready/)));
        await apply(host, given, "--uid", "65534", ...args);
      });
      after(async () => {
        assert.equal(rules(host, given, "--remove").status, 0);
        await Promise.all(listeners.map((listener) => listener.stop()));
      });

      it("brings an IPv4 connection to the listener, which learns where it was going", async () => {
        const answer = await connect(host, "192.0.2.10");
        assert.equal(answer.captured, "192.0.2.10 25");
        // Its peer is the host's public address, which is why client networks default to this host's own.
        assert.equal(answer.peer, "192.0.2.1");
        assert.equal((await connect(host, "192.0.2.20")).captured, "192.0.2.20 25");
      });

      it("brings an IPv6 connection to the listener, which learns where it was going", async () => {
        const answer = await connect(host, "2001:db8::10");
        if (!ipv6) {
          assert.equal(answer.reached, "2001:db8::10", "without an IPv6 listener there is no IPv6 rule");
          return;
        }
        assert.equal(answer.captured, "2001:db8::10 25");
        assert.equal(answer.peer, "2001:db8::1");
      });

      it("leaves destinations alone that are this host: its MX and local submission", async () => {
        assert.equal((await connect(host, "192.0.2.1")).reached, "192.0.2.1");
        assert.equal((await connect(host, "127.0.0.1")).reached, "127.0.0.1");
        assert.equal((await connect(host, "2001:db8::1")).reached, "2001:db8::1");
        assert.equal((await connect(host, "::1")).reached, "::1");
      });

      it("lets warp's own connections pass by their mark, and no other mark's", async () => {
        assert.equal((await connect(host, "192.0.2.10", `mark=${mark}`)).reached, "192.0.2.10");
        assert.equal((await connect(host, "192.0.2.10", "mark=120")).captured, "192.0.2.10 25");
        assert.equal((await connect(host, "2001:db8::10", `mark=${mark}`)).reached, "2001:db8::10");
      });

      it("lets the connections of warp's user pass", async () => {
        const asUser = ["--reuid", "65534", "--clear-groups", "socat", "-", "TCP4:192.0.2.10:25"];
        const done = await host.complete("setpriv", asUser);
        assert.deepEqual(JSON.parse(done.stdout), { reached: "192.0.2.10", peer: "192.0.2.1" });
      });

      it("stays the same when applied again", async () => {
        const before = host.run("nft", "list", "ruleset");
        await apply(host, given, "--uid", "65534", ...args);
        assert.deepEqual(normalized(host.run("nft", "list", "ruleset")), normalized(before));
        assert.equal((await connect(host, "192.0.2.10")).captured, "192.0.2.10 25");
      });

      it("is gone after its removal, which may be repeated", async () => {
        assert.equal(rules(host, given, "--remove").status, 0);
        assert.equal((await connect(host, "192.0.2.10")).reached, "192.0.2.10");
        assert.equal(rules(host, given, "--remove").status, 0);
        assert.doesNotMatch(host.run("nft", "list", "ruleset"), /warp/i);
      });
    });
  }

  it("reaches a dual-stack listener by both families, IPv4 destinations told as IPv4", async () => {
    const given = { ip: ["::"] };
    const listener = host.startNode("test/netns/programs/original-destination.ts", "::", String(port));
    await listener.line(/ready/);
    await apply(host, given);
    const ipv4 = await connect(host, "192.0.2.10");
    const ipv6 = await connect(host, "2001:db8::10");
    rules(host, given, "--remove");
    await listener.stop();
    assert.equal(ipv4.captured, "192.0.2.10 25");
    assert.equal(ipv4.local, `::ffff:127.0.0.1 ${port}`);
    assert.equal(ipv6.captured, "2001:db8::10 25");
  });

  it("tells a connection that nothing redirected by its own address or ENOENT", async () => {
    const listener = host.startNode("test/netns/programs/original-destination.ts", "192.0.2.1", "2525");
    await listener.line(/ready/);
    const args = [`${root}/test/netns/programs/connect.ts`, "192.0.2.1", "2525"];
    const answer = JSON.parse((await host.complete(process.execPath, args)).stdout) as Answer;
    await listener.stop();
    assert.ok(answer.captured === "192.0.2.1 2525" || answer.error === "ENOENT", JSON.stringify(answer));
  });

  it("captures TPROXY's way on this host too, with the destination as the local address", async () => {
    const given = { mode: "tproxy" } as const;
    const started = listenersOf(given).map((ip) =>
      host.startNode("test/netns/programs/original-destination.ts", ip, String(port), "transparent"),
    );
    await Promise.all(started.map((listener) => listener.line(/ready/)));
    await apply(host, given);
    const ipv4 = await connect(host, "192.0.2.10");
    const ipv6 = await connect(host, "2001:db8::10");
    const marked = await connect(host, "192.0.2.10", `mark=${mark}`);
    const own = await connect(host, "192.0.2.1");
    assert.equal(rules(host, given, "--remove").status, 0);
    const after = await connect(host, "192.0.2.10");
    const rulesAfter = host.run("ip", "rule");
    await Promise.all(started.map((listener) => listener.stop()));
    assert.equal(ipv4.local, "192.0.2.10 25");
    assert.equal(ipv4.peer, "192.0.2.1");
    assert.equal(ipv6.local, "2001:db8::10 25");
    assert.equal(marked.reached, "192.0.2.10");
    assert.equal(own.reached, "192.0.2.1");
    assert.equal(after.reached, "192.0.2.10");
    assert.doesNotMatch(rulesAfter, /fwmark/);
  });
});

describe("capture of other hosts' connections at a gateway", { skip }, () => {
  let lab: Lab;
  let sender: Namespace;
  let gateway: Namespace;
  const client = ["198.51.100.0/24", "2001:db8:1::/48"];

  before(async () => {
    lab = new Lab();
    sender = lab.namespace("client");
    gateway = lab.namespace("gateway");
    const mx = lab.namespace("mx");
    const clientAddresses = ["198.51.100.2/24", "2001:db8:1::2/64"];
    lab.link(sender, "eth0", clientAddresses, gateway, "lan", ["198.51.100.1/24", "2001:db8:1::1/64"]);
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
    const servers = [
      mx.startNode("test/netns/programs/answer.ts", "25", "192.0.2.10", "2001:db8::10"),
      gateway.startNode("test/netns/programs/answer.ts", "25", "198.51.100.1", "2001:db8:1::1"),
    ];
    await Promise.all(servers.map((server) => server.line(/ready/)));
  });
  after(() => lab.end());

  it("refuses rules that a loopback listener could not serve", () => {
    const done = rules(gateway, { client }, "--apply");
    assert.equal(done.status, 1);
    assert.match(
      done.stderr,
      /can receive the IPv4 connections of clients 198\.51\.100\.0\/24: listen on 0\.0\.0\.0/,
    );
    assert.doesNotMatch(gateway.run("nft", "list", "ruleset"), /warp/);
  });

  it("redirects both families to a wildcard listener, and nothing that is for the gateway", async () => {
    const given = { client, ip: ["::"] };
    const listener = gateway.startNode("test/netns/programs/original-destination.ts", "::", String(port));
    await listener.line(/ready/);
    await apply(gateway, given);
    const ipv4 = await connect(sender, "192.0.2.10");
    const ipv6 = await connect(sender, "2001:db8::10");
    const toGateway = await connect(sender, "198.51.100.1");
    const toGateway6 = await connect(sender, "2001:db8:1::1");
    rules(gateway, given, "--remove");
    await listener.stop();
    assert.equal(ipv4.captured, "192.0.2.10 25");
    assert.equal(ipv4.peer, "::ffff:198.51.100.2");
    assert.equal(ipv6.captured, "2001:db8::10 25");
    assert.equal(ipv6.peer, "2001:db8:1::2");
    assert.equal(toGateway.reached, "198.51.100.1");
    assert.equal(toGateway6.reached, "2001:db8:1::1");
  });

  it("redirects to a listener on the address of the interface that clients come in by", async () => {
    const given = { client, ip: ["198.51.100.1", "2001:db8:1::1"] };
    const started = given.ip.map((ip) =>
      gateway.startNode("test/netns/programs/original-destination.ts", ip, String(port)),
    );
    await Promise.all(started.map((listener) => listener.line(/ready/)));
    await apply(gateway, given);
    const ipv4 = await connect(sender, "192.0.2.10");
    const ipv6 = await connect(sender, "2001:db8::10");
    rules(gateway, given, "--remove");
    await Promise.all(started.map((listener) => listener.stop()));
    assert.equal(ipv4.captured, "192.0.2.10 25");
    assert.equal(ipv6.captured, "2001:db8::10 25");
  });

  it("refuses a listener on an interface's second address, whose label is no interface", () => {
    gateway.run("ip", "addr", "add", "198.51.100.9/24", "dev", "lan", "label", "lan:1");
    const done = rules(gateway, { client: ["198.51.100.0/24"], ip: ["198.51.100.9"] }, "--apply");
    gateway.run("ip", "addr", "del", "198.51.100.9/24", "dev", "lan");
    assert.equal(done.status, 1, done.stdout);
    assert.match(done.stderr, /can receive the IPv4 connections of clients 198\.51\.100\.0\/24/);
  });

  it("lets hosts pass that are in no client network", async () => {
    const given = { client: ["203.0.113.0/24"], ip: ["::"] };
    await apply(gateway, given);
    const answer = await connect(sender, "192.0.2.10");
    rules(gateway, given, "--remove");
    assert.deepEqual(answer, { reached: "192.0.2.10", peer: "198.51.100.2" });
  });

  for (const { form, args } of [
    { form: "nftables", args: [] as string[] },
    { form: "iptables", args: ["--iptables"] },
  ]) {
    it(`hands both families over by TPROXY to loopback listeners, by ${form}`, async () => {
      const given = { mode: "tproxy", client } as const;
      const started = listenersOf(given).map((ip) =>
        gateway.startNode("test/netns/programs/original-destination.ts", ip, String(port), "transparent"),
      );
      await Promise.all(started.map((listener) => listener.line(/ready/)));
      await apply(gateway, given, ...args);
      const ipv4 = await connect(sender, "192.0.2.10");
      const ipv6 = await connect(sender, "2001:db8::10");
      const toGateway = await connect(sender, "198.51.100.1");
      assert.equal(rules(gateway, given, "--remove").status, 0);
      await Promise.all(started.map((listener) => listener.stop()));
      assert.equal(ipv4.local, "192.0.2.10 25");
      assert.equal(ipv4.peer, "198.51.100.2");
      assert.equal(ipv6.local, "2001:db8::10 25");
      assert.equal(ipv6.peer, "2001:db8:1::2");
      assert.equal(toGateway.reached, "198.51.100.1");
    });

    it(`lets nothing pass while nobody listens behind TPROXY, by ${form}`, async () => {
      const given = { mode: "tproxy", client } as const;
      await apply(gateway, given, ...args);
      const answers = await Promise.all(
        [sender, gateway].flatMap((from) => [connect(from, "192.0.2.10"), connect(from, "2001:db8::10")]),
      );
      const toGateway = await connect(sender, "198.51.100.1");
      assert.equal(rules(gateway, given, "--remove").status, 0);
      assert.deepEqual(answers, new Array(4).fill({ error: "ETIMEDOUT" }));
      assert.equal(toGateway.reached, "198.51.100.1");
    });
  }

  for (const { title, given, addresses, forms } of [
    {
      title: "by TPROXY",
      given: { mode: "tproxy", client },
      addresses: ["192.0.2.10", "2001:db8::10"],
      forms: [[], [], ["--iptables"], ["--iptables"], []],
    },
    {
      // Not every kernel has ip6tables' REDIRECT.
      title: "by REDIRECT",
      given: { mode: "redirect", client: ["198.51.100.0/24"], ip: ["0.0.0.0"] },
      addresses: ["192.0.2.10"],
      forms: [[], [], ["--iptables"], ["--iptables"], []],
    },
  ] as const) {
    it(`lets no connection pass while the rules are applied again, in this form or the other, ${title}`, async () => {
      const started = listenersOf(given).map((ip) =>
        gateway.startNode("test/netns/programs/original-destination.ts", ip, String(port), "transparent"),
      );
      await Promise.all(started.map((listener) => listener.line(/ready/)));
      await apply(gateway, given);
      const knocking = sender.startNode("test/netns/programs/knock.ts", ...addresses);
      await knocking.line(/ready/);
      for (const args of forms) {
        // Not by `apply`, which blocks this process: the output of the others would not be read.
        const words = ["rules", ...wordsOf(given), "--apply", ...args];
        const done = await gateway.complete(process.execPath, [`${root}/src/cli/main.ts`, ...words]);
        assert.equal(done.status, 0, done.stderr);
      }
      knocking.child.stdin?.end();
      const counts = JSON.parse(await knocking.line(/^\{/)) as Record<string, number>;
      assert.equal(rules(gateway, given, "--remove").status, 0);
      await Promise.all(started.map((listener) => listener.stop()));
      assert.deepEqual(Object.keys(counts), ["captured"], JSON.stringify(counts));
      assert.doesNotMatch(gateway.run("ip", "rule") + gateway.run("ip", "-6", "rule"), /fwmark/);
      assert.doesNotMatch(gateway.run("nft", "list", "ruleset"), /warp/i);
    });
  }

  it("leaves nothing of the mode before when another is applied, and the routes of TPROXY once", async () => {
    const listen = { client: ["198.51.100.0/24"], ip: ["0.0.0.0"] };
    for (const args of [[], ["--iptables"]]) {
      await apply(gateway, { ...listen, mode: "tproxy" }, ...args);
      await apply(gateway, { ...listen, mode: "tproxy" }, ...args);
      assert.equal(gateway.run("ip", "rule").match(/fwmark/g)?.length, 1);
      await apply(gateway, { ...listen, mode: "redirect" }, ...args);
      assert.doesNotMatch(gateway.run("ip", "rule"), /fwmark/);
      assert.doesNotMatch(gateway.run("nft", "list", "ruleset"), /tproxy/i);
      assert.match(gateway.run("nft", "list", "ruleset"), /warp/i);
    }
    assert.equal(rules(gateway, listen, "--remove").status, 0);
  });

  it("keeps the capture that is there when new rules cannot be applied", async () => {
    const given = { client, ip: ["::"] };
    await apply(gateway, given);
    const before = gateway.run("nft", "list", "ruleset");
    const failing = { env: { PATH: `${lab.folder}/failing:${process.env.PATH}` } };
    mkdirSync(`${lab.folder}/failing`);
    writeFileSync(`${lab.folder}/failing/nft`, '#!/bin/sh\n[ "$1" = list ]\n', { mode: 0o755 });
    const words = [`${root}/src/cli/main.ts`, "rules", ...wordsOf({ ...given, mode: "tproxy" }), "--apply"];
    const done = gateway.attempt(process.execPath, words, failing);
    assert.equal(done.status, 1);
    assert.match(done.stderr, /could not be applied; what was captured before still is/);
    assert.equal(gateway.run("nft", "list", "ruleset"), before);
    assert.equal(rules(gateway, given, "--remove").status, 0);
  });
});
