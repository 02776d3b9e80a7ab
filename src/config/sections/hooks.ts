/** Hook servers, the messages that are held for them, and the journal of their events. */
import { z } from "zod";
import {
  addressGlob,
  domainGlob,
  duration,
  filePath,
  hookAddress,
  listOf,
  positiveSize,
  share,
  shortName,
  size,
  timer,
  words,
  yesNo,
} from "../values.ts";
import { clientNetworks } from "./capture.ts";
import { clientTls } from "./tls.ts";

const when = z
  .strictObject({
    sender: listOf(addressGlob)
      .optional()
      .describe("Addresses in MAIL FROM (globs); `<>` is the null sender."),
    sender_domain: listOf(domainGlob).optional().describe("Domains in MAIL FROM (globs)."),
    recipient_domain: listOf(domainGlob)
      .optional()
      .describe("Domains of a recipient (globs); one is enough."),
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

export const hook = z
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

export const filter = z
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

export const journal = z
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
