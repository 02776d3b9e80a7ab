import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { planRules, RulesError, type RulesInput, type RulesNetwork } from "../../../src/net/rules.ts";
import { iptablesRemoval, iptablesScript } from "../../../src/net/rules-iptables.ts";
import { nftRuleset } from "../../../src/net/rules-nft.ts";
import { routeScript } from "../../../src/net/rules-routes.ts";

const interfaces = [
  { name: "lo", ip: "127.0.0.1" },
  { name: "lo", ip: "::1" },
  { name: "eth0", ip: "192.0.2.5" },
  { name: "eth0", ip: "192.0.2.6" },
  { name: "eth0", ip: "fe80::5" },
  { name: "eth0", ip: "2001:db8::5" },
];

const defaults: RulesInput = {
  mode: "redirect",
  ports: [25],
  listen: [
    { ip: "127.0.0.1", port: 10025 },
    { ip: "::1", port: 10025 },
  ],
  clients: { self: true, networks: [] },
  mark: 0x77,
  uid: undefined,
  interfaces,
};

function network(text: string): RulesNetwork {
  const [address = "", prefix = ""] = text.split("/");
  return { address, prefix: Number(prefix), family: address.includes(":") ? 6 : 4 };
}

function withClients(networks: readonly string[], change: Partial<RulesInput> = {}): RulesInput {
  return { ...defaults, clients: { self: true, networks: networks.map(network) }, ...change };
}

function listen(...ips: string[]): RulesInput["listen"] {
  return ips.map((ip) => ({ ip, port: 10025 }));
}

function problemsOf(input: RulesInput): readonly string[] {
  try {
    planRules(input);
  } catch (error) {
    assert.ok(error instanceof RulesError);
    return error.problems;
  }
  assert.fail("no problem was found");
}

