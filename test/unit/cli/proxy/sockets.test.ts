/** Who gets which listening socket; what socket activation hands over. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  activatedAddresses,
  closeAddresses,
  endpointText,
  type OpenAddress,
  openAddresses,
  socketsOf,
} from "../../../../src/cli/proxy/sockets.ts";
import type { Config } from "../../../../src/config/schema.ts";
import { native } from "../../../../src/net/native.ts";
import fc from "../../../support/property.ts";

const skip = native.unavailable ?? false;

const NOBODY = 65534;

describe("openAddresses", { skip }, () => {
  function configOf(ips: readonly string[], port: number, change: { mode?: string; workers?: number } = {}) {
    const { mode = "fixed", workers = 1 } = change;
    const listen = ips.map((ip) => ({ ip, port }));
    return { listen, listenIsDefault: false, workers, capture: { mode } } as unknown as Config;
  }
  function textsOf(opened: readonly OpenAddress[]): string[] {
    return opened.map(({ address }) => address.ip);
  }
  function freePort(): number {
    const fd = native.createListener({ ip: "::", port: 0 });
    const { port } = native.listeningAddress(fd);
    native.closeFd(fd);
    return port;
  }

  for (const workers of [1, 2]) {
    it(`opens the wildcards of both families on one port, with workers ${workers}`, () => {
      for (const ips of [
        ["0.0.0.0", "::"],
        ["::", "0.0.0.0"],
        ["::", "127.0.0.1"],
      ]) {
        const opened = openAddresses(configOf(ips, freePort(), { workers }), []);
        assert.deepEqual(textsOf(opened), ips);
        for (const { address, fds } of opened) {
          assert.equal(fds.length, workers);
          if (address.ip === "::") for (const fd of fds) assert.equal(native.isIpv6Only(fd), true);
        }
        closeAddresses(opened);
      }
    });
  }

  it("takes a socket on :: that serves IPv4 for 0.0.0.0 as well", () => {
    const port = freePort();
    const given = openAddresses(configOf(["::"], port), []);
    const opened = openAddresses(configOf(["0.0.0.0", "::"], port), given);
    assert.deepEqual(opened, given);
    closeAddresses(opened);
  });

  it("keeps 0.0.0.0 beside a socket on :: that serves IPv6 alone", () => {
    const port = freePort();
    const given = openAddresses(configOf(["0.0.0.0", "::"], port), []);
    const opened = openAddresses(configOf(["::"], port), given);
    assert.deepEqual(new Set(opened), new Set(given));
    closeAddresses(opened);
  });

  it("refuses a socket on :: that serves more of IPv4 than is listed, or less", () => {
    const port = freePort();
    const dual = openAddresses(configOf(["::"], port), []);
    assert.throws(
      () => openAddresses(configOf(["127.0.0.1", "::"], port), dual),
      /takes IPv4 too, which cannot be changed while it listens: stop warp, and start it again/,
    );
    closeAddresses(dual);
    const apart = openAddresses(configOf(["127.0.0.1", "::"], port), []);
    assert.throws(
      () => openAddresses(configOf(["::"], port), apart),
      /takes no IPv4, which cannot be changed/,
    );
    closeAddresses(apart);
  });

  it("keeps the IPv6 alone of a service manager's socket", () => {
    const fd = native.createListener({ ip: "::", port: 0, ipv6Only: true });
    const { port } = native.listeningAddress(fd);
    const given = [{ address: { ip: "::", port }, fds: [fd] }];
    assert.deepEqual(openAddresses(configOf(["::"], port), given), given);
    closeAddresses(given);
  });

  it("says which socket cannot be used for tproxy, without the right to", { skip }, () => {
    const port = freePort();
    const given = openAddresses(configOf(["127.0.0.1"], port), []);
    const uid = process.geteuid?.() ?? 0;
    // Another effective uid than root's has no capabilities, and gets them back with root's.
    if (uid === 0) process.seteuid?.(NOBODY);
    try {
      assert.throws(
        () => openAddresses(configOf(["127.0.0.1"], port, { mode: "tproxy" }), given),
        /capture\.mode tproxy cannot use the socket on 127\.0\.0\.1:\d+ that was handed to us: EPERM/,
      );
    } finally {
      process.seteuid?.(uid);
    }
    closeAddresses(given);
  });
});

describe("socketsOf", () => {
  it("leaves no socket without a worker, and no worker without a socket of each address", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 3 }),
        (workers, counts) => {
          let fd = 10;
          const addresses = counts.map((count, index) => ({
            address: { ip: "127.0.0.1", port: 1000 + index },
            fds: Array.from({ length: count }, () => fd++),
          }));
          const given = Array.from({ length: workers }, (_, worker) => socketsOf(addresses, worker, workers));
          assert.deepEqual(new Set(given.flat()), new Set(addresses.flatMap(({ fds }) => fds)));
          for (const { fds } of addresses)
            for (const own of given) assert.ok(own.some((socket) => fds.includes(socket)));
        },
      ),
    );
  });

  it("gives each worker its own where there are as many", () => {
    const addresses = [{ address: { ip: "::1", port: 25 }, fds: [7, 8] }];
    assert.deepEqual([socketsOf(addresses, 0, 2), socketsOf(addresses, 1, 2)], [[7], [8]]);
  });
});

describe("activatedAddresses", () => {
  it("takes nothing that is meant for another process, and hides it from our children", () => {
    const environment = { LISTEN_PID: "1", LISTEN_FDS: "1", LISTEN_FDNAMES: "x", OTHER: "y" };
    assert.deepEqual(activatedAddresses(environment, 2), []);
    assert.deepEqual(environment, { OTHER: "y" });
  });
});

describe("endpointText", () => {
  it("puts brackets around IPv6", () => {
    assert.equal(endpointText({ ip: "::1", port: 25 }), "[::1]:25");
    assert.equal(endpointText({ ip: "192.0.2.1", port: 25 }), "192.0.2.1:25");
  });
});
