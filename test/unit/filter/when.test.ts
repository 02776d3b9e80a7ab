import assert from "node:assert/strict";
import { BlockList, isIP } from "node:net";
import { test } from "node:test";
import { globs, ipOctets, matcher, shareOf, type When } from "../../../src/filter/when.ts";
import { parsePath } from "../../../src/smtp/path.ts";
import fc from "../../support/property.ts";
import { address, envelope, SESSION } from "./fixtures.ts";

const facts = { isOwnAddress: (ip: string) => ip === "192.0.2.7" };
const sees = (when: When, changes: Parameters<typeof envelope>[0] = {}, octets = 100) =>
  matcher(when, facts)(envelope(changes), octets);

test("without conditions every message is seen", () => {
  assert.equal(sees({}), true);
  assert.equal(
    sees({ senderDomain: ["*"], minOctets: 0, sharePercent: 100 }, { mailFrom: address("") }),
    true,
  );
});

test("globs match whole values, without case", () => {
  assert.equal(sees({ sender: ["Alice@*"] }), true);
  assert.equal(sees({ sender: ["lice@*"] }), false);
  assert.equal(sees({ senderDomain: ["*.org"] }), true);
  assert.equal(sees({ senderDomain: ["example.?rg"] }), true);
  assert.equal(sees({ senderDomain: ["example.o"] }), false);
  assert.equal(sees({ senderDomain: ["example-org"] }), false);
});

test("globs match as a regular expression of the same meaning", () => {
  const text = (letters: string) => fc.string({ unit: fc.constantFrom(...letters.split("")), maxLength: 10 });
  fc.assert(
    fc.property(text("ab.*?1"), text("ab.1"), (pattern, value) => {
      const source = pattern.replaceAll(".", "\\.").replaceAll("*", ".*").replaceAll("?", ".");
      assert.equal(
        globs([pattern])(value),
        new RegExp(`^${source}$`, "s").test(value),
        `${pattern} ${value}`,
      );
    }),
    { numRuns: 5_000 },
  );
});

test("several stars take no longer where a client sends 16 KiB that nearly match", () => {
  const startedAt = performance.now();
  assert.equal(globs(["*a*b*c"])("a".repeat(8_000) + "b".repeat(8_000)), false);
  assert.equal(globs(["*.*.*.example"])(`${".".repeat(16_000)}x`), false);
  assert.ok(performance.now() - startedAt < 250);
});

test("the null sender is <>", () => {
  assert.equal(sees({ sender: ["<>"] }, { mailFrom: address("") }), true);
  assert.equal(sees({ sender: ["<>"] }), false);
});

test("one recipient of a domain is enough, however it is written", () => {
  const recipients = [address("x@other.example"), address("Bob@BANK.example.")];
  assert.equal(sees({ recipientDomain: ["bank.example"] }, { recipients }), true);
  assert.equal(sees({ recipientDomain: ["bank.test"] }, { recipients }), false);
});

const seesRecipient = (line: string, domain = "bank.example") =>
  sees({ recipientDomain: [domain] }, { recipients: [parsePath(Buffer.from(line), "TO")] });

test("no way of writing a recipient takes a message away from a filter", () => {
  for (const path of [
    ...[
      "<b@bank.example>",
      "< b@bank.example >",
      "<b@bank.example >",
      "<b@bank.example\t>",
      "<b@bank.example(x)>",
    ],
    ...[
      "<b@(x)bank.example>",
      '<"b"@bank.example>',
      "<b@bank.example",
      "Bob <b@bank.example>",
      "<b@bank.example..>",
    ],
    ...["<Bob <b@bank.example>>", "<b@ bank.example>", "<@r:b@bank.example>", '"x" <b@bank.example>'],
    // Relays and servers complete these, or read a route out of them.
    ...[
      "<b%bank.example@relay.example>",
      "<bank.example!b@relay.example>",
      '<"b@bank.example"@relay.example>',
    ],
    ...["<b>", "<postmaster>", "<b@[192.0.2.1]>", "<c@d>@bank.example"],
  ]) {
    assert.equal(seesRecipient(`TO:${path}`), true, path);
  }
  for (const path of ["<b@other.example>", "< b@other.example >", "<b@bank.example.other.example>"]) {
    assert.equal(seesRecipient(`TO:${path}`), false, path);
  }
});

