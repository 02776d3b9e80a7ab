/** Who gets which listening socket; what socket activation hands over. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { activatedAddresses, endpointText, socketsOf } from "../../../../src/cli/proxy/sockets.ts";
import fc from "../../../support/property.ts";

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