describe("planRules for OUTPUT", () => {
  it("captures both families to the default listeners and nothing of other hosts", () => {
    const plan = planRules(defaults);
    assert.deepEqual(
      plan.output.map(({ family, to }) => [family, to.ip]),
      [
        ["ipv4", "127.0.0.1"],
        ["ipv6", "::1"],
      ],
    );
    assert.deepEqual(plan.prerouting, []);
    assert.match(plan.notes.join(), /other hosts' mail is not captured/);
  });

  it("captures one family alone where the other has no listener, and notes it", () => {
    const plan = planRules({ ...defaults, listen: listen("127.0.0.1") });
    assert.deepEqual(
      plan.output.map(({ family }) => family),
      ["ipv4"],
    );
    assert.match(plan.notes.join(), /this host's IPv6 mail is not captured: REDIRECT sends it to ::1/);
  });

  it("captures both families to one dual-stack listener", () => {
    const plan = planRules({ ...defaults, listen: listen("::") });
    assert.deepEqual(
      plan.output.map(({ family, to }) => [family, to.ip]),
      [
        ["ipv4", "::"],
        ["ipv6", "::"],
      ],
    );
  });

  it("refuses a listener that no redirected connection reaches", () => {
    assert.match(
      problemsOf({ ...defaults, listen: listen("192.0.2.5") }).join(),
      /IPv4 mail is not captured/,
    );
    assert.match(
      problemsOf({ ...defaults, listen: listen("127.0.0.2") }).join(),
      /neither there nor on 0\.0\.0\.0/,
    );
  });

  it("takes any listener of the family with TPROXY", () => {
    const plan = planRules({ ...defaults, mode: "tproxy", listen: listen("192.0.2.5") });
    assert.deepEqual(plan.output, [{ family: "ipv4", to: { ip: "192.0.2.5", port: 10025 } }]);
  });

  it("leaves this host alone where clients means others only", () => {
    const others = { self: false, networks: [network("10.0.0.0/8")] };
    const plan = planRules({ ...defaults, clients: others, listen: listen("0.0.0.0") });
    assert.deepEqual(plan.output, []);
    assert.equal(plan.prerouting.length, 1);
  });

  it("captures this host where one of its addresses is in a client network", () => {
    const others = { self: false, networks: [network("192.0.2.0/24")] };
    const plan = planRules({ ...defaults, clients: others, listen: listen("0.0.0.0") });
    assert.equal(plan.output.length, 1);
  });

  it("does not insist on this host where clients names it only by a network around it", () => {
    const others = { self: false, networks: [network("192.0.2.0/24")] };
    const plan = planRules({ ...defaults, clients: others, listen: listen("192.0.2.5") });
    assert.deepEqual(plan.output, []);
    assert.match(plan.notes.join(), /this host's IPv4 mail is not captured/);
  });

  it("needs something that exempts warp itself", () => {
    assert.match(problemsOf({ ...defaults, mark: 0 }).join(), /nothing exempts warp's own connections/);
    assert.equal(planRules({ ...defaults, mark: 0, uid: 990 }).uid, 990);
  });
});

describe("planRules with listeners of both families on one port", () => {
  it("sends IPv4 to the IPv4 one, since :: is IPv6 alone then", () => {
    const plan = planRules(withClients(["10.0.0.0/8"], { mode: "tproxy", listen: listen("::", "0.0.0.0") }));
    assert.equal(plan.prerouting[0]?.to.ip, "0.0.0.0");
    assert.match(
      problemsOf(withClients(["10.0.0.0/8"], { listen: listen("::", "127.0.0.1") })).join(),
      /can receive the IPv4 connections/,
    );
  });
});

describe("planRules on a host without IPv6", () => {
  for (const mode of ["redirect", "tproxy"] as const) {
    it(`plans IPv4 alone, and says that IPv6 is off, with ${mode}`, () => {
      const ipv4 = interfaces.filter(({ ip }) => !ip.includes(":"));
      const clients = ["10.0.0.0/8", "2001:db8:1::/48"];
      const plan = planRules(withClients(clients, { mode, listen: listen("::"), interfaces: ipv4 }));
      const captured = [...plan.output, ...plan.prerouting].map(({ family, to }) => [family, to.ip]);
      assert.deepEqual(captured, [
        ["ipv4", "::"],
        ["ipv4", "::"],
      ]);
      assert.deepEqual(plan.notes, [
        "IPv6 is off on this host (no interface has such an address): nothing of it is captured",
      ]);
    });
  }
});

describe("planRules for PREROUTING", () => {
  it("refuses loopback listeners, naming networks and listeners", () => {
    assert.deepEqual(problemsOf(withClients(["10.0.0.0/8"])), [
      "no listener (127.0.0.1:10025, [::1]:10025) can receive the IPv4 connections of clients 10.0.0.0/8: listen on 0.0.0.0 or ::, or on the address of the interface that they come in by",
    ]);
  });

  it("captures networks of both families to a dual-stack listener", () => {
    const plan = planRules(withClients(["10.0.0.0/8", "2001:db8:1::/48"], { listen: listen("::") }));
    assert.deepEqual(
      plan.prerouting.map(({ family, inInterface }) => [family, inInterface]),
      [
        ["ipv4", undefined],
        ["ipv6", undefined],
      ],
    );
  });

  it("is limited to the interface whose first address the listener has", () => {
    const plan = planRules(withClients(["10.0.0.0/8"], { listen: listen("127.0.0.1", "192.0.2.5") }));
    assert.equal(plan.prerouting[0]?.inInterface, "eth0");
    const ipv6 = planRules(withClients(["2001:db8:1::/48"], { listen: listen("127.0.0.1", "2001:db8::5") }));
    assert.equal(ipv6.prerouting[0]?.inInterface, "eth0");
  });

  it("refuses a listener on an interface's second address, which REDIRECT never chooses", () => {
    const problems = problemsOf(withClients(["10.0.0.0/8"], { listen: listen("127.0.0.1", "192.0.2.6") }));
    assert.match(problems.join(), /192\.0\.2\.6:10025\) can receive/);
  });

  it("takes this host's own addresses for OUTPUT's", () => {
    const plan = planRules(withClients(["127.0.0.0/8", "::1/128", "192.0.2.5/32"]));
    assert.deepEqual(plan.prerouting, []);
  });

  it("leaves out networks inside others, and repeated ones", () => {
    const inside = ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "2001:db8:1:2::/64", "2001:db8:1::/48"];
    const plan = planRules(withClients(inside, { listen: listen("::") }));
    assert.deepEqual(
      plan.prerouting.flatMap(({ networks }) =>
        networks.map(({ address, prefix }) => `${address}/${prefix}`),
      ),
      ["10.0.0.0/8", "2001:db8:1::/48"],
    );
  });
});

describe("nftRuleset", () => {
  it("captures this host's mail to ports in order, with the exemptions first", () => {
    const text = nftRuleset(planRules({ ...defaults, ports: [465, 25, 25], uid: 990 }));
    assert.equal(
      text,
      `table inet warp
delete table inet warp

table inet warp {
	chain output {
		type nat hook output priority -100; policy accept;
		meta mark 0x00000077 return
		meta skuid 990 return
		fib daddr type local return
		meta nfproto ipv4 tcp dport { 25, 465 } redirect to :10025
		meta nfproto ipv6 tcp dport { 25, 465 } redirect to :10025
	}
}
`,
    );
  });

  it("captures client networks, and local destinations never", () => {
    const plan = planRules(withClients(["10.0.0.0/8", "172.16.0.0/12"], { listen: listen("0.0.0.0") }));
    const text = nftRuleset(plan);
    const prerouting = text.slice(text.indexOf("chain prerouting"));
    assert.match(
      prerouting,
      /fib daddr type local return\n\t\tip saddr \{ 10\.0\.0\.0\/8, 172\.16\.0\.0\/12 \} tcp dport \{ 25 \} redirect to :10025\n/,
    );
  });

  it("says everybody without a set", () => {
    const plan = planRules(withClients(["0.0.0.0/0"], { listen: listen("0.0.0.0") }));
    assert.match(
      nftRuleset(plan),
      /\t\tmeta nfproto ipv4 tcp dport \{ 25 \} redirect to :10025\n\t\}\n\}\n$/,
    );
  });

  it("marks for TPROXY with a bit that is none of warp's own", () => {
    const plan = planRules(withClients(["10.0.0.0/8"], { mode: "tproxy", mark: 0x177 }));
    assert.equal(plan.divertBit, 0x200);
    const text = nftRuleset(plan);
    assert.match(
      text,
      /ip saddr \{ 10\.0\.0\.0\/8 \} tcp dport \{ 25 \} tproxy ip to 127\.0\.0\.1:10025 meta mark set meta mark \| 0x00000200 accept/,
    );
    assert.match(text, /meta mark 0x00000177 return\n\t\tfib daddr type local return/);
  });

  it("drops behind TPROXY what no listener has taken", () => {
    const plan = planRules(withClients(["10.0.0.0/8"], { mode: "tproxy", listen: listen("127.0.0.1") }));
    assert.deepEqual(nftRuleset(plan).match(/\S.* (?=tproxy|drop)/gm), [
      "iif lo meta mark & 0x00000100 == 0x00000100 meta nfproto ipv4 tcp dport { 25 } ",
      "iif lo meta mark & 0x00000100 == 0x00000100 meta nfproto ipv4 tcp dport { 25 } ",
      "ip saddr { 10.0.0.0/8 } tcp dport { 25 } ",
      "ip saddr { 10.0.0.0/8 } tcp dport { 25 } ",
    ]);
  });
});

