/** The choice of the source IP: pools and rules. */
import { z } from "zod";
import { familyOf, type ReplyText, readReply, Unreadable } from "../scalars.ts";
import {
  addressGlob,
  count,
  domainGlob,
  glob,
  hostName,
  ipAddress,
  listOf,
  network,
  scalar,
  shortName,
} from "../values.ts";
import { clientNetworks } from "./capture.ts";

const poolIp = z
  .preprocess(
    (value) => (typeof value === "string" ? { ip: value } : value),
    z.strictObject({
      ip: ipAddress.describe("Address of this host to connect from."),
      ehlo: hostName
        .optional()
        .describe("Name said in EHLO from this address instead of the client's; PTR and HELO have to agree."),
      weight: count(1, 1000).prefault(1).describe("Share among the addresses of the pool."),
      daily_cap: count(1, 1e12)
        .optional()
        .describe("Messages per day and provider; what is over goes to the next address."),
    }),
  )
  .transform((raw) => ({
    ip: raw.ip,
    family: familyOf(raw.ip),
    ehlo: raw.ehlo,
    weight: raw.weight,
    dailyCap: raw.daily_cap,
  }));

export const pool = z
  .strictObject({
    ips: listOf(poolIp).describe("The addresses; a plain address stands for `{ ip: ADDRESS }`."),
    max_connections: count(1, 1_000_000)
      .optional()
      .describe("Connections at a time from each address to one provider."),
  })
  .transform((raw) => ({ ips: raw.ips, maxConnections: raw.max_connections }));

const ruleMatch = z
  .strictObject({
    client: clientNetworks.optional().describe("Networks of the client."),
    destination: listOf(network).optional().describe("Networks of the destination."),
    sender: listOf(addressGlob).optional().describe("Addresses in MAIL FROM (globs)."),
    sender_domain: listOf(domainGlob).optional().describe("Domains in MAIL FROM (globs)."),
    recipient_domain: listOf(domainGlob).optional().describe("Domain of the recipient (globs)."),
    auth_user: listOf(glob).optional().describe("User of an accepted AUTH (globs)."),
    tier: listOf(shortName).optional().describe("Tier of the sender."),
    provider: listOf(glob).optional().describe("MX group of the destination (globs)."),
  })
  .transform((raw) => ({
    client: raw.client,
    destination: raw.destination,
    sender: raw.sender,
    senderDomain: raw.sender_domain,
    recipientDomain: raw.recipient_domain,
    authUser: raw.auth_user,
    tier: raw.tier,
    provider: raw.provider,
  }));

const ruleSource = scalar(
  "`client`, `system` or `pool: NAME`",
  (value): "client" | "system" | { pool: string } => {
    if (value === "client" || value === "system") return value;
    const pooled = z.strictObject({ pool: shortName }).safeParse(value);
    if (!pooled.success) throw new Unreadable("client, system or { pool: NAME }");
    return pooled.data;
  },
);

export const rule = z
  .strictObject({
    name: shortName.optional().describe("Name in events and metrics; default: `rule-N`."),
    match: ruleMatch
      .prefault({})
      .describe("What the rule is for; keys are joined by «and», values of a list by «or»."),
    pool: shortName.optional().describe("Connect from an address of this pool."),
    source: ruleSource
      .optional()
      .describe(
        "`client`: the client's own address where this host has it, else the system's choice. `system`. `{ pool: NAME }` is the same as `pool`.",
      ),
    reject: scalar("reply", (value) => readReply(value, 5))
      .optional()
      .describe("Refuse with this 5xx reply."),
    defer: scalar("reply", (value) => readReply(value, 4))
      .optional()
      .describe("Defer with this 4xx reply."),
  })
  .transform((raw, context) => ({ name: raw.name, match: raw.match, action: ruleAction(raw, context) }));

export type RuleAction =
  | { readonly kind: "pool"; readonly pool: string }
  | { readonly kind: "source"; readonly source: "client" | "system" }
  | { readonly kind: "reject"; readonly reply: ReplyText }
  | { readonly kind: "defer"; readonly reply: ReplyText };

interface RawAction {
  readonly pool?: string | undefined;
  readonly source?: "client" | "system" | { readonly pool: string } | undefined;
  readonly reject?: ReplyText | undefined;
  readonly defer?: ReplyText | undefined;
}
function ruleAction(raw: RawAction, context: z.core.$RefinementCtx): RuleAction {
  const actions: RuleAction[] = [];
  if (raw.pool !== undefined) actions.push({ kind: "pool", pool: raw.pool });
  if (typeof raw.source === "object") actions.push({ kind: "pool", pool: raw.source.pool });
  else if (raw.source !== undefined) actions.push({ kind: "source", source: raw.source });
  if (raw.reject !== undefined) actions.push({ kind: "reject", reply: raw.reject });
  if (raw.defer !== undefined) actions.push({ kind: "defer", reply: raw.defer });
  if (actions.length === 1) return actions[0]!;
  const message = `says ${actions.length === 0 ? "no" : actions.length} actions, should say one of pool, source, reject and defer`;
  context.issues.push({ code: "custom", input: raw, message, params: { whole: true } });
  return z.NEVER;
}
