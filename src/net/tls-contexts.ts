/**
 * TLS contexts, made once and shared by all sessions: one per policy towards the destination (making one costs more than a
 * handshake), one of the operator's certificate towards clients, made anew when its files change.
 */
import { constants, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import * as tls from "node:tls";
import type { TlsPolicy } from "../egress/tls-policy.ts";

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** Certificates of a PEM file. Throws what `readFileSync` throws, or an Error where there is none. */
export function readCertificates(file: string): string[] {
  const certificates = readFileSync(file, "latin1").match(PEM_CERTIFICATE);
  if (certificates === null) throw new Error(`${file} holds no PEM certificate`);
  return certificates;
}

/** SHA-256 fingerprint as Node writes it ("AB:CD:…"). */
export function fingerprint(pem: string): string {
  return new X509Certificate(pem).fingerprint256;
}

/** OpenSSL has no TLS below 1.2 at its usual security level, whatever the lowest version is. */
const CIPHERS_OF_OLD_TLS = "DEFAULT:@SECLEVEL=0";

export class UpstreamContexts {
  private readonly opportunistic: tls.SecureContext;
  private readonly strict: tls.SecureContext;

  /** `extra`: PEM certificates of authorities that rules name beside the system's. */
  constructor(extra: readonly string[]) {
    const system = tls.getCACertificates("system");
    const ca = [...(system.length > 0 ? system : tls.getCACertificates("default")), ...extra];
    // RFC 7435: any encryption beats the plaintext that would follow, so `may` takes what the peer has.
    this.opportunistic = tls.createSecureContext({ ca, minVersion: "TLSv1", ciphers: CIPHERS_OF_OLD_TLS });
    this.strict = tls.createSecureContext({ ca, minVersion: "TLSv1.2" });
  }

  /** Options for tls.connect; SNI is the first name that is one (RFC 6066 §3 has no addresses). */
  options(policy: TlsPolicy, names: readonly string[]): tls.ConnectionOptions {
    const secureContext = policy === "may" ? this.opportunistic : this.strict;
    const servername = names.find((name) => isIP(name) === 0);
    return servername === undefined ? { secureContext } : { secureContext, servername };
  }
}

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: tls.SecureVersion;
}

/** How often the files are looked at, ms. */
const LOOK_MS = 5000;

export class DownstreamContext {
  private readonly files: CertificateFiles;
  private readonly failed: (error: Error) => void;
  private context: tls.SecureContext;
  private stamp: string;
  private lookedAt: number;

  /** Throws where the files cannot be used. `failed`: a later change was no usable certificate; the old one goes on. */
  constructor(files: CertificateFiles, failed: (error: Error) => void) {
    this.files = files;
    this.failed = failed;
    this.context = this.load();
    this.stamp = this.look();
    this.lookedAt = performance.now();
  }

  current(): tls.SecureContext {
    if (performance.now() - this.lookedAt > LOOK_MS) this.refresh();
    return this.context;
  }

  private refresh(): void {
    this.lookedAt = performance.now();
    try {
      const stamp = this.look();
      if (stamp === this.stamp) return;
      this.stamp = stamp;
      this.context = this.load();
    } catch (error) {
      this.failed(error as Error);
    }
  }

  private load(): tls.SecureContext {
    const { cert, key, minVersion } = this.files;
    const isOld = minVersion === "TLSv1" || minVersion === "TLSv1.1";
    return tls.createSecureContext({
      cert: readFileSync(cert),
      key: readFileSync(key),
      minVersion,
      // Of TLS 1.2: each is a handshake that the client has for nearly nothing (CVE-2011-1473). Node limits those of a tls.Server only.
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      ...(isOld ? { ciphers: CIPHERS_OF_OLD_TLS } : {}),
    });
  }

  private look(): string {
    return [this.files.cert, this.files.key]
      .map((file) => statSync(file))
      .map((stat) => `${stat.ino}:${stat.mtimeMs}:${stat.size}`)
      .join(" ");
  }
}
