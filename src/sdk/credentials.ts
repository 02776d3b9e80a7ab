/** TLS of a hook server: its certificate, and whether clients have to show one too (mTLS). PEM throughout. */
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";

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

/** Reads a PEM, or says which setting names a file that cannot be read. */
export function pem(from: Pem, setting: string): Buffer {
  if (typeof from !== "string") return from;
  try {
    return readFileSync(from);
  } catch (cause) {
    throw new Error(`tls.${setting}: cannot read ${from}: ${(cause as Error).message}`, { cause });
  }
}
