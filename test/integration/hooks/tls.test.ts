/** Hooks behind TLS and mutual TLS: whom warp trusts, whom it doesn't, and what it shows of itself. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { after, afterEach, before, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import type { HookTls } from "../../../src/hooks/index.ts";
import { envelope, PlainMessage } from "../../unit/filter/fixtures.ts";
import { assemble, HookServer, hookSettings, temporaryFolder } from "./server.ts";

const missing = spawnSync("openssl", ["version"]).status === 0 ? false : "openssl is missing";
if (missing && process.env.CI === "true") throw new Error(missing);

const folder = temporaryFolder();
after(() => folder.remove());
const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});
const file = (name: string) => `${folder.path}/${name}`;

before(() => {
  if (missing) return;
  authority("ca");
  authority("other");
  certificate("server", "ca", "IP:127.0.0.1,DNS:localhost,DNS:hook.example");
  certificate("client", "ca", "DNS:warp.example");
});

function authority(name: string): void {
  const subject = ["-subj", `/CN=${name}`, "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE"];
  openssl("req", "-x509", ...fresh(name), ...subject, "-out", file(`${name}.pem`));
}
function certificate(name: string, signer: string, alternative: string): void {
  writeFileSync(file(`${name}.ext`), `subjectAltName=${alternative}\n`);
  openssl("req", ...fresh(name), "-subj", `/CN=${name}`, "-out", file(`${name}.csr`));
  const signing = [
    "-CA",
    file(`${signer}.pem`),
    "-CAkey",
    file(`${signer}.key`),
    "-CAcreateserial",
    "-days",
    "2",
  ];
  openssl(
    "x509",
    "-req",
    "-in",
    file(`${name}.csr`),
    ...signing,
    "-extfile",
    file(`${name}.ext`),
    "-out",
    file(`${name}.pem`),
  );
}
function fresh(name: string): string[] {
  return [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    file(`${name}.key`),
  ];
}
function openssl(...argv: string[]): void {
  execFileSync("openssl", argv, { stdio: ["ignore", "ignore", "pipe"] });
}
const tls = (changes: Partial<HookTls>): HookTls => ({
  ca: file("ca.pem"),
  cert: undefined,
  key: undefined,
  serverName: undefined,
  ...changes,
});

async function secureServer(options: {
  readonly mutual: boolean;
  readonly address?: string;
}): Promise<string> {
  const server = new HookServer(options.address ?? "127.0.0.1:0");
  const pair = {
    cert_chain: readFileSync(file("server.pem")),
    private_key: readFileSync(file("server.key")),
  };
  const authorities = options.mutual ? readFileSync(file("ca.pem")) : null;
  const port = await server.start(grpc.ServerCredentials.createSsl(authorities, [pair], options.mutual));
  cleanUp.push(() => server.kill());
  return options.address ?? `127.0.0.1:${port}`;
}
/** "relay", or why not. */
async function verdict(address: string, settings: HookTls): Promise<string> {
  const { hooks } = assemble([hookSettings("f", address, { tls: settings, roles: ["filter"] })]);
  await hooks.start();
  cleanUp.push(() => hooks.stop(0));
  const result = await hooks.chain.run(
    new PlainMessage("A: 1\r\n\r\n"),
    envelope(),
    10_000,
    new AbortController().signal,
  );
  return result.kind === "relay" ? "relay" : (result.outcomes[0]?.failure ?? "");
}

test("a server whose certificate is good is asked, by IP, host or configured name", {
  skip: missing,
}, async () => {
  const address = await secureServer({ mutual: false });
  assert.equal(await verdict(address.replace("127.0.0.1", "localhost"), tls({})), "relay");
  assert.equal(await verdict(address, tls({})), "relay");
  assert.equal(await verdict(address, tls({ serverName: "hook.example" })), "relay");
});

test("a server of another name or another authority is not trusted with a message", {
  skip: missing,
}, async () => {
  const address = await secureServer({ mutual: false });
  assert.match(await verdict(address, tls({ serverName: "other.example" })), /^absent: /);
  assert.match(await verdict(address, tls({ ca: file("other.pem") })), /^absent: /);
  assert.match(await verdict(address, tls({ ca: undefined })), /^absent: /);
});

test("a server that asks for a certificate gets the configured one", { skip: missing }, async () => {
  const address = await secureServer({ mutual: true });
  const own = { cert: file("client.pem"), key: file("client.key") };
  assert.equal(await verdict(address, tls(own)), "relay");
  assert.match(await verdict(address, tls({})), /^absent: /);
});

test("a Unix socket may speak TLS too", { skip: missing }, async () => {
  const address = await secureServer({ mutual: false, address: `unix:${file("tls.sock")}` });
  assert.equal(await verdict(address, tls({ serverName: "hook.example" })), "relay");
});

test("files that cannot be read, or half a pair, are named at the start", { skip: missing }, async () => {
  const start = (settings: HookTls) =>
    assemble([hookSettings("f", "127.0.0.1:1", { tls: settings })]).hooks.start();
  await assert.rejects(
    start(tls({ ca: file("none.pem") })),
    /hooks: f: tls\.ca: cannot read .*none\.pem: ENOENT/,
  );
  await assert.rejects(
    start(tls({ cert: file("client.pem") })),
    /hooks: f: tls\.cert and tls\.key go together/,
  );
});
