/**
 * The configuration: one schema, from which come the checking of the file, the normalised `Config`, the nearest-key
 * hints and `docs/configuration.md`. Keys are spelled as in the file (snake_case). What comes out is camelCase, fully
 * defaulted and frozen: durations as ms (`…Ms`), sizes as octets (`…Octets`), addresses and networks parsed. What is
 * absent and has no default is `undefined`. Checks that need more than one key are in `checks.ts`.
 */
import { z } from "zod";
import {
  familyOf,
  type HookAddress,
  type HostPort,
  type IpPort,
  type Network,
  type ReplyText,
  readDuration,
  readHookAddress,
  readHostPort,
  readIp,
  readIpPort,
  readNetwork,
  readReply,
  readShare,
  readSize,
  Unreadable,
} from "./scalars.ts";

export type { HookAddress, HostPort, IpPort, Network, ReplyText };

/** setTimeout counts in 32 bits: no timer of the proxy can be longer. */
const LONGEST_TIMER_MS = 24 * 86_400_000;

// ---------------------------------------------------------------------------------------------------- value types

/** A value that a reader of `scalars.ts` takes; `kind` is what the reference calls it. */
function scalar<T>(kind: string, read: (value: unknown) => T) {
  return z
    .unknown()
    .transform((value, context): T => {
      try {
        return read(value);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        context.issues.push({
          code: "custom",
          input: value,
          message: error.message,
          params: { plain: true },
        });
        return z.NEVER;
      }
    })
    .meta({ kind });
}

const duration = scalar("duration", readDuration);
const timer = scalar("duration", (value) => {
  const ms = readDuration(value);
  if (ms < 1 || ms > LONGEST_TIMER_MS) throw new Unreadable("a duration from 1ms to 24d");
  return ms;
});
const size = scalar("size", readSize);
const positiveSize = scalar("size", (value) => {
  const octets = readSize(value);
  if (octets < 1) throw new Unreadable("a size of at least 1 octet");
  return octets;
});
const ipAddress = scalar("IP address", readIp);
const listenAddress = scalar("ADDRESS:PORT", readIpPort);
const hostPort = scalar("HOST:PORT", readHostPort);
const hookAddress = scalar("hook address", readHookAddress);
const network = scalar("network", readNetwork);
const share = scalar("share in %", readShare);
const filePath = scalar("path", (value) => {
  if (typeof value !== "string" || value.trim() === "" || value.includes("\0"))
    throw new Unreadable("a path");
  return value;
});
const text = scalar("text", (value) => {
  if (typeof value !== "string" || value.trim() === "") throw new Unreadable("a text that isn't empty");
  return value;
});
/** Host name as a peer or a certificate says it: letters, digits, hyphens, dots; one leading "*." where asked. */
const hostName = scalar("host name", (value) => {
  const name = typeof value === "string" ? value.trim().replace(/\.$/, "").toLowerCase() : "";
  if (!/^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(name)) {
    throw new Unreadable("a host name, such as mx.example.net");
  }
  return name;
});
/** A name in a certificate: host name or IP address (which then needs an iPAddress SAN). */
const certificateName = scalar("host name or IP address", (value) => {
  try {
    return readIp(value);
  } catch {
    const parsed = hostName.safeParse(value);
    if (!parsed.success) throw new Unreadable("a host name or IP address, such as mx.example.net");
    return parsed.data;
  }
});
const glob = scalar("glob", (value) => {
  if (typeof value !== "string" || value === "" || /\s/.test(value)) {
    throw new Unreadable('a name or pattern without blanks, such as example.com, "*.example.com" or "*"');
  }
  return value.toLowerCase();
});
/** Names of hooks, pools, rules and tiers appear in metrics, logs and Redis. */
const shortName = scalar("name", (value) => {
  if (typeof value !== "string" || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(value)) {
    throw new Unreadable("a name of letters, digits, dot, hyphen and underscore (at most 64)");
  }
  return value;
});
const yesNo = z.boolean().meta({ kind: "yes or no" });
const count = (lowest: number, highest: number) =>
  scalar("number", (value) => {
    const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number) || number < lowest || number > highest) {
      throw new Unreadable(`a whole number from ${lowest} to ${highest}`);
    }
    return number;
  });
