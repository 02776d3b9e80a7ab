/** A self-signed certificate for a test's server. */

import { execFileSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "./lab.ts";

export interface Certificate {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
}

export function makeCertificate(lab: Lab, hostname: string): Certificate {
  const cert = join(lab.folder, `${hostname}.crt`);
  const key = join(lab.folder, `${hostname}.key`);
  const subject = ["-subj", `/CN=${hostname}`, "-addext", `subjectAltName=DNS:${hostname}`];
  const kind = [
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "30",
  ];
  execFileSync("openssl", ["req", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "pipe" });
  // Read by the users that mail servers change to.
  chmodSync(key, 0o644);
  return { cert, key };
}
