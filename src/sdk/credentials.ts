/**
 * TLS of hooks, PEM throughout: a server's certificate, and whether clients have to show one too (mTLS); and what a client
 * connects with. Shared by both sides, as grpc.ts is.
 */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import type { HookAddress } from "./address.ts";

/** A string names a file, a Buffer is the PEM itself. */
export type Pem = string | Buffer;

export interface ServerTls {
  /** The certificate, with its intermediates. */
  readonly cert: Pem;
  readonly key: Pem;
  /** Who signs the proxies' certificates; with it, a client without one is refused. */
  readonly clientCa?: Pem;
}

export function serverCredentials(tls: ServerTls | undefined): grpc.ServerCredentials {
  if (tls === undefined) return grpc.ServerCredentials.createInsecure();
  return grpc.ServerCredentials.createSsl(
    tls.clientCa === undefined ? null : pem(tls.clientCa, "clientCa"),
    [{ cert_chain: pem(tls.cert, "cert"), private_key: pem(tls.key, "key") }],
    tls.clientCa !== undefined,
  );
}

export interface ClientTls {
  /** Who signs the server's certificate; without it, the system's authorities. */
  readonly ca?: Pem | undefined;
  /** For servers that ask for a certificate (mTLS); both or none. */
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
  /** The name that the server's certificate has to carry; without it, the host of the address. */
  readonly serverName?: string | undefined;
}

/**
 * Credentials and channel options for a client of the server at `address`. Chain and name are always checked. An IP is
 * checked against the certificate's iPAddress entries; grpc-js would also send it as SNI, which TLS forbids and Node
 * refuses, so that a name goes in its place, without being checked.
 */
export function clientCredentials(
  address: HookAddress,
  tls: ClientTls | undefined,
): { readonly credentials: grpc.ChannelCredentials; readonly options: grpc.ClientOptions } {
  if (tls === undefined) return { credentials: grpc.credentials.createInsecure(), options: {} };
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw new Error("tls.cert and tls.key belong together");
  const name = tls.serverName ?? (address.kind === "tcp" ? address.host : "localhost");
  const credentials = grpc.credentials.createSsl(
    tls.ca === undefined ? null : pem(tls.ca, "ca"),
    tls.key === undefined ? null : pem(tls.key, "key"),
    tls.cert === undefined ? null : pem(tls.cert, "cert"),
    { checkServerIdentity: (_sni, certificate) => checkServerIdentity(name, certificate) },
  );
  const sent = isIP(name) === 0 ? name : "localhost";
  return {
    credentials,
    options: {
      "grpc.ssl_target_name_override": sent,
      ...(tls.serverName && { "grpc.default_authority": sent }),
    },
  };
}

/** Reads a PEM, or says which setting names a file that cannot be read. */
export function pem(from: Pem, setting: string): Buffer {
  if (typeof from !== "string") return from;
  try {
    return readFileSync(from);
  } catch (cause) {
    throw new Error(`tls.${setting}: cannot read ${from}: ${(cause as Error).message}`, { cause });
  }
}
