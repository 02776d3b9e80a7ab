/** Hooks over TLS and mutual TLS, by name and by IP: a filter of the SDK, asked by the proxy's own client. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { HookTls } from "../../../src/hooks/settings.ts";
import { type HookServer, reject, serveHook } from "../../../src/sdk/index.ts";
import { envelope } from "../../unit/filter/fixtures.ts";
import { type Certificate, makeCertificate } from "../../unit/sdk/certificate.ts";
import { assemble, hookSettings, temporaryFolder } from "./server.ts";

const folder = temporaryFolder();
const stop = new AbortController();
let certificate: Certificate | undefined;
let filter: HookServer;
let port: string;

before(async () => {
  certificate = makeCertificate(folder.path);
  if (certificate === undefined) return;
  const { cert, key } = certificate;
  filter = await serveHook({
    name: "tls",
    listen: "127.0.0.1:0",
    tls: { cert, key, clientCa: cert },
    signal: stop.signal,
    beforeRelay: () => reject("550 5.7.1 Seen"),
  });
  port = filter.address.split(":")[1]!;
});
after(async () => {
  stop.abort();
  await filter?.closed;
  folder.remove();
});

/** What the client hears of one message. */
async function reply(t: TestContext, address: string, tls: Partial<HookTls>): Promise<string> {
  const whole: HookTls = { ca: undefined, cert: undefined, key: undefined, serverName: undefined, ...tls };
  const { hooks } = assemble([
    hookSettings("f", address, { tls: whole, roles: ["filter"], deadlineMs: 2000 }),
  ]);
  await hooks.start();
  t.after(() => hooks.stop(0));
  const writer = hooks.hold.open();
  writer.write(Buffer.from("Subject: hello\r\n\r\nbody\r\n"));
  const result = await hooks.chain.run(
    await writer.finish(),
    envelope(),
    540_000,
    new AbortController().signal,
  );
  return result.kind === "reject" ? `${result.reply.code} ${result.origin}` : result.kind;
}

test("a filter over TLS", async (t) => {
  if (certificate === undefined) {
    t.skip("openssl is missing");
    return;
  }
  const { certFile: ca, keyFile: key } = certificate;
  const own = { ca, cert: ca, key };
  const cases: [string, string, Partial<HookTls>, string][] = [
    ["by the IP that is in its certificate", "127.0.0.1", own, "550 hook"],
    ["by the name that is in its certificate", "localhost", own, "550 hook"],
    ["by a name that is configured", "127.0.0.1", { ...own, serverName: "localhost" }, "550 hook"],
    ["under a name that it does not carry", "127.0.0.1", { ...own, serverName: "other.example" }, "451 warp"],
    ["with authorities that did not sign it", "127.0.0.1", { cert: ca, key }, "451 warp"],
    ["without the certificate that it asks for", "127.0.0.1", { ca }, "451 warp"],
  ];
  for (const [how, host, tls, expected] of cases) {
    await t.test(`${how}: ${expected}`, async (t) => {
      assert.equal(await reply(t, `${host}:${port}`, tls), expected);
    });
  }
});
