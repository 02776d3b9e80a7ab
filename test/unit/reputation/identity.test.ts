import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { identityOf, normaliseAddress, type Strip } from "../../../src/reputation/identity.ts";
import fc from "../../support/property.ts";

const DEFAULT = new Set<Strip>(["plus", "batv", "srs"]);
const ALL = new Set<Strip>(["plus", "batv", "srs", "verp"]);

describe("the address that reputation counts for", () => {
  const cases: readonly [address: string, normalised: string][] = [
    ["", "<>"],
    ["<>", "<>"],
    ["Alice@EXAMPLE.com.", "Alice@example.com"],
    ["alice+news@example.com", "alice@example.com"],
    ["+all@example.com", "+all@example.com"],
    ['"a+b"@example.com', '"a+b"@example.com'],
    ["prvs=2345abcdef=alice@example.com", "alice@example.com"],
    ["prvs=alice/2345abcdef@example.com", "alice@example.com"],
    ["btv1==123==alice@example.com", "alice@example.com"],
    ["SRS0=HHH=TT=origin.example=alice@forwarder.example", "alice@origin.example"],
    ["srs0+HHH=TT=Origin.Example=alice+x@forwarder.example", "alice@origin.example"],
    ["SRS1=GGG=first.example==HHH=TT=origin.example=alice@second.example", "alice@origin.example"],
    ["SRS0=HHH=TT=origin.example=prvs=2345abcdef=alice@forwarder.example", "alice@origin.example"],
    ["SRS0=broken@forwarder.example", "SRS0=broken@forwarder.example"],
    ["postmaster", "postmaster"],
    ["alice@example.com", "alice@example.com"],
    ["Alice@xn--exmple-cua.example", "Alice@xn--exmple-cua.example"],
    ["alice@example.com.", "alice@example.com"],
    ["alice@münchen.example", "alice@münchen.example"],
    ["alice@MÜNCHEN.example", "alice@münchen.example"],
    [" alice@example.com", "alice@example.com"],
    ["a@b@Example.com", "a@b@example.com"],
  ];
  for (const [address, normalised] of cases) {
    it(`of ${address === "" ? "nothing" : address} is ${normalised}`, () => {
      assert.equal(normaliseAddress(address, DEFAULT), normalised);
    });
  }
  const lists: readonly [address: string, normalised: string][] = [
    ["list-return-1234-bob=example.org@lists.example", "list-return-#@lists.example"],
    ["list-return-1235-eve=example.net@lists.example", "list-return-#@lists.example"],
    ["bounces+4711.77+bob=example.org@esp.example", "bounces@esp.example"],
    ["bounce-998877-abc@esp.example", "bounce-#-abc@esp.example"],
    ["alice@example.com", "alice@example.com"],
    ["room101@example.com", "room101@example.com"],
  ];
  for (const [address, normalised] of lists) {
    it(`with VERP of ${address} is ${normalised}`, () => {
      assert.equal(normaliseAddress(address, ALL), normalised);
    });
  }
  it("has the recipient of VERP cut where a regular expression would find it", () => {
    const verp = new Set<Strip>(["verp"]);
    const recipient = /^(.+?)[-+_.][^-+=@]*=[^=@]+\.[^=@]+$/s;
    const local = fc.string({ unit: fc.constantFrom(..."a1-+_.=@".split("")), minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(local, (name) => {
        const cut = recipient.exec(name)?.[1] ?? name;
        assert.equal(
          normaliseAddress(`${name}@example.com`, verp),
          normaliseAddress(`${cut}@example.com`, verp),
          name,
        );
      }),
      { numRuns: 5_000 },
    );
  });
  it("takes no longer per octet where a client sends 16 KiB of separators", () => {
    const hostile = [
      `a${".".repeat(8_000)}=${".".repeat(8_000)}=@x.example`,
      `a${".".repeat(8_000)}=${".".repeat(8_000)}@x.example`,
      `${"a-".repeat(4_000)}${"b=".repeat(4_000)}@x.example`,
      `SRS0${"=a".repeat(8_000)}@x.example`,
      `prvs=${"/0123456789".repeat(1_400)}@x.example`,
      `${"0".repeat(16_000)}g@x.example`,
    ];
    for (const address of hostile) {
      const startedAt = performance.now();
      normaliseAddress(address, ALL);
      assert.ok(performance.now() - startedAt < 250, `${address.slice(0, 30)}… took too long`);
    }
  });
  it("stays itself when it is normalised again", () => {
    const local = fc.string({ unit: fc.constantFrom(..."ab1=+-_./SRS0prvs".split("")), minLength: 1 });
    fc.assert(
      fc.property(local, fc.subarray(["plus", "batv", "srs", "verp"] as Strip[]), (name, strip) => {
        const once = normaliseAddress(`${name}@Example.com`, new Set(strip));
        assert.equal(normaliseAddress(once, new Set(strip)), once);
      }),
    );
  });
});

describe("an identity", () => {
  const facts = { mailFrom: "Alice+x@Example.com", clientIp: "192.0.2.7", authUser: "alice" };
  it("is bounded, whatever a client makes up", () => {
    const address = `${"a".repeat(16_000)}@b.example`;
    assert.equal(normaliseAddress(address, new Set()), address.slice(-320));
    assert.equal(normaliseAddress(`${address}${"c".repeat(16_000)}`, new Set()), "c".repeat(320));
  });

  it("is one fact, or a tuple", () => {
    const of = (...kinds: Parameters<typeof identityOf>[1]["kinds"]) =>
      identityOf(facts, { kinds, strip: DEFAULT });
    assert.equal(of("mail_from"), "mail_from:Alice@example.com");
    assert.equal(of("sender_domain"), "sender_domain:example.com");
    assert.equal(of("client"), "client:192.0.2.7");
    assert.equal(of("auth_user"), "auth_user:alice");
    assert.equal(of("sender_domain", "client"), "sender_domain+client:example.com|192.0.2.7");
  });
  it("of the null sender is its own", () => {
    const none = { ...facts, mailFrom: "" };
    assert.equal(identityOf(none, { kinds: ["mail_from"], strip: DEFAULT }), "mail_from:<>");
    assert.equal(identityOf(none, { kinds: ["sender_domain"], strip: DEFAULT }), "sender_domain:<>");
  });
});
