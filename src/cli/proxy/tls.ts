/** The configuration's TLS sections as the sessions use them. */
import type { Config } from "../../config/schema.ts";
import { type TlsRule, TlsRules } from "../../egress/tls-policy.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { domainGlobs, ipOctets, network } from "../../filter/when.ts";
import {
  DownstreamContext,
  fingerprint,
  readCertificates,
  UpstreamContexts,
} from "../../net/tls-contexts.ts";
import type { SessionTls } from "../../session/settings.ts";

/** Throws where a file of certificates or keys cannot be used. */
export function sessionTls(config: Config, telemetry: Telemetry): SessionTls {
  const authorities = new Map<string, string[]>();
  for (const { ca } of config.tls) if (ca !== undefined) authorities.set(ca, readCertificates(ca));
  const rules = config.tls.map(
    (rule): TlsRule => ({
      policy: rule.policy,
      names: rule.names,
      authorities: rule.ca === undefined ? undefined : new Set(authorities.get(rule.ca)?.map(fingerprint)),
      matchesDestination: rule.match.destination && networkTest(rule.match.destination),
      matchesRecipientDomain: rule.match.recipientDomain && domainGlobs(rule.match.recipientDomain),
    }),
  );
  const all = [...authorities.values()].flat();
  const upstream = new UpstreamContexts(all);
  const downstream =
    config.downstreamTls &&
    new DownstreamContext(config.downstreamTls, (error) =>
      telemetry.log(
        "error",
        "certificate_unusable",
        "downstream_tls: the changed certificate is not used",
        {},
        error,
      ),
    );
  return {
    rules: new TlsRules(rules, new Set(all.map(fingerprint))),
    upstream: (policy, names) => upstream.options(policy, names),
    downstream: () => downstream?.current(),
  };
}

/** True for an address in one of the networks. */
export function networkTest(
  networks: readonly { readonly address: string; readonly prefix: number }[],
): (ip: string) => boolean {
  const tests = networks.map(({ address, prefix }) => network(address, prefix));
  return (ip) => {
    const octets = ipOctets(ip);
    return octets !== undefined && tests.some((test) => test(octets));
  };
}