const fraction = scalar("number", (value) => {
  if (typeof value !== "number" || !(value >= 0 && value <= 1)) throw new Unreadable("a number from 0 to 1");
  return value;
});
const port = count(1, 65535);

/** One value stands for a list of one. */
function listOf<T extends z.ZodType>(item: T) {
  return z.preprocess(
    (value) => (value === undefined || Array.isArray(value) ? value : [value]),
    z.array(item),
  );
}
function words<const W extends readonly [string, ...string[]]>(...choices: W) {
  return z.enum(choices);
}
const TLS_VERSIONS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;

// ------------------------------------------------------------------------------------------------------- sections

const opaquePorts = scalar("`relay`, `refuse` or ports", (value): "relay" | "refuse" | number[] => {
  if (value === "relay" || value === "refuse") return value;
  const ports = z.array(port).safeParse(Array.isArray(value) ? value : [value]);
  if (!ports.success) throw new Unreadable("relay, refuse or a list of ports");
  return ports.data;
});
const capture = z
  .strictObject({
    mode: words("redirect", "tproxy", "fixed")
      .optional()
      .describe(
        "How connections reach warp: `redirect` and `tproxy` are captured by the kernel (`warp rules`), `fixed` sends every connection to `destination`. Default: `fixed` where `destination` is given, else `redirect`.",
      ),
    destination: hostPort.optional().describe("The one destination of `fixed`; naming it implies that mode."),
    mark: count(1, 0xffffffff)
      .prefault(0x77)
      .describe(
        "SO_MARK of warp's own connections, by which the capture rules let them pass. Keep it apart from TPROXY's mark.",
      ),
    ports: listOf(port)
      .prefault([25])
      .describe(
        "Destination ports that are captured and that warp connects to; any other is refused with `421 4.3.5`.",
      ),
    opaque_ports: opaquePorts
      .optional()
      .describe(
        "Traffic that is no SMTP dialogue (465 by nature): `relay` untouched with connection events only, `refuse`, or the list of ports to relay. Default: `relay`, or `refuse` where a hook may be a filter.",
      ),
  })
  .transform((raw) => ({
    mode: raw.mode ?? (raw.destination === undefined ? ("redirect" as const) : ("fixed" as const)),
    destination: raw.destination,
    mark: raw.mark,
    ports: raw.ports,
    opaquePorts: raw.opaque_ports,
  }));

const destinations = z
  .strictObject({
    deny_self: yesNo
      .prefault(true)
      .describe(
        "Refuse destinations that are an address of this host (`redirect`, `tproxy`): inbound mail relayed from a trusted address would make an open relay of the local MTA.",
      ),
    deny: listOf(network).prefault([]).describe("Networks that are never connected to."),
  })
  .transform((raw) => ({ denySelf: raw.deny_self, deny: raw.deny }));

const downstreamTls = z
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