test("an international domain is the same in A-labels and in U-labels", () => {
  assert.equal(seesRecipient("TO:<b@b\u00fccher.example>", "xn--bcher-kva.example"), true);
  assert.equal(seesRecipient("TO:<b@xn--bcher-kva.example>", "b\u00fccher.example"), true);
  assert.equal(seesRecipient("TO:<b@\uff42\uff41nk\u3002example>"), true);
  assert.equal(seesRecipient("TO:<b@b\u00fccher.example>"), false);
});

test("a sender that cannot be read is not the null sender, and matches every condition", () => {
  const from = (line: string) => ({ mailFrom: parsePath(Buffer.from(line), "FROM") });
  for (const line of ["FROM:<a@example.com", 'FROM:<a"@spam.example>', "FROM:<a%example.org@x.example>"]) {
    assert.equal(sees({ sender: ["alice@example.org"] }, from(line)), true, line);
    assert.equal(sees({ senderDomain: ["example.org"] }, from(line)), true, line);
  }
  assert.equal(sees({ sender: ["alice@example.org"] }, from('FROM:<"alice"@example.org.>')), true);
  assert.equal(sees({ senderDomain: ["example.org"] }, from("FROM:<>")), false);
});

test("all conditions have to hold", () => {
  assert.equal(sees({ senderDomain: ["example.org"], minOctets: 101 }), false);
  assert.equal(sees({ senderDomain: ["example.org"], minOctets: 100, maxOctets: 100 }), true);
  assert.equal(sees({ maxOctets: 99 }), false);
});

test("clients are matched by network and as this host's own", () => {
  const network = (text: string, prefix: number) => ({ self: false, networks: [{ address: text, prefix }] });
  assert.equal(sees({ client: network("192.0.2.0", 29) }), true);
  assert.equal(sees({ client: network("192.0.2.8", 29) }), false);
  assert.equal(sees({ client: network("2001:db8::", 32) }), false);
  assert.equal(sees({ client: { self: true, networks: [] } }), true);
  const mapped = { session: { ...SESSION, client: { ip: "::ffff:10.1.2.3", port: 1 } } };
  assert.equal(sees({ client: network("10.0.0.0", 8) }, mapped), true);
});

test("networks agree with node's own block list", () => {
  fc.assert(
    fc.property(fc.ipV6(), fc.ipV6(), fc.integer({ min: 0, max: 128 }), (ip, net, prefix) => {
      fc.pre(
        isIP(ip) === 6 && isIP(net) === 6 && ipOctets(ip)?.length === 16 && ipOctets(net)?.length === 16,
      );
      const list = new BlockList();
      list.addSubnet(net, prefix, "ipv6");
      const session = { ...SESSION, client: { ip, port: 1 } };
      assert.equal(
        sees({ client: { self: false, networks: [{ address: net, prefix }] } }, { session }),
        list.check(ip, "ipv6"),
      );
    }),
  );
});

test("a share of the mail is that share, also of ids that differ in little", () => {
  const ids = Array.from({ length: 20_000 }, (_, i) => `01ARZ3NDEKTSV4RRFF${String(i).padStart(8, "0")}`);
  const seen = ids.filter((id) => shareOf(id) < 10).length;
  assert.ok(seen > 1800 && seen < 2200, `${seen} of 20000`);
});

test("a message without known recipients matches every condition on them", () => {
  assert.equal(sees({ recipientDomain: ["bank.example"] }, { recipients: [] }), true);
});
