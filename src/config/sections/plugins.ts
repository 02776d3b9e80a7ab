/** Settings of the bundled hook servers. Those of `rspamd` are said by options only: the file has no such section. */
import { z } from "zod";
import {
  count,
  filePath,
  httpUrl,
  positiveDuration,
  positiveSize,
  text,
  timer,
  words,
  yesNo,
} from "../values.ts";

export const sqlite = z
  .strictObject({
    dsn: text.optional().describe("Path, `:memory:` or `file:` URI; default: `SQLITE_DSN`, then `DSN`."),
    keep: positiveDuration.optional().describe("How long rows are kept; default: for ever."),
    synchronous: words("full", "normal")
      .prefault("full")
      .describe(
        "`full`: on the disk before each acknowledgement; `normal`: safe unless the machine crashes.",
      ),
  })
  .transform((raw) => ({ dsn: raw.dsn, keepMs: raw.keep, synchronous: raw.synchronous }));

export const file = z
  .strictObject({
    path: filePath.optional().describe("File that lines are appended to; default: `FILE_PATH`."),
    rotate_size: positiveSize.optional().describe("Rotate beyond this size."),
    rotate_age: positiveDuration.optional().describe("Rotate after this time."),
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

export const mysql = z
  .strictObject({
    dsn: text
      .optional()
      .describe(
        "`user:password@tcp(host:port)/database?params` or `mysql://…`; default: `MYSQL_DSN`, then `DSN`.",
      ),
    keep: positiveDuration.optional().describe("How long rows are kept; default: for ever."),
  })
  .transform((raw) => ({ dsn: raw.dsn, keepMs: raw.keep }));

export const slack = z
  .strictObject({
    token: text.optional().describe("Bot token; default: `SLACK_TOKEN`."),
    channel: text.optional().describe("Channel; default: `SLACK_CHANNEL`."),
    url: httpUrl.optional().describe("Base address of Slack's API, for a gateway or a test server."),
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

export const rspamd = z
  .strictObject({
    url: httpUrl.optional(),
    greylist: words("tempfail", "relay").optional(),
    timeout: timer.optional(),
    password: text.optional(),
    concurrent_messages: count(1, 1000).optional(),
    max_message: positiveSize.optional(),
  })
  .transform((raw) => ({
    url: raw.url,
    greylist: raw.greylist,
    timeoutMs: raw.timeout,
    password: raw.password,
    concurrentMessages: raw.concurrent_messages,
    maxMessageOctets: raw.max_message,
  }));
