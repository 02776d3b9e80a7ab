/** How senders are counted and judged, and the Redis that is shared for it. */
import { z } from "zod";
import { readDuration, Unreadable } from "../scalars.ts";
import { filePath, fraction, hostPort, listOf, scalar, shortName, text, timer, words } from "../values.ts";
import { clientTls } from "./tls.ts";

export const redis = z
  .strictObject({
    url: scalar("redis URL", (value) => {
      if (typeof value !== "string" || !/^rediss?:\/\/\S+$/.test(value) || !URL.canParse(value)) {
        throw new Unreadable("redis://[USER:PASSWORD@]HOST:PORT/DB or rediss://… (TLS)");
      }
      return value;
    })
      .optional()
      .describe(
        "`redis://[USER:PASSWORD@]HOST:PORT/DB`, `rediss://` for TLS. One of `url`, `sentinels`, `cluster`.",
      ),
    sentinels: listOf(hostPort).optional().describe("Addresses of the Sentinels."),
    master: text.prefault("mymaster").describe("Name of the master that the Sentinels watch."),
    cluster: listOf(hostPort).optional().describe("Addresses of some nodes of a Redis Cluster."),
    username: text.optional().describe("ACL user, with `sentinels` and `cluster`."),
    password: text.optional().describe("Its password."),
    tls: z
      .preprocess(
        (value) => (value === true ? {} : value === false ? undefined : value),
        clientTls.optional(),
      )
      .describe(
        "TLS with `sentinels` and `cluster`: `true`, or its files. Beside a `rediss://` URL: its files.",
      ),
    prefix: text.prefault("warp:1:").describe("Prefix of every key."),
    budget: timer
      .prefault("50ms")
      .describe("Longest wait for Redis while mail waits; then the local snapshot decides."),
  })
  .transform((raw) => ({
    url: raw.url,
    sentinels: raw.sentinels,
    master: raw.master,
    cluster: raw.cluster,
    username: raw.username,
    password: raw.password,
    tls: raw.tls,
    prefix: raw.prefix,
    budgetMs: raw.budget,
  }));

const IDENTITIES = ["mail_from", "sender_domain", "client", "auth_user"] as const;

const tier = z.strictObject({
  enter: fraction.describe("Score at which a sender enters the tier."),
  leave: fraction.describe(
    "Score at which it leaves it again; above `enter` for a tier of bad senders, below for good ones.",
  ),
});

export const reputation = z
  .strictObject({
    identity: listOf(words(...IDENTITIES))
      .prefault(["mail_from"])
      .describe(
        "What a sender is: `mail_from`, `sender_domain`, `client`, `auth_user`, or a list of them taken together.",
      ),
    strip: listOf(words("plus", "batv", "srs", "verp"))
      .prefault(["plus", "batv", "srs"])
      .describe("What is undone in an address before it counts."),
    half_lives: listOf(
      scalar("duration", (value) => {
        const ms = readDuration(value);
        if (ms < 1000 || ms > 365 * 86_400_000) throw new Unreadable("a duration from 1s to 365d");
        return ms;
      }),
    )
      .prefault(["1h", "1d"])
      .describe("The two half-lives of the counters, the shorter first."),
    state_file: filePath
      .optional()
      .describe("Where the in-memory counters are kept over a restart (without Redis)."),
    tiers: z
      .record(shortName, tier)
      .prefault({ poor: { enter: 0.35, leave: 0.5 }, good: { enter: 0.85, leave: 0.75 } })
      .describe("Tiers by name; whoever is in none is `neutral`."),
    dwell: timer.prefault("10m").describe("Shortest stay in a tier."),
  })
  .transform((raw) => ({
    identity: raw.identity,
    strip: raw.strip,
    halfLivesMs: raw.half_lives,
    stateFile: raw.state_file,
    tiers: raw.tiers,
    dwellMs: raw.dwell,
  }));