describe("iptablesScript", () => {
  it("says the same in chains of its own", () => {
    assert.deepEqual(iptablesScript(planRules({ ...defaults, listen: listen("127.0.0.1"), uid: 990 })), [
      "iptables-restore -w --noflush <<'END'",
      "*nat",
      ":WARP_OUTPUT - [0:0]",
      "-A WARP_OUTPUT -m mark --mark 0x00000077 -j RETURN",
      "-A WARP_OUTPUT -m owner --uid-owner 990 -j RETURN",
      "-A WARP_OUTPUT -m addrtype --dst-type LOCAL -j RETURN",
      "-A WARP_OUTPUT -p tcp -m multiport --dports 25 -j REDIRECT --to-ports 10025",
      "COMMIT",
      "END",
      "iptables -w -t nat -C OUTPUT -p tcp -j WARP_OUTPUT 2>/dev/null || iptables -w -t nat -A OUTPUT -p tcp -j WARP_OUTPUT",
    ]);
  });

  it("uses ip6tables for IPv6 and names interface and networks", () => {
    const plan = planRules(
      withClients(["2001:db8:1::/48"], {
        listen: listen("::1", "2001:db8::5"),
        clients: { self: false, networks: [network("2001:db8:1::/48")] },
      }),
    );
    assert.deepEqual(iptablesScript(plan).slice(0, 5), [
      "ip6tables-restore -w --noflush <<'END'",
      "*nat",
      ":WARP_PREROUTING - [0:0]",
      "-A WARP_PREROUTING -m addrtype --dst-type LOCAL -j RETURN",
      "-A WARP_PREROUTING -i eth0 -s 2001:db8:1::/48 -p tcp -m multiport --dports 25 -j REDIRECT --to-ports 10025",
    ]);
  });

  it("removes the chains of both tables and both families", () => {
    assert.match(iptablesRemoval().join("\n"), /iptables ip6tables.*nat mangle.*OUTPUT PREROUTING/);
  });

  it("removes what was there before, but for the chains of the plan", () => {
    const plan = planRules({ ...defaults, listen: listen("127.0.0.1") });
    assert.match(iptablesRemoval(plan).join("\n"), /case .* in "iptables nat OUTPUT"\) continue;; esac/);
  });
});

describe("routeScript", () => {
  it("is empty for redirect and delivers marked packets here for TPROXY", () => {
    assert.deepEqual(routeScript(planRules(defaults)), []);
    assert.deepEqual(routeScript(planRules({ ...defaults, mode: "tproxy", listen: listen("127.0.0.1") })), [
      "ip -4 rule list | grep -qw 'fwmark 0x100/0x100 lookup 2525' || ip -4 rule add fwmark 0x100/0x100 lookup 2525",
      "ip -4 route replace local 0.0.0.0/0 dev lo table 2525",
    ]);
  });
});
