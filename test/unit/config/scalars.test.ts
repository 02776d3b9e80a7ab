import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  readDuration,
  readHookAddress,
  readHostPort,
  readIp,
  readIpPort,
  readNetwork,
  readReply,
  readShare,
  readSize,
  Unreadable,
} from "../../../src/config/scalars.ts";
import fc from "../../support/property.ts";

/** Each reader with values and what they mean; `undefined`: refused. */
const CASES: Record<string, [read: (value: unknown) => unknown, [value: unknown, meaning: unknown][]]> = {
  durations: [
    readDuration,
    [
      ["250ms", 250],
      ["10s", 10_000],
      ["5m", 300_000],
      ["1h", 3_600_000],
      ["1d", 86_400_000],
      ["1w", 604_800_000],
      ["1m30s", 90_000],
      ["1.5s", 1500],
      [0, 0],
      ["0", 0],
      [10, undefined],
      ["10", undefined],
      ["s", undefined],
      ["-1s", undefined],
      ["10 s", undefined],
      ["10sec", undefined],
      [true, undefined],
    ],
  ],
  sizes: [
    readSize,
    [
      ["16KiB", 16_384],
      ["1MiB", 1_048_576],
      ["2GiB", 2_147_483_648],
      ["1 MB", 1_000_000],
      ["10K", 10_000],
      ["10240000", 10_240_000],
      [10_240_000, 10_240_000],
      [0, 0],
      ["3Q", undefined],
      [-1, undefined],
      ["KiB", undefined],
      ["99999999TiB", undefined],
      [undefined, undefined],
    ],
  ],
  addresses: [
    readIp,
    [
      ["192.0.2.1", "192.0.2.1"],
      ["2001:DB8:0:0::1", "2001:db8::1"],
      ["[::1]", "::1"],
      ["fe80::1%eth0", undefined],
      ["192.0.2.256", undefined],
      ["192.0.2.01", undefined],
      [1, undefined],
    ],
  ],
  "listen addresses": [
    readIpPort,
    [
      ["127.0.0.1:10025", { ip: "127.0.0.1", port: 10025 }],
      ["[::1]:10025", { ip: "::1", port: 10025 }],
      ["127.0.0.1:0", { ip: "127.0.0.1", port: 0 }],
      ["localhost:25", undefined],
      ["[fe80::1%lo]:25", undefined],
      ["[FE80::1]:25", undefined],
      ["::1:25", undefined],
      ["127.0.0.1", undefined],
      ["127.0.0.1:65536", undefined],
    ],
  ],
  "hosts with ports": [
    readHostPort,
    [
      ["mx.example:25", { host: "mx.example", port: 25 }],
      ["[2001:db8::1]:25", { host: "2001:db8::1", port: 25 }],
      ["a_b.example:1", { host: "a_b.example", port: 1 }],
      ["mx.example", undefined],
      ["mx.example:0", undefined],
      ["[fe80::1%eth0]:25", undefined],
      ["-mx:25", undefined],
      ["1.2.3:25", undefined],
      ["mx example:25", undefined],
    ],
  ],
  "hook addresses": [
    readHookAddress,
    [
      ["unix:/run/a.sock", { kind: "unix", path: "/run/a.sock" }],
      ["unix:///run/a.sock", { kind: "unix", path: "/run/a.sock" }],
      ["127.0.0.1:7443", { kind: "tcp", host: "127.0.0.1", port: 7443 }],
      ["audit.example:7443", { kind: "tcp", host: "audit.example", port: 7443 }],
      ["unix:run/a.sock", undefined],
      [`unix:/${"a".repeat(107)}`, undefined],
      ["/run/a.sock", undefined],
    ],
  ],
  networks: [
    readNetwork,
    [
      ["10.0.0.0/8", { address: "10.0.0.0", prefix: 8, family: 4 }],
      ["192.0.2.1", { address: "192.0.2.1", prefix: 32, family: 4 }],
      ["2001:db8::/32", { address: "2001:db8::", prefix: 32, family: 6 }],
      ["2001:db8::1", { address: "2001:db8::1", prefix: 128, family: 6 }],
      ["0.0.0.0/0", { address: "0.0.0.0", prefix: 0, family: 4 }],
      ["::/0", { address: "::", prefix: 0, family: 6 }],
      ["10.0.0.1/8", undefined],
      ["2001:db8::1/32", undefined],
      ["10.0.0.0/33", undefined],
      ["10.0.0.0/8/8", undefined],
      ["10.0.0.0/", undefined],
      ["example.com", undefined],
    ],
  ],
  "rejecting replies": [
    (value) => readReply(value, 5),
    [
      ["550 5.7.1 sender suspended", { code: 550, enhancedCode: "5.7.1", text: "sender suspended" }],
      ["550 no", { code: 550, enhancedCode: "", text: "no" }],
      ["554", { code: 554, enhancedCode: "", text: "Rejected" }],
      ["451 4.7.1 later", undefined],
      ["521 5.3.2 no", undefined],
      ["550 4.7.1 mixed", undefined],
      ["550 5.7.1 two\r\nlines", undefined],
      ["550 5.7.1 \u00fcmlaut", undefined],
      [550, undefined],
    ],
  ],
  "deferring replies": [
    (value) => readReply(value, 4),
    [
      ["451 4.7.1 later", { code: 451, enhancedCode: "4.7.1", text: "later" }],
      ["421 4.7.1 gone", undefined],
    ],
  ],
  shares: [
    readShare,
    [
      [25, 25],
      ["25%", 25],
      ["0.5 %", 0.5],
      [100, 100],
      [101, undefined],
      [-1, undefined],
      ["half", undefined],
    ],
  ],
};

describe("single values of the configuration", () => {
  for (const [name, [read, cases]] of Object.entries(CASES)) {
    for (const [value, meaning] of cases) {
      it(`${name}: ${JSON.stringify(value)} ${meaning === undefined ? "is refused" : "is read"}`, () => {
        if (meaning === undefined) assert.throws(() => read(value), Unreadable);
        else assert.deepEqual(read(value), meaning);
      });
    }
  }

  it("masks every IPv4 network to itself and refuses it with a host bit", () => {
    const octet = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(octet, octet, octet, octet, fc.integer({ min: 1, max: 31 }), (a, b, c, d, prefix) => {
        const number = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
        const base = (number & (0xffffffff << (32 - prefix))) >>> 0;
        const text = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
        assert.deepEqual(readNetwork(`${text(base)}/${prefix}`), { address: text(base), prefix, family: 4 });
        assert.throws(() => readNetwork(`${text(base + 1)}/${prefix}`), Unreadable);
      }),
    );
  });

  it("never throws anything but Unreadable, whatever it is given", () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.string()), (value) => {
        for (const [read] of Object.values(CASES)) {
          try {
            read(value);
          } catch (error) {
            assert.ok(error instanceof Unreadable, `${error}`);
          }
        }
      }),
      // A mapping that JavaScript cannot turn into text.
      { examples: [[{ toString: 0 }]] },
    );
  });
});