const tlsRule = z
  .strictObject({
    match: z
      .strictObject({
        destination: listOf(network)
          .optional()
          .describe("Networks of the destination; judged after EHLO (`421` where unmet)."),
        recipient_domain: listOf(glob)
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

const clientTls = z
  .strictObject({
    ca: filePath.optional().describe("File (PEM) with the authorities to trust; default: the system's."),
    cert: filePath.optional().describe("Own certificate (PEM), for mutual TLS."),
    key: filePath.optional().describe("Its private key (PEM)."),
    server_name: hostName
      .optional()
      .describe("Name that the server's certificate has to carry; default: the host of the address."),
  })
  .transform((raw) => ({ ca: raw.ca, cert: raw.cert, key: raw.key, serverName: raw.server_name }));

const clientNetworks = listOf(
  scalar("network or `self`", (value) => (value === "self" ? ("self" as const) : readNetwork(value))),
);

const when = z
  .strictObject({
    sender: listOf(glob).optional().describe("Addresses in MAIL FROM (globs); `<>` is the null sender."),
    sender_domain: listOf(glob).optional().describe("Domains in MAIL FROM (globs)."),
    recipient_domain: listOf(glob).optional().describe("Domains of a recipient (globs); one is enough."),
    client: clientNetworks.optional().describe("Networks of the client."),
    min_octets: size.prefault(0).describe("Only messages of at least so many octets."),
    max_octets: positiveSize.optional().describe("Only messages of at most so many octets."),
    share: share
      .prefault(100)
      .describe("Only this share of the mail, in %; which mail is decided by its transaction id."),
  })
  .transform((raw) => ({
    sender: raw.sender,
    senderDomain: raw.sender_domain,
    recipientDomain: raw.recipient_domain,
    client: raw.client,
    minOctets: raw.min_octets,
    maxOctets: raw.max_octets,
    sharePercent: raw.share,
  }));

const hook = z
  .strictObject({
    name: shortName.describe("Name in events, metrics and logs; unique."),
    address: hookAddress.describe(
      "`unix:/path` or `HOST:PORT`. TCP to anything but loopback needs `tls` or `insecure: true`.",
    ),
    roles: listOf(words("filter", "observe"))
      .optional()
      .describe(
        "What it is used for. Default: what its Describe says; until it has said it, it counts as a filter that fails.",
      ),
    deadline: timer.prefault("30s").describe("Longest wait for a verdict."),
    on_failure: words("tempfail", "accept", "reject")
      .prefault("tempfail")
      .describe(
        "What happens to a message when the filter fails: `451 4.7.1`, relayed with a header that says so, or `554 5.7.1`.",
      ),
    enforce: yesNo.prefault(true).describe("`false`: shadow mode, the verdict is recorded and not applied."),
    when: when.prefault({}).describe("Which mail the filter sees."),
    events: listOf(words("after_comm", "after_transaction", "after_conn", "notice"))
      .optional()
      .describe("Which events an observer gets. Default: those that its Describe names, and notices."),
    max_message: positiveSize
      .optional()
      .describe("A longer message reaches the filter cut; the smaller of this and what Describe says."),
    header_only: yesNo.optional().describe("Send the header section only. Default: what Describe says."),
    tls: clientTls.optional().describe("TLS towards the hook."),
    insecure: yesNo
      .prefault(false)
      .describe("Allow plaintext TCP beyond loopback. Whoever can read that network reads the mail."),
  })
  .transform((raw) => ({
    name: raw.name,
    address: raw.address,
    roles: raw.roles,
    deadlineMs: raw.deadline,
    onFailure: raw.on_failure,
    enforce: raw.enforce,
    when: raw.when,
    events: raw.events,
    maxMessageOctets: raw.max_message,
    headerOnly: raw.header_only,
    tls: raw.tls,
    insecure: raw.insecure,
  }));

const filter = z
  .strictObject({
    hold_memory: positiveSize.prefault("1MiB").describe("A held message beyond this goes to the spool."),
    hold_total: positiveSize
      .prefault("256MiB")
      .describe("Budget in memory and spool for all held messages of the proxy."),
    spool: filePath
      .optional()
      .describe("Directory of the (unlinked) spool files; default: the system's temporary directory."),
    chain_budget: timer.prefault("120s").describe("Longest time of the whole chain for one message."),
    discard: yesNo
      .prefault(false)
      .describe("Allow filters to discard: the client is told 250 and nothing is sent."),
  })
  .transform((raw) => ({
    holdMemoryOctets: raw.hold_memory,
    holdTotalOctets: raw.hold_total,
    spool: raw.spool,
    chainBudgetMs: raw.chain_budget,
    discard: raw.discard,
  }));

const journal = z
  .strictObject({
    dir: filePath.describe("Directory of the segments; created with mode 0700."),
    max_size: positiveSize
      .prefault("2GiB")
      .describe("Cap on disk; beyond it the oldest events are dropped and announced as a gap."),
    fsync: duration
      .prefault("1s")
      .describe("Longest time that a written event is not yet synced to disk; 0: sync each batch."),
  })
  .transform((raw) => ({ dir: raw.dir, maxSizeOctets: raw.max_size, fsyncMs: raw.fsync }));

const redis = z
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
      .describe("TLS with `sentinels` and `cluster`: `true`, or its files."),
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
const reputation = z
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
const pool = z
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
    sender: listOf(glob).optional().describe("Addresses in MAIL FROM (globs)."),
    sender_domain: listOf(glob).optional().describe("Domains in MAIL FROM (globs)."),
    recipient_domain: listOf(glob).optional().describe("Domain of the recipient (globs)."),
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
const rule = z
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

const limits = z
  .strictObject({
    sessions: count(1, 1_000_000).prefault(5000).describe("Sessions at a time, of all workers together."),
    sessions_per_client: count(1, 1_000_000).prefault(500).describe("Sessions at a time from one address."),
    message: positiveSize.prefault(10_240_000).describe("Longest message; `552 5.3.4` beyond it."),
    command_line: scalar("size", (value) => {
      const octets = readSize(value);
      if (octets < 512) throw new Unreadable("a size of at least 512 octets (RFC 5321)");
      return octets;
    })
      .prefault("16KiB")
      .describe("Longest command line; AUTH may have 12,288 octets (RFC 4954)."),
    reply: scalar("size", (value) => {
      const octets = readSize(value);
      if (octets < 512) throw new Unreadable("a size of at least 512 octets (RFC 5321)");
      return octets;
    })
      .prefault("64KiB")
      .describe("Longest reply of a destination, all its lines together."),
    recipients_recorded: count(1, 1000)
      .prefault(1000)
      .describe("Recipients of one transaction that are in its event."),
  })
  .transform((raw) => ({
    sessions: raw.sessions,
    sessionsPerClient: raw.sessions_per_client,
    messageOctets: raw.message,
    commandLineOctets: raw.command_line,
    replyOctets: raw.reply,
    recipientsRecorded: raw.recipients_recorded,
  }));

const timeouts = z
  .strictObject({
    dial: timer
      .prefault("25s")
      .describe("Connecting to the destination; below an MTA's own connect timeout."),
    greeting: timer.prefault("5m").describe("The destination's greeting."),
    command: timer.prefault("5m").describe("The reply to a command (MAIL, RCPT, EHLO, …)."),
    tls: timer.prefault("30s").describe("The reply to STARTTLS and the handshake."),
    data_start: timer.prefault("2m").describe("The reply to DATA."),
    data_block: timer.prefault("3m").describe("One block of the message, in either direction."),
    end_of_data: timer
      .prefault("9m")
      .describe(
        "From the client's end of data to the final reply, filters included; below the client's 10 minutes.",
      ),
    idle: timer.prefault("5m").describe("The client's next command."),
    drain: timer.prefault("60s").describe("How long running transactions may take at a stop or restart."),
  })
  .transform((raw) => ({
    dialMs: raw.dial,
    greetingMs: raw.greeting,
    commandMs: raw.command,
    tlsMs: raw.tls,
    dataStartMs: raw.data_start,
    dataBlockMs: raw.data_block,
    endOfDataMs: raw.end_of_data,
    idleMs: raw.idle,
    drainMs: raw.drain,
  }));

const log = z.strictObject({
  level: words("trace", "debug", "info", "warn", "error", "fatal", "silent")
    .prefault("info")
    .describe("Lowest level that is written."),
  format: words("json", "text")
    .prefault("json")
    .describe("`json`: one object per line. `text`: for reading."),
  bodies: yesNo
    .prefault(false)
    .describe(
      "Let the content of messages be in events and in `verbose` (64 KiB of each), not only their header section.",
    ),
  verbose: yesNo
    .prefault(false)
    .describe("Print each line of each dialogue with its direction, as the original's `-verbose`."),
});

const metrics = z.strictObject({
  listen: listenAddress.describe(
    "Where `/metrics`, `/healthz` and `/readyz` are served. Nothing there asks for a password.",
  ),
});

// ------------------------------------------------------------------------- settings of the bundled hook servers

const sqlite = z
  .strictObject({
    dsn: text.optional().describe("Path, `:memory:` or `file:` URI; default: `SQLITE_DSN`, then `DSN`."),
    keep: duration.optional().describe("How long rows are kept; default: for ever."),
    synchronous: words("full", "normal")
      .prefault("full")
      .describe(
        "`full`: on the disk before each acknowledgement; `normal`: safe unless the machine crashes.",
      ),
  })
  .transform((raw) => ({ dsn: raw.dsn, keepMs: raw.keep, synchronous: raw.synchronous }));
const file = z
  .strictObject({
    path: filePath.optional().describe("File that lines are appended to; default: `FILE_PATH`."),
    rotate_size: positiveSize.optional().describe("Rotate beyond this size."),
    rotate_age: duration.optional().describe("Rotate after this time."),
    rotate_keep: count(0, 10_000).prefault(10).describe("Rotated files that are kept; 0: all."),
    fsync: words("always", "interval", "never")
      .prefault("always")
      .describe(
        "When the file is synced to disk: before each acknowledgement, once a second, or as the system likes.",
      ),
  })
  .transform((raw) => ({
    path: raw.path,
    rotateSizeOctets: raw.rotate_size,
    rotateAgeMs: raw.rotate_age,
    rotateKeep: raw.rotate_keep,
    fsync: raw.fsync,
  }));
const mysql = z
  .strictObject({
    dsn: text
      .optional()
      .describe(
        "`user:password@tcp(host:port)/database?params` or `mysql://…`; default: `MYSQL_DSN`, then `DSN`.",
      ),
    keep: duration.optional().describe("How long rows are kept; default: for ever."),
  })
  .transform((raw) => ({ dsn: raw.dsn, keepMs: raw.keep }));
const slack = z
  .strictObject({
    token: text.optional().describe("Bot token; default: `SLACK_TOKEN`."),
    channel: text.optional().describe("Channel; default: `SLACK_CHANNEL`."),
    url: text.optional().describe("Base address of Slack's API, for a gateway or a test server."),
    connections: yesNo.prefault(true).describe("A notice per connection, in the original's form."),
    digest: timer
      .prefault("1m")
      .describe("Shortest time between two digests (rejections, throttling, hook failures)."),
    thresholds: z
      .strictObject({
        rejections: count(0, 1_000_000).prefault(10).describe("Recipients refused."),
        throttled: count(0, 1_000_000).prefault(10).describe("Recipients deferred for rate or reputation."),
        blocked_ips: count(0, 1_000_000)
          .prefault(1)
          .describe("Answers that say that a source IP is blocked."),
        hook_failures: count(0, 1_000_000).prefault(1).describe("Failures of filters."),
      })
      .prefault({})
      .describe("From how many between two digests each is said; 0: never."),
  })
  .transform((raw) => ({
    token: raw.token,
    channel: raw.channel,
    url: raw.url,
    connections: raw.connections,
    digestMs: raw.digest,
    thresholds: {
      rejections: raw.thresholds.rejections,
      throttled: raw.thresholds.throttled,
      blockedIps: raw.thresholds.blocked_ips,
      hookFailures: raw.thresholds.hook_failures,
    },
  }));

// ------------------------------------------------------------------------------------------------------- the whole

/** The file, key by key. `parse.ts` runs it section by section and turns the result into `Config`. */
export const configSchema = z.strictObject({
  proxy: text
    .optional()
    .describe("Name of this proxy in events, metrics and Redis; default: the host's name."),
  listen: listOf(listenAddress)
    .prefault(["127.0.0.1:10025", "[::1]:10025"])
    .describe("Where it listens. Of the default, a family that the host lacks is skipped."),
  workers: count(1, 256).prefault(1).describe("Processes that accept connections."),
  capture: capture.prefault({}).describe("How connections reach warp, and which."),
  clients: clientNetworks.prefault(["self"]).describe("Who may connect; `self`: every address of this host."),
  destinations: destinations.prefault({}).describe("Where warp does not connect to."),
  outbound_ip: listOf(ipAddress)
    .prefault([])
    .describe(
      "Source IP where no rule says otherwise: at most one IPv4 and one IPv6. `0.0.0.0` and `::` mean unset.",
    ),
  downstream_tls: downstreamTls.optional().describe("Offer STARTTLS to clients."),
  tls: listOf(tlsRule)
    .prefault([{ policy: "may" }])
    .describe("TLS towards the destination; the first rule that matches wins, `may` where none does."),
  hooks: listOf(hook).prefault([]).describe("Hook servers; filters are called in this order."),
  filter: filter.prefault({}).describe("Messages that are held for filters."),
  journal: journal.optional().describe("Keep unacknowledged events on disk."),
  redis: redis.optional().describe("Shared reputation; without it, in memory."),
  plugins: listOf(words("file", "sqlite", "mysql", "slack"))
    .prefault([])
    .describe("Bundled hook servers that are started and supervised."),
  sqlite: sqlite.prefault({}).describe("Settings of the sqlite plugin."),
  file: file.prefault({}).describe("Settings of the file plugin."),
  mysql: mysql.prefault({}).describe("Settings of the mysql plugin."),
  slack: slack.prefault({}).describe("Settings of the slack plugin."),
  reputation: reputation.prefault({}).describe("How senders are counted and judged."),
  pools: z.record(shortName, pool).prefault({}).describe("Pools of source IPs, by name."),
  rules: listOf(rule)
    .prefault([])
    .describe("Choice of the source IP; the first rule that matches wins, `source: client` where none does."),
  limits: limits.prefault({}).describe("Caps; for the whole proxy, not per worker."),
  timeouts: timeouts.prefault({}).describe("Deadlines of the dialogue."),
  bare_newlines: words("normalize", "reject")
    .prefault("normalize")
    .describe("A bare CR or LF inside a message: made a CRLF, or `550 5.6.11` after the end of data."),
  log: log.prefault({}).describe("The log, on stderr."),
  metrics: metrics.optional().describe("Metrics and health over HTTP."),
});

export type RawConfig = z.output<typeof configSchema>;
export type Section = keyof RawConfig;

/** Readonly all the way down. */
export type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** Opaque traffic by port; a port in neither list is SMTP. */
export interface OpaquePorts {
  readonly relay: readonly number[];
  readonly refuse: readonly number[];
}
/** Who may connect, or which clients a match means. */
export interface ClientNetworks {
  /** Every address of this host, loopback included. */
  readonly self: boolean;
  readonly networks: readonly Network[];
}

type Hook = Omit<DeepReadonly<RawConfig["hooks"][number]>, "when"> & {
  readonly when: Omit<DeepReadonly<RawConfig["hooks"][number]["when"]>, "client"> & {
    readonly client: ClientNetworks | undefined;
  };
};
type Rule = {
  readonly name: string;
  readonly match: Omit<DeepReadonly<RawConfig["rules"][number]["match"]>, "client"> & {
    readonly client: ClientNetworks | undefined;
  };
  readonly action: RuleAction;
};

/** The whole configuration, checked, defaulted and frozen. */
export interface Config {
  readonly proxy: string;
  readonly listen: readonly IpPort[];
  /** Nobody named an address: one that the host lacks is skipped. */
  readonly listenIsDefault: boolean;
  readonly workers: number;
  readonly capture: {
    readonly mode: "redirect" | "tproxy" | "fixed";
    /** Set in `fixed`, and only there. */
    readonly destination: HostPort | undefined;
    readonly mark: number;
    /** Every destination port that is captured and connected to, opaque ones included. */
    readonly ports: readonly number[];
    readonly opaque: OpaquePorts;
  };
  readonly clients: ClientNetworks;
  readonly destinations: DeepReadonly<RawConfig["destinations"]>;
  /** Source IPs where no rule matches; undefined: the client's own, else the system's choice. */
  readonly outboundIp: { readonly ipv4: string | undefined; readonly ipv6: string | undefined };
  readonly downstreamTls: DeepReadonly<RawConfig["downstream_tls"]>;
  /** In order; the last one matches everything. `verify` always has names. */
  readonly tls: DeepReadonly<RawConfig["tls"]>;
  readonly hooks: readonly Hook[];
  /** A hook is a filter, or may turn out to be one. */
  readonly mayFilter: boolean;
  readonly filter: DeepReadonly<RawConfig["filter"]>;
  readonly journal: DeepReadonly<RawConfig["journal"]>;
  readonly redis: DeepReadonly<RawConfig["redis"]>;
  readonly plugins: DeepReadonly<RawConfig["plugins"]>;
  readonly sqlite: DeepReadonly<RawConfig["sqlite"]>;
  readonly file: DeepReadonly<RawConfig["file"]>;
  readonly mysql: DeepReadonly<RawConfig["mysql"]>;
  readonly slack: DeepReadonly<RawConfig["slack"]>;
  readonly reputation: DeepReadonly<RawConfig["reputation"]>;
  readonly pools: DeepReadonly<RawConfig["pools"]>;
  readonly rules: readonly Rule[];
  readonly limits: DeepReadonly<RawConfig["limits"]>;
  readonly timeouts: DeepReadonly<RawConfig["timeouts"]>;
  readonly bareNewlines: "normalize" | "reject";
  readonly log: DeepReadonly<RawConfig["log"]>;
  readonly metrics: DeepReadonly<RawConfig["metrics"]>;
}
export type HookConfig = Hook;
export type RuleConfig = Rule;
export type PoolConfig = Config["pools"][string];
export type TlsRuleConfig = Config["tls"][number];
