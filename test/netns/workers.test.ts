/** Workers and restarts where connections are really captured: by REDIRECT on the host, by TPROXY on a gateway. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Lab, labUnavailable, type Namespace } from "./lab.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("smtp-source", "smtp-sink");
/** Enough that sending takes longer than the second process takes to start. */
const messages = 1500;

/** Numbers of the workers that relayed something. */
function workersOf({ program }: Warp): Set<unknown> {
  const deliveries = program.lines.filter((line) => line.includes('"code":"delivery"'));
  return new Set(deliveries.map((line) => (JSON.parse(line) as { worker: unknown }).worker));
}

async function send(from: Namespace, to: string): Promise<void> {
  const words = ["-m", String(messages), "-s", "3", "-f", "alice@sender.example", "-t", "bob@mx.example", to];
  const { status, stderr } = await from.complete("smtp-source", words, { timeoutMs: 60_000 });
  assert.equal(status, 0, stderr);
}

/** Every message had its session, some with each of both. */
async function hadSessions(first: Warp, second: Warp): Promise<void> {
  const [before, after] = [await first.sessions(), await second.sessions()];
  assert.equal(before + after, 2 * messages);
  assert.ok(before > 0 && after > 0, `${before} and ${after}`);
}

describe("workers behind a capture", { skip, timeout: 120_000 }, () => {
  let lab: Lab;
  let sender: Namespace;
  let gateway: Namespace;
  let mx: Namespace;

  before(() => {
    lab = new Lab();
    sender = lab.namespace("sender");
    gateway = lab.namespace("gateway");
    mx = lab.namespace("mx");
    const lan = ["198.51.100.1/24", "2001:db8:1::1/64"];
    lab.link(sender, "eth0", ["198.51.100.2/24", "2001:db8:1::2/64"], gateway, "lan", lan);
    const wan = ["192.0.2.1/24", "2001:db8::1/64"];
    lab.link(gateway, "wan", wan, mx, "eth0", ["192.0.2.10/24", "2001:db8::10/64"]);
    gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    for (const [namespace, ipv4, ipv6] of [
      [sender, "198.51.100.1", "2001:db8:1::1"],
      [mx, "192.0.2.1", "2001:db8::1"],
    ] as const) {
      namespace.run("ip", "route", "add", "default", "via", ipv4);
      namespace.run("ip", "-6", "route", "add", "default", "via", ipv6);
    }
    for (const address of ["192.0.2.10:25", "[2001:db8::10]:25"])
      mx.start("smtp-sink", ["-u", "nobody", address, "100"]);
  });
  after(() => lab.end());

  it("share redirected connections of both families, and a restart under load disturbs none", async () => {
    const flags = ["--workers", "2"];
    const first = await Warp.start(lab, gateway, { flags });
    const sent = Promise.all([send(gateway, "192.0.2.10:25"), send(gateway, "[2001:db8::10]:25")]);
    const second = await Warp.start(lab, gateway, { flags, capture: false });
    assert.equal(await first.program.ended, 0);
    await sent;
    await hadSessions(first, second);
    assert.deepEqual(new Set([...workersOf(first), ...workersOf(second)]), new Set([0, 1]));
    assert.deepEqual(
      new Set([...(await first.destinations()), ...(await second.destinations())]),
      new Set(["192.0.2.10:25", "[2001:db8::10]:25"]),
    );
    assert.equal(await second.stop(), 0);
  });

  it("share connections that TPROXY hands over, and a restart under load disturbs none", async () => {
    const config = `
listen: ["[::]:10025"]
workers: 2
capture: { mode: tproxy }
clients: [198.51.100.0/24, "2001:db8:1::/48"]
`;
    const first = await Warp.start(lab, gateway, { config });
    const sent = Promise.all([send(sender, "192.0.2.10:25"), send(sender, "[2001:db8::10]:25")]);
    const second = await Warp.start(lab, gateway, { config, capture: false });
    assert.equal(await first.program.ended, 0);
    await sent;
    await hadSessions(first, second);
    assert.equal(await second.stop(), 0);
  });
});
