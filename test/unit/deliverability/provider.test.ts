import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { networkOf, providerOf } from "../../../src/deliverability/provider.ts";
import fc from "../../support/property.ts";

const greeted = (line: string, ip = "192.0.2.77") => providerOf(ip, Buffer.from(line));

describe("the provider behind a destination", () => {
  const greetings: readonly [greeting: string, provider: string][] = [
    ["220 mx.google.com ESMTP d2e1a72fcca58 - gsmtp", "google.com"],
    ["220 DB5EUR01FT043.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready", "outlook.com"],
    ["220 mtaproxy202.free.mail.bf1.yahoo.com ESMTP ready", "yahoodns.net"],
    ["220 p00-icloudmta-smtpin.me.com ESMTP", "icloud.com"],
    ["220 newxmmxszc26-2.qq.com MX QQ Mail Server.", "qq.com"],
    ["220 163.com Anti-spam GT for Coremail System (163com[20141201])", "netease.com"],
    ["220-MX1.Example.CO.UK ESMTP\r\n220 hello", "example.co.uk"],
    ["220 mx.example.de ESMTP", "example.de"],
    ["220 example.com", "example.com"],
    ["421 4.7.0 mx.example.net too many connections", "example.net"],
    ["220 localhost ESMTP", "192.0.2.0/24"],
    ["220 [192.0.2.77] ESMTP", "192.0.2.0/24"],
    ["220 10.1.2.3 ESMTP", "192.0.2.0/24"],
    ["220 ESMTP ready", "192.0.2.0/24"],
    ["", "192.0.2.0/24"],
  ];
  for (const [greeting, provider] of greetings) {
    it(`that says "${greeting.slice(0, 40)}" is ${provider}`, () => {
      assert.equal(greeted(greeting), provider);
    });
  }
  it("is found in the certificate where the greeting has no name", () => {
    const names = ["*.am0.yahoodns.net", "other.example"];
    assert.equal(providerOf("192.0.2.1", Buffer.from("220 ready"), names), "yahoodns.net");
    assert.equal(providerOf("192.0.2.1", undefined, ["localhost"]), "192.0.2.0/24");
  });
  it("is the network where there is no name at all", () => {
    assert.equal(networkOf("203.0.113.9"), "203.0.113.0/24");
    assert.equal(networkOf("2001:DB8:1:2::9"), "2001:db8:1::/48");
    assert.equal(networkOf("::ffff:203.0.113.9"), "203.0.113.0/24");
  });
  it("is a short name of harmless characters, whatever the peer says", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (octets) => {
        assert.match(providerOf("192.0.2.1", octets), /^[a-z0-9._/-]{1,253}$/);
      }),
    );
  });
});
