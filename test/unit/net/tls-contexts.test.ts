/** The operator's certificate: what a client may use of TLS. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import * as tls from "node:tls";
import { DownstreamContext } from "../../../src/net/tls-contexts.ts";
import { makeCertificate } from "../sdk/certificate.ts";

const folder = mkdtempSync(join(tmpdir(), "warp-tls-"));
after(() => rmSync(folder, { recursive: true }));
const certificate = makeCertificate(folder);

/** A server as sessions are, which sends back what comes, and a client that knows one version only. */
async function pair(lowest: tls.SecureVersion, version: tls.SecureVersion) {
  const { certFile: cert, keyFile: key } = certificate!;
  const secureContext = new DownstreamContext({ cert, key, minVersion: lowest }, assert.fail).current();
  // As sessions do: the context alone says what is allowed.
  const server = createServer((socket) => {
    const secured = new tls.TLSSocket(socket, { isServer: true, secureContext });
    secured.on("error", () => socket.destroy());
    secured.pipe(secured);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = tls.connect({
    port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
    minVersion: version,
    maxVersion: version,
    ciphers: "DEFAULT:@SECLEVEL=0",
  });
  client.once("close", () => server.close());
  return client;
}

/** The version that a client gets which knows no other; undefined: none. */
async function agreed(lowest: tls.SecureVersion, version: tls.SecureVersion): Promise<string | undefined> {
  const client = await pair(lowest, version);
  try {
    await once(client, "secureConnect");
    return client.getProtocol() ?? undefined;
  } catch {
    return undefined;
  } finally {
    client.destroy();
  }
}

describe("downstream_tls.min_version", { skip: certificate === undefined }, () => {
  for (const [lowest, version, expected] of [
    ["TLSv1", "TLSv1", "TLSv1"],
    ["TLSv1", "TLSv1.3", "TLSv1.3"],
    ["TLSv1.1", "TLSv1.1", "TLSv1.1"],
    ["TLSv1.1", "TLSv1", undefined],
    ["TLSv1.2", "TLSv1.1", undefined],
    ["TLSv1.2", "TLSv1.2", "TLSv1.2"],
  ] as const) {
    it(`${lowest}: a client with ${version} alone ${expected === undefined ? "fails" : "is served"}`, async () => {
      assert.equal(await agreed(lowest, version), expected);
    });
  }
});

describe("TLS towards clients", { skip: certificate === undefined }, () => {
  it("a client that wants to renegotiate is refused", async () => {
    const client = await pair("TLSv1.2", "TLSv1.2");
    await once(client, "secureConnect");
    client.renegotiate({}, () => {});
    const [error] = await once(client, "error");
    assert.match(String(error), /renegotiation/);
    client.destroy();
  });
});
