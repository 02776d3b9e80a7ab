/** A self-signed certificate for localhost and 127.0.0.1, made with openssl; undefined where that is missing. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** With CI=true a missing openssl is an error. */
export function makeCertificate(folder: string): Certificate | undefined {
  const [certFile, keyFile] = [`${folder}/cert.pem`, `${folder}/key.pem`];
  const made = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...["-keyout", keyFile, "-out", certFile, "-subj", "/CN=localhost"],
    ...["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
  ]);
  if (made.error && process.env.CI !== "true") return undefined;
  if (made.error) throw made.error;
  return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
}
