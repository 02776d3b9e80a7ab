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

/** The version that a client gets which knows no other; undefined: none. */
async function agreed(lowest: tls.SecureVersion, version: tls.SecureVersion): Promise<string | undefined> {
  const { certFile: cert, keyFile: key } = certificate!;
  const secureContext = new DownstreamContext({ cert, key, minVersion: lowest }, assert.fail).current();
  // As sessions do: the context alone says what is allowed.
  const server = createServer((socket) => {
    const secured = new tls.TLSSocket(socket, { isServer: true, secureContext });
    secured.on("error", () => socket.destroy());
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
  try {
    await once(client, "secureConnect");
    return client.getProtocol() ?? undefined;
  } catch {
    return undefined;
  } finally {
    client.destroy();
    server.close();
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
