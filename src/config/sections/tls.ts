/** TLS on both sides, and towards hooks and Redis. */
import { z } from "zod";
import { certificateName, domainGlob, filePath, hostName, listOf, network, words } from "../values.ts";

const TLS_VERSIONS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;

export const downstreamTls = z
  .strictObject({
    cert: filePath.describe(
      "Certificate chain (PEM) that is shown to clients; read again when the file changes.",
    ),
    key: filePath.describe("Its private key (PEM)."),
    min_version: words(...TLS_VERSIONS)
      .prefault("TLSv1.2")
      .describe("Lowest TLS version that a client may use."),
  })
  .transform((raw) => ({ cert: raw.cert, key: raw.key, minVersion: raw.min_version }));

export const tlsRule = z
  .strictObject({
    match: z
      .strictObject({
        destination: listOf(network)
          .optional()
          .describe("Networks of the destination; judged after EHLO (`421` where unmet)."),
        recipient_domain: listOf(domainGlob)
          .optional()
          .describe("Domains of the recipient (globs); judged at each RCPT (`451` where unmet)."),
      })
      .transform((raw) => ({ destination: raw.destination, recipientDomain: raw.recipient_domain }))
      .prefault({})
      .describe("What the rule is for; all keys have to match, without keys it matches everything."),
    policy: words("none", "may", "encrypt", "verify").describe(
      "`none`: plaintext. `may`: encrypt when offered, do not verify, fall back. `encrypt`: never plaintext. `verify`: chain and one of `names` checked.",
    ),
    names: listOf(certificateName)
      .prefault([])
      .describe(
        "Names, one of which the certificate has to carry; needed by `verify` (`fixed` uses its destination's).",
      ),
    ca: filePath.optional().describe("File (PEM) with the authorities to trust instead of the system's."),
  })
  .transform((raw) => ({ match: raw.match, policy: raw.policy, names: raw.names, ca: raw.ca }));

export const clientTls = z
  .strictObject({
    ca: filePath.optional().describe("File (PEM) with the authorities to trust; default: the system's."),
    cert: filePath.optional().describe("Own certificate (PEM), for mutual TLS."),
    key: filePath.optional().describe("Its private key (PEM)."),
    server_name: hostName
      .optional()
      .describe("Name that the server's certificate has to carry; default: the host of the address."),
  })
  .transform((raw) => ({ ca: raw.ca, cert: raw.cert, key: raw.key, serverName: raw.server_name }));
