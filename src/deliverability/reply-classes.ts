/**
 * The table behind `classifyReply`: what receivers say, and what they mean by it. Rules of the destination's own provider
 * are asked first, then every other rule in this order: provider texts, generic texts, enhanced codes (RFC 3463 and the
 * IANA registry), basic codes (RFC 5321). The first that matches decides, so the narrow ones stand above the wide ones.
 * `source` names where the wording is documented, or the software that says it. docs/reply-classes.md is made from this.
 */

/** A recipient's answer, in one word; what the metrics, the events and the reputation use. */
export const REPLY_CLASSES = [
  "accepted",
  "greylisted",
  "throttled-rate",
  "throttled-connections",
  "throttled-per-connection",
  "reputation-deferred",
  "blocked-ip",
  "blocked-content",
  "authentication",
  "unknown-recipient",
  "mailbox-full",
  "tls-policy",
  "remote-trouble",
  "other",
] as const;
export type ReplyClass = (typeof REPLY_CLASSES)[number];

/** What each class means, and what an operator does about it. */
export const CLASS_MEANINGS: Readonly<Record<ReplyClass, string>> = {
  accepted: "The receiver took responsibility for the message (2xx).",
  greylisted: "Come back later with the same sender, recipient and IP; says nothing about the sender.",
  "throttled-rate": "Too many messages in a time: this IP, domain or sender has to slow down.",
  "throttled-connections": "Too many connections at once from this IP.",
  "throttled-per-connection":
    "Too many messages, recipients or errors on one connection; a new one may go on.",
  "reputation-deferred": "Deferred because of the reputation of the IP, the domain or the content.",
  "blocked-ip": "Refused because of the IP: a block list, no reverse DNS, the receiver's own list.",
  "blocked-content": "Refused because of the message or its sender: spam, a virus, a link, a policy.",
  authentication: "SPF, DKIM or DMARC failed or are missing, or the sender's domain can't be right.",
  "unknown-recipient": "No such mailbox or domain, or it is disabled.",
  "mailbox-full": "The mailbox can take no more for now: quota, or its own receiving rate.",
  "tls-policy": "The receiver wants TLS, or better TLS.",
  "remote-trouble": "The receiver has a problem of its own: overload, storage, routing, configuration.",
  other: "An answer about something else, or one that the table doesn't know.",
};

export interface TextRule {
  readonly id: string;
  /** Provider's domain suffix as `providerOf` gives it ("google.com"); absent: whoever says so. */
  readonly provider?: string;
  /** First digit of the reply's code that the rule is for; absent: 4 and 5. */
  readonly codes?: "4" | "5";
  /** Matches the reply's text: lines joined by a blank, codes cut off. Case doesn't matter. */
  readonly pattern: RegExp;
  readonly class: ReplyClass;
  readonly detail: string;
  readonly source: string;
}

const GOOGLE = "support.google.com/a/answer/3726730 (Gmail SMTP errors and codes)";
const MICROSOFT =
  "learn.microsoft.com, Email non-delivery reports in Exchange Online; Outlook.com Postmaster";
const YAHOO = "senders.yahooinc.com/smtp-error-codes";
const APPLE = "support.apple.com/102322 (Postmaster information for iCloud Mail)";
const TENCENT = "service.mail.qq.com (QQ mail, reasons of returned mail)";
const NETEASE = "help.mail.163.com (NetEase, codes of returned mail)";
const POSTFIX = "Postfix: smtpd(8), postscreen(8), anvil(8)";
const EXIM = "Exim: default configuration and acl messages";
const EXCHANGE = "Exchange Server: receive connectors and back pressure";
const PROOFPOINT = "Proofpoint: ipcheck.proofpoint.com";
const MIMECAST = "community.mimecast.com, Mimecast SMTP error codes";
const COMMON = "wording that several servers share";

/** Wordings that belong to one provider or one product. */
export const PROVIDER_RULES: readonly TextRule[] = [
  // ---------------------------------------------------------------- Google
  {
    id: "google-ip-rate",
    provider: "google.com",
    pattern: /unusual rate of (?:unsolicited )?(?:mail|email) originating from your (?:ip|spf|dkim|domain)/i,
    class: "throttled-rate",
    detail: "Gmail limits the rate of unsolicited mail of this IP or domain",
    source: GOOGLE,
  },
  {
    id: "google-ip-rate-netblock",
    provider: "google.com",
    pattern:
      /(?:mail|email) sent from your (?:ip (?:address|netblock)|domain) has been temporarily (?:rate limited|blocked)/i,
    class: "throttled-rate",
    detail: "Gmail limits the rate of this IP or its network",
    source: GOOGLE,
  },
  {
    id: "google-ptr",
    provider: "google.com",
    pattern:
      /(?:ptr record|forward dns entry|does not have a (?:ptr|reverse)).*(?:sending ip|guidelines|gsmtp)|sending ip (?:address )?(?:for this message )?(?:does not|doesn't) (?:have a|match)/i,
    class: "authentication",
    detail: "Gmail: the IP has no reverse DNS, or one that does not match",
    source: GOOGLE,
  },
  {
    id: "google-unauthenticated",
    provider: "google.com",
    pattern:
      /is unauthenticated|not authenticated|unauthenticated email|does not have authentication information|fails? to pass authentication|(?:spf|dkim|dmarc).{0,80}(?:did not pass|fail|not aligned)|didn't pass (?:spf|dkim|dmarc)|(?:rate limited|blocked) because .{0,160}\b(?:spf|dkim|dmarc)\b/i,
    class: "authentication",
    detail: "Gmail: SPF, DKIM or DMARC is missing or fails",
    source: GOOGLE,
  },
  {
    id: "google-sending-limit",
    provider: "google.com",
    pattern: /(?:daily|peak) (?:user sending|smtp relay)(?: sending)? (?:limit|quota) exceeded/i,
    class: "throttled-rate",
    detail: "Gmail's relay: this user or customer has sent too much",
    source: GOOGLE,
  },
  {
    id: "google-ip-not-authorized",
    provider: "google.com",
    codes: "5",
    pattern: /the ip you're using to send mail is not authorized/i,
    class: "blocked-ip",
    detail: "Gmail takes no mail from this IP: a dynamic or residential one",
    source: GOOGLE,
  },
  {
    id: "google-bulk-tls",
    provider: "google.com",
    pattern:
      /sent over a non-tls connection|wasn't sent over a tls|tls required for rcpt domain|requires? tls/i,
    class: "tls-policy",
    detail: "Gmail wants TLS",
    source: GOOGLE,
  },
  {
    id: "google-likely-unsolicited-4",
    provider: "google.com",
    codes: "4",
    pattern: /very low reputation|this message is (?:likely )?suspicious|likely unsolicited mail/i,
    class: "reputation-deferred",
    detail: "Gmail defers: low reputation of IP, domain or content",
    source: GOOGLE,
  },
  {
    id: "google-ip-reputation",
    provider: "google.com",
    codes: "5",
    pattern: /very low reputation of the sending (?:ip|netblock)/i,
    class: "blocked-ip",
    detail: "Gmail refuses: the IP's reputation is very low",
    source: GOOGLE,
  },
  {
    id: "google-likely-unsolicited",
    provider: "google.com",
    codes: "5",
    pattern:
      /very low reputation|likely unsolicited mail|likely suspicious|message (?:violates|contains content that presents a)|message was blocked because/i,
    class: "blocked-content",
    detail: "Gmail takes the message for unsolicited or dangerous",
    source: GOOGLE,
  },
  {
    id: "google-recipient-rate",
    provider: "google.com",
    pattern: /user you are trying to contact is receiving mail (?:too quickly|at a rate)/i,
    class: "mailbox-full",
    detail: "Gmail: this recipient receives too much at the moment",
    source: GOOGLE,
  },
  {
    id: "google-over-quota",
    provider: "google.com",
    pattern: /(?:inbox is out of storage|is over quota|out of storage space)/i,
    class: "mailbox-full",
    detail: "Gmail: the recipient is over quota",
    source: GOOGLE,
  },
  {
    id: "google-no-account",
    provider: "google.com",
    pattern: /email account that you tried to reach (?:does not exist|is (?:disabled|inactive))/i,
    class: "unknown-recipient",
    detail: "Gmail: no such account, or a disabled one",
    source: GOOGLE,
  },
  {
    id: "google-try-later",
    provider: "google.com",
    codes: "4",
    pattern: /try again later, closing connection/i,
    class: "throttled-connections",
    detail: "Gmail closes the connection before it begins",
    source: GOOGLE,
  },
  {
    id: "google-split",
    provider: "google.com",
    codes: "4",
    pattern: /domain policy size per transaction exceeded|multiple destination domains per transaction/i,
    class: "other",
    detail: "Gmail wants this recipient in a transaction of its own",
    source: GOOGLE,
  },
  {
    id: "google-not-allowlisted",
    provider: "google.com",
    pattern: /ip not in (?:whitelist|allowlist) for rcpt domain/i,
    class: "blocked-ip",
    detail: "The recipient's domain takes mail from listed IPs only",
    source: GOOGLE,
  },
  // ------------------------------------------------------------- Microsoft
  {
    id: "microsoft-block-list",
    provider: "outlook.com",
    pattern:
      /on our block ?list|\b(?:S3140|S3150|S3114|OU-00[12])\b|banned sending ip|blocked using (?:fbl|customer block ?list)|access denied, banned sender/i,
    class: "blocked-ip",
    detail: "Microsoft lists this IP or its network",
    source: MICROSOFT,
  },
  {
    id: "microsoft-ip-reputation",
    provider: "outlook.com",
    pattern: /temporarily rate limited due to ip reputation|\b(?:S777\w*|S775\w*)\b/i,
    class: "reputation-deferred",
    detail: "Microsoft limits this IP because of its reputation",
    source: MICROSOFT,
  },
  {
    id: "microsoft-rate",
    provider: "outlook.com",
    pattern:
      /\bRP-00[123]\b|exceeded the (?:rate|number of messages) (?:limit|allowed)|sender has exceeded|(?:4\.7\.5\d\d|throttled).{0,60}(?:access denied|try again)|please try again later.*\(AS7\d\d\)/i,
    class: "throttled-rate",
    detail: "Microsoft: rate limit of this IP or sender",
    source: MICROSOFT,
  },
  {
    id: "microsoft-connections",
    provider: "outlook.com",
    pattern: /exceeded the (?:maximum number of )?(?:concurrent )?connections?(?: limit)?|\b(?:CO-00[12])\b/i,
    class: "throttled-connections",
    detail: "Microsoft: too many connections from this IP",
    source: MICROSOFT,
  },
  {
    id: "microsoft-dynamic-ip",
    provider: "outlook.com",
    pattern: /\b(?:DY-00[12]|DNS-00[12])\b|reverse dns|dynamic(?:ally)?[- ](?:assigned )?ip/i,
    class: "blocked-ip",
    detail: "Microsoft: a dynamic IP, or one without reverse DNS",
    source: MICROSOFT,
  },
  {
    id: "microsoft-spam",
    provider: "outlook.com",
    pattern:
      /\b(?:SC-00[1-6])\b|considered spam|message rejected as spam|suspected spam|high probability of spam|policy reasons.*\bRP\b/i,
    class: "blocked-content",
    detail: "Microsoft takes the message for spam",
    source: MICROSOFT,
  },
  {
    id: "microsoft-authentication",
    provider: "outlook.com",
    pattern:
      /sending domain .{1,253} does not pass dmarc|does not meet the required authentication level|spf.{0,40}(?:fail|not pass)|spoof/i,
    class: "authentication",
    detail: "Microsoft: SPF, DKIM or DMARC fails",
    source: MICROSOFT,
  },
  {
    id: "microsoft-recipient-denied",
    provider: "outlook.com",
    pattern:
      /recipient address rejected: access denied|requested action not taken: mailbox unavailable|recipient(?: address)? (?:not found|does not exist)|resolver\.adr\.(?:recip|ex)notfound|recipnotfound/i,
    class: "unknown-recipient",
    detail: "Microsoft: no such mailbox in this tenant",
    source: MICROSOFT,
  },
  {
    id: "microsoft-greylist",
    provider: "outlook.com",
    codes: "4",
    pattern: /recipient address rejected: access denied.*\[as\(2012\d+\)\]|\bAS\(201806271\)|grey-?list/i,
    class: "greylisted",
    detail: "Microsoft: come back later",
    source: MICROSOFT,
  },
  {
    id: "microsoft-recipient-limit",
    provider: "outlook.com",
    pattern:
      /resolver\.rst\.recipientratelimit|recipient(?:'s)? (?:has )?exceed(?:ed|s) (?:its|the) (?:receiving )?(?:limit|quota|rate)|hot ?recipient/i,
    class: "mailbox-full",
    detail: "Microsoft: the recipient receives too much at the moment",
    source: MICROSOFT,
  },
  {
    id: "microsoft-server-busy",
    provider: "outlook.com",
    codes: "4",
    pattern:
      /server busy|temporary server error|mailbox server is (?:offline|busy)|connectors?\.(?:timeout|failed)|attributed ?message/i,
    class: "remote-trouble",
    detail: "Microsoft: the receiving server is busy",
    source: MICROSOFT,
  },
  // ----------------------------------------------------------------- Yahoo
  {
    id: "yahoo-volume",
    provider: "yahoodns.net",
    pattern:
      /\[TSS?0[1-5]\]|\[TS0[1-3]\]|(?:temporarily|permanently) deferred due to (?:unexpected volume|user complaints)|deferred due to user complaints/i,
    class: "reputation-deferred",
    detail: "Yahoo defers: volume or complaints",
    source: YAHOO,
  },
  {
    id: "yahoo-blocked",
    provider: "yahoodns.net",
    pattern:
      /\[TSS(?:0[6-9]|1\d)\]|\[BL2[0-3]\]|connections (?:will not be|not) accepted from|all messages from .{1,60} (?:will be )?permanently (?:deferred|blocked|rejected)/i,
    class: "blocked-ip",
    detail: "Yahoo refuses this IP",
    source: YAHOO,
  },
  {
    id: "yahoo-rate",
    provider: "yahoodns.net",
    pattern: /\[GL01\].*|\[RL\d*\]|too many messages from your|message temporarily deferred(?! due)/i,
    class: "throttled-rate",
    detail: "Yahoo limits the rate of this IP",
    source: YAHOO,
  },
  {
    id: "yahoo-authentication",
    provider: "yahoodns.net",
    pattern:
      /\[(?:AUTH|DM)\w*\]|unable to accept message for authentication|message not accepted for policy reasons.*(?:dmarc|authentication)|rejected for policy reasons.*(?:spf|dkim|dmarc)|mail from domain .{0,80}not (?:resolv|exist)/i,
    class: "authentication",
    detail: "Yahoo: SPF, DKIM or DMARC",
    source: YAHOO,
  },
  {
    id: "yahoo-content",
    provider: "yahoodns.net",
    pattern:
      /message not accepted for policy reasons|\[(?:PH|CL|SC)\d+\]|message content (?:rejected|not accepted)/i,
    class: "blocked-content",
    detail: "Yahoo refuses the message for policy reasons",
    source: YAHOO,
  },
  {
    id: "yahoo-no-account",
    provider: "yahoodns.net",
    pattern:
      /user doesn't have a .{1,60} account|mailbox (?:has been )?(?:disabled|not found).*\[-?\d+\]|not a valid mailbox|delivery error: dd (?:this user|requested mail action)/i,
    class: "unknown-recipient",
    detail: "Yahoo: no such account, or a disabled one",
    source: YAHOO,
  },
  {
    id: "yahoo-resources",
    provider: "yahoodns.net",
    pattern: /resources temporarily (?:un|not )available|excessive unknown recipients/i,
    class: "reputation-deferred",
    detail: "Yahoo defers: unusual traffic of this IP",
    source: YAHOO,
  },
  // ----------------------------------------------------------------- Apple
  {
    id: "apple-dmarc",
    provider: "icloud.com",
    pattern: /rejected due to .{1,253} dmarc policy|\[(?:AM|DM)0\d\]/i,
    class: "authentication",
    detail: "iCloud: the sender's DMARC policy",
    source: APPLE,
  },
  {
    id: "apple-volume",
    provider: "icloud.com",
    pattern: /messages to .{1,254} deferred due to excessive volume/i,
    class: "mailbox-full",
    detail: "iCloud: this recipient receives too much at the moment",
    source: APPLE,
  },
  {
    id: "apple-local-policy",
    provider: "icloud.com",
    codes: "5",
    pattern: /\[(?:CS01|HM0\d|HME?\d|PAR\d*|NA\d*|CM\d*)\]|rejected due to local policy/i,
    class: "blocked-content",
    detail: "iCloud refuses by its own filter",
    source: APPLE,
  },
  {
    id: "apple-too-many-errors",
    provider: "icloud.com",
    pattern: /error: too many errors/i,
    class: "throttled-per-connection",
    detail: "iCloud: too many errors on this connection",
    source: APPLE,
  },
  {
    id: "apple-try-later",
    provider: "icloud.com",
    codes: "4",
    pattern: /service unavailable - try again later|\[(?:IPTS|SU)\d*\]/i,
    class: "throttled-rate",
    detail: "iCloud takes no more from this IP at the moment",
    source: APPLE,
  },
  // --------------------------------------------------------------- Tencent
  {
    id: "qq-frequency",
    provider: "qq.com",
    pattern: /(?:ip|connection|sender|domain) frequency (?:is )?limited/i,
    class: "throttled-rate",
    detail: "QQ: too many messages from this IP, domain or sender",
    source: TENCENT,
  },
  {
    id: "qq-connections",
    provider: "qq.com",
    pattern: /connection (?:denied|limited)|too many connections|exceed(?:ed|s)? connection/i,
    class: "throttled-connections",
    detail: "QQ: connections of this IP are limited",
    source: TENCENT,
  },
  {
    id: "qq-suspected-ip",
    provider: "qq.com",
    pattern: /suspected spam ip|mail is rejected by (?:ip )?rbl|ip (?:is )?in (?:blacklist|block list)/i,
    class: "blocked-ip",
    detail: "QQ suspects this IP",
    source: TENCENT,
  },
  {
    id: "qq-content",
    provider: "qq.com",
    pattern:
      /mail content denied|content rejected|suspected (?:bounce|spam)|spam (?:mail|message)|mail is rejected by recipients?/i,
    class: "blocked-content",
    detail: "QQ refuses the content or the sender",
    source: TENCENT,
  },
  {
    id: "qq-authentication",
    provider: "qq.com",
    pattern: /(?:spf|dkim|dmarc) check failed|mail from address must be same as|invalid (?:sender )?domain/i,
    class: "authentication",
    detail: "QQ: SPF, DKIM or DMARC fails",
    source: TENCENT,
  },
  {
    id: "qq-recipient-busy",
    provider: "qq.com",
    pattern: /mailbox unavailable or access denied/i,
    class: "mailbox-full",
    detail: "QQ: this recipient receives too much at the moment",
    source: TENCENT,
  },
  // --------------------------------------------------------------- NetEase
  {
    id: "netease-rate",
    provider: "netease.com",
    pattern: /\b(?:MI:(?:DMC|CCL|FRE|STC|NHD|CEL)|RP:(?:RCL|QRC|TRC|CEL|DRC|FRL)|DT:(?:RBL_RATE))\b/,
    class: "throttled-rate",
    detail: "NetEase: too many messages, recipients or connections of this IP",
    source: NETEASE,
  },
  {
    id: "netease-connections",
    provider: "netease.com",
    pattern: /\b(?:HL:(?:ITC|ICC|MEP|IFR)|IM:CCL)\b|too many connections/i,
    class: "throttled-connections",
    detail: "NetEase: too many connections of this IP",
    source: NETEASE,
  },
  {
    id: "netease-ip",
    provider: "netease.com",
    pattern: /\b(?:HL:(?:IPB|REP|IBB|IHU)|IP:(?:BL|SPM)|RP:RBL|MI:(?:IPB|RBL))\b/,
    class: "blocked-ip",
    detail: "NetEase refuses this IP",
    source: NETEASE,
  },
  {
    id: "netease-spf",
    provider: "netease.com",
    pattern: /\b(?:MI:(?:SFQ|SPF|DMA|NRP)|DT:(?:DMA|SPF|DKIM)|SPF:FAIL)\b/,
    class: "authentication",
    detail: "NetEase: SPF, DKIM or DMARC fails",
    source: NETEASE,
  },
  {
    id: "netease-spam",
    provider: "netease.com",
    pattern: /\b(?:DT:(?:SPM|SUM|VIR)|MI:SPB|RP:SPM)\b/,
    class: "blocked-content",
    detail: "NetEase takes the message for spam",
    source: NETEASE,
  },
  {
    id: "netease-unknown",
    provider: "netease.com",
    pattern: /\bRP:(?:NUS|UNK|DND)\b|user not found|invalid user/i,
    class: "unknown-recipient",
    detail: "NetEase: no such mailbox",
    source: NETEASE,
  },
  {
    id: "netease-greylist",
    provider: "netease.com",
    codes: "4",
    pattern: /\b(?:RP:GRY|DT:GRY|MI:GRY)\b/,
    class: "greylisted",
    detail: "NetEase: come back later",
    source: NETEASE,
  },
  // ------------------------------------------- other large receivers and filters
  {
    id: "proofpoint-ip",
    pattern: /ipcheck\.proofpoint\.com|blocked by proofpoint|blocked - see https?:\/\/support\.proofpoint/i,
    class: "blocked-ip",
    detail: "Proofpoint lists this IP",
    source: PROOFPOINT,
  },
  {
    id: "cloudmark-ip",
    pattern: /csi\.cloudmark\.com|cloudmark sender intelligence/i,
    class: "blocked-ip",
    detail: "Cloudmark lists this IP",
    source: "csi.cloudmark.com",
  },
  {
    id: "mimecast-greylist",
    pattern: /internal resources? (?:are|is) temporarily unavailable.*mimecast|mimecast.*internal resources/i,
    class: "greylisted",
    detail: "Mimecast greylists or is busy",
    source: MIMECAST,
  },
  {
    id: "mimecast-reputation",
    pattern:
      /(?:anti-?spam|rejected by header|local cust(?:omer)?) polic(?:y|ies).*mimecast|mimecast.*(?:rejected|poor reputation)|email rejected due to security policies/i,
    class: "blocked-content",
    detail: "Mimecast refuses by policy",
    source: MIMECAST,
  },
  {
    id: "barracuda-ip",
    pattern: /barracudacentral\.org\/(?:reputation|rbl|lookups)|blocked using barracuda reputation/i,
    class: "blocked-ip",
    detail: "Barracuda lists this IP",
    source: "barracudacentral.org",
  },
  {
    id: "cisco-senderbase",
    pattern:
      /senderbase|talosintelligence|poor (?:sender|ip|email) reputation|your access to (?:this|submit).{0,60}(?:mail system|has been rejected)/i,
    class: "blocked-ip",
    detail: "Cisco Talos: poor reputation of this IP",
    source: "Cisco Secure Email (IronPort)",
  },
  {
    id: "comcast-rate",
    provider: "comcast.net",
    pattern:
      /\bRL0{3,}\d+|too many sessions opened|maximum (?:number of )?(?:simultaneous|concurrent) connections/i,
    class: "throttled-connections",
    detail: "Comcast: too many sessions of this IP",
    source: "postmaster.comcast.net",
  },
  {
    id: "comcast-blocked",
    provider: "comcast.net",
    pattern: /\bBL0{3,}\d+|comcast.*block/i,
    class: "blocked-ip",
    detail: "Comcast blocks this IP",
    source: "postmaster.comcast.net",
  },
  {
    id: "att-blocked",
    pattern:
      /\b(?:DNSBL|abuse_rbl|flph\d+).*(?:att\.net|prodigy)|blocked by dnsbl:?attrbl|abuse_rbl@abuse-att\.net/i,
    class: "blocked-ip",
    detail: "AT&T blocks this IP",
    source: "AT&T postmaster",
  },
  {
    id: "gmx-ip",
    pattern:
      /nemesis esmtp service not available.{0,80}(?:ip|reject|limit)|ip address is (?:black|block) ?listed|postmaster\.(?:gmx|web|1und1)\.\w+\/(?:en|de)?\/?(?:case|error-messages)?.*\bip\b|bad dns ptr resource record/i,
    class: "blocked-ip",
    detail: "GMX, WEB.DE or IONOS refuse this IP",
    source: "postmaster.gmx.net",
  },
  {
    id: "orange-throttle",
    pattern:
      /(?:OFR|OFRxx?|LPN)\S{0,6}_?(?:104|109|110|113|115|405|506|513|999)\b.*|too many connections, slow down/i,
    class: "throttled-connections",
    detail: "Orange, Wanadoo, Laposte: too many connections or messages",
    source: "postmaster.orange.fr",
  },
  {
    id: "free-spam",
    pattern: /too many spams from your ip|spam detected.*postmaster\.free\.fr/i,
    class: "blocked-ip",
    detail: "Free.fr: spam from this IP",
    source: "postmaster.free.fr",
  },
  {
    id: "t-online-ip",
    pattern: /tobr@rx\.t-online\.de|fpr@rx\.t-online\.de|ip=\S+ - (?:a problem occurred|dialup\/transient)/i,
    class: "blocked-ip",
    detail: "T-Online refuses this IP",
    source: "postmaster.t-online.de",
  },
  {
    id: "mailru-spam",
    pattern:
      /(?:spam message (?:rejected|discarded\/rejected)|message was not accepted).{0,120}mail\.ru|help\.mail\.ru\/notspam-support/i,
    class: "blocked-content",
    detail: "Mail.ru takes the message for spam",
    source: "postmaster.mail.ru",
  },
  {
    id: "yandex-spam",
    pattern: /message rejected under suspicion of spam|feedback2?\.yandex/i,
    class: "blocked-content",
    detail: "Yandex takes the message for spam",
    source: "yandex.com/support/postoffice",
  },
];

/** Block lists and wordings that many servers share. */
export const GENERIC_RULES: readonly TextRule[] = [
  {
    id: "greylist",
    codes: "4",
    pattern: /gr[ea]y-?\s?list|postgrey|graylisted|deferred.{0,40}first (?:time|contact)/i,
    class: "greylisted",
    detail: "greylisting: come back later",
    source: "Postgrey, rspamd, milter-greylist, SQLgrey",
  },
  {
    id: "starttls-required",
    pattern:
      /must issue a starttls|starttls (?:is )?required|encryption (?:is )?required|tls (?:is )?required|requires? (?:tls|encryption|an encrypted)|session encryption is required/i,
    class: "tls-policy",
    detail: "the receiver wants TLS",
    source: "RFC 3207; Postfix smtpd_tls_security_level",
  },
  {
    id: "content-listed",
    pattern:
      /\b(?:dbl|surbl|uribl)\b.{0,160}|(?:domain|url|link|website|uri).{0,80}(?:spamhaus|surbl|uribl|black ?list|block ?list)/i,
    class: "blocked-content",
    detail: "a domain in the message or of its sender is on a block list",
    source: "spamhaus.org/dbl, surbl.org, uribl.com",
  },
  {
    id: "ip-listed",
    pattern:
      /spamhaus|\bsbl\d*\b|\bxbl\b|\bpbl\b|\bcss\b.{0,40}list|spamcop|sorbs|uceprotect|dnsbl|\brbl\b|abuseat|blocklist\.de|backscatterer|psbl\.|nixspam|truncate\.gbudb|invaluement|mailspike|senderscore|abusix|hostkarma|(?:client|host|ip|address|server|\[[\d.:a-f]+\]|\b\d+\.\d+\.\d+\.\d+).{0,80}(?:black|block|deny)[- ]?list(?:ed)?|blocked using \S+\.\S+|listed (?:at|in|on|by) \S+\.\S+/i,
    class: "blocked-ip",
    detail: "the IP is on a block list",
    source: "Spamhaus, SpamCop, SORBS, UCEPROTECT and others, as Postfix, Exim and Sendmail quote them",
  },
  {
    id: "too-many-connections",
    pattern:
      /(?:too many|excessive) (?:concurrent |simultaneous |open )?(?:smtp )?(?:connections|sessions)|(?:connection|session) (?:rate|count|limit|frequency)(?: limit)? (?:exceeded|reached)|connection rate limit|(?:maximum|max) (?:number of )?(?:concurrent |simultaneous )?(?:connections|sessions)|concurrent connections? (?:limit )?exceed/i,
    class: "throttled-connections",
    detail: "too many connections at once",
    source: `${POSTFIX}; ${EXIM}; ${EXCHANGE}`,
  },
  {
    id: "per-connection",
    pattern:
      /too many (?:messages|mails|emails|transactions|recipients|errors|bad commands|invalid recipients|unknown users?) (?:in|on|per|for|during|sent in|received on) (?:this|one|a single|the|that) (?:connection|session|smtp session)|(?:messages|mails) per (?:connection|session) (?:limit )?(?:exceeded|reached)|error: too many errors|max(?:imum)? (?:number of )?(?:messages|transactions) per (?:connection|session)|too many (?:invalid|nonexistent|unknown) (?:recipients|users)|reached (?:its )?(?:the )?(?:maximum|limit).{0,40}per (?:connection|session)/i,
    class: "throttled-per-connection",
    detail: "too much on one connection",
    source: `${POSTFIX}; ${EXIM}; Sendmail`,
  },
  {
    id: "rate",
    pattern:
      /rate[- ]?limit|(?:message|sending|submission|delivery|mail|recipient|sender) (?:rate|frequency|volume|quota).{0,40}(?:exceed|limit|reached|too)|too (?:many|much) (?:messages|mails?|emails?|recipients per|requests)|sending limit.{0,40}(?:exceed|reached)|(?:exceed|reach)(?:ed|es|s)? (?:the |its |your )?(?:hourly|daily|maximum|max|allowed|message|sending)?\s?(?:sending |message |mail |rate )?(?:limit|quota|rate)\b(?!.{0,20}(?:mailbox|storage))|throttl|slow(?:ing)? down|sending too (?:fast|many|much)|too fast|unusual(?:ly high)? (?:rate|volume|traffic)|excessive (?:volume|rate|mail)|flood/i,
    class: "throttled-rate",
    detail: "too many messages in a time",
    source: `${POSTFIX}; ${EXIM}; ${COMMON}`,
  },
  {
    id: "greylist-delay",
    codes: "4",
    pattern: /try again in \d+ (?:seconds|minutes)|please retry (?:in|after) \d+/i,
    class: "greylisted",
    detail: "come back later, for no reason that is told",
    source: "Postgrey, rspamd, milter-greylist, SQLgrey",
  },
  {
    id: "message-size",
    pattern:
      /message size exceeds (?!.{0,40}(?:mailbox|quota|storage)).{0,40}(?:maximum|limit)|message (?:is )?too (?:big|large|long)\b/i,
    class: "other",
    detail: "the message is larger than the receiver takes",
    source: `${EXIM}; ${POSTFIX}; qmail, Sendmail`,
  },
  {
    id: "mailbox-full",
    pattern:
      /(?:mailbox|inbox|account|user|recipient|quota|storage|disk).{0,60}(?:full|over ?quota|exceed(?:ed|s)?|out of (?:storage|space))|over ?quota|quota (?:has been )?(?:exceeded|full)|exceed(?:ed|s) (?:storage|mailbox|its|the user's|disk).{0,30}(?:allocation|quota|limit|storage)|not enough (?:space|storage) (?:in|for)|mailbox size limit|insufficient (?:mailbox|user) (?:space|storage)/i,
    class: "mailbox-full",
    detail: "the mailbox is full",
    source: "RFC 5321 §4.2.3; Dovecot, Cyrus, Exchange, Zimbra",
  },
  {
    id: "sender-address",
    pattern:
      /sender (?:address|domain|verify|verification)\S*.{0,80}(?:domain not found|does not (?:exist|resolve)|not (?:found|exist|resolv|valid)|fail|could not be (?:verified|resolved)|couldn't be verified)|(?:domain of sender|sender's? domain).{0,120}(?:does not (?:exist|resolve)|not (?:found|exist)|no (?:mx|a record))|could not complete sender verify|invalid (?:mx|sender domain)|mail from domain .{0,120}(?:invalid|not exist|does not)/i,
    class: "authentication",
    detail: "the sender's address or domain can't be verified",
    source: `${POSTFIX}; ${EXIM}`,
  },
  {
    id: "reverse-dns",
    pattern:
      /(?:reverse (?:dns|hostname|lookup)|\bptr\b|\brdns\b|cannot find your (?:reverse )?hostname|client host rejected: cannot find|reverse-?dns).{0,120}|no (?:valid )?(?:ptr|rdns)/i,
    class: "blocked-ip",
    detail: "the IP has no reverse DNS, or one that does not match",
    source: `${POSTFIX}; ${COMMON}`,
  },
  {
    id: "dynamic-ip",
    pattern:
      /dynamic(?:ally)?[- ](?:ip|assigned|address|pool|range|host)|residential (?:ip|address)|dial-?up (?:ip|address|host)|generic (?:hostname|reverse|rdns)/i,
    class: "blocked-ip",
    detail: "the IP looks like one of a dynamic range",
    source: COMMON,
  },
  {
    id: "helo",
    pattern:
      /(?:helo|ehlo) command rejected|(?:invalid|bad|forged|faked?) (?:helo|ehlo)|(?:helo|ehlo).{0,60}(?:does not resolve|mismatch|not match|invalid)/i,
    class: "authentication",
    detail: "the EHLO name is refused",
    source: POSTFIX,
  },
  {
    id: "authentication",
    pattern:
      /\b(?:spf|dkim|dmarc|arc|domainkeys?|sender ?id)\b.{0,120}(?:fail|reject|not (?:pass|permit|allow|authori[sz]ed|aligned|match)|unauthori[sz]ed|invalid|policy|missing|required|denied|none|violat|unauthenticated|do(?:es)? not|check|verif)|(?:fail|reject|not permitted|violat|deni|unauthori[sz]ed|because of|due to|per|according to).{0,120}\b(?:spf|dkim|dmarc)\b|unauthenticated (?:e?mail|sender|message)|not (?:authori[sz]ed|allowed|permitted) to send (?:mail )?(?:from|for|on behalf)|openspf\.org|dmarc_?(?:fail|reject)/i,
    class: "authentication",
    detail: "SPF, DKIM or DMARC",
    source: "RFC 7372; OpenDMARC, pypolicyd-spf, rspamd",
  },
  {
    id: "relay-denied",
    pattern:
      /relay(?:ing)?.{0,30}(?:denied|not (?:permitted|allowed)|prohibited|access denied|is prohibited)|unable to relay|not (?:permitted|allowed) to relay|(?:we )?do(?:es)? not relay/i,
    class: "other",
    detail: "the receiver does not take mail for this domain",
    source: `${POSTFIX}; ${EXIM}; ${EXCHANGE}`,
  },
  {
    id: "unknown-recipient",
    pattern:
      /(?:user|recipient|mailbox|address|account|local part|addressee|alias)\b.{0,80}(?:unknown|not (?:found|exist|known|listed|valid|recogni[sz]ed|local|available here)|does ?n[o']t exist|doesn't exist|no longer (?:exists?|active|valid|available|in use)|invalid|disabled|inactive|suspended|deactivated|unrouteable|undeliverable|discontinued|expired|terminated)|(?:unknown|no such|invalid|non-?existent|unrouteable|bad destination|nonexistent) (?:user|recipient|mailbox|address|account|local|person|email|addressee)|no (?:such )?(?:mailbox|user|recipient|person|account)\b|not our customer|unrouteable address|does not have a (?:mailbox|yahoo)|mailbox (?:unavailable|disabled|not found)|recipient (?:address )?rejected: (?:user|undeliverable|unknown|unverified)|null ?mx|domain does not accept mail|there is no one here|isn't a valid (?:user|mailbox)/i,
    class: "unknown-recipient",
    detail: "no such mailbox",
    source: `RFC 5321 §4.2.3; ${POSTFIX}; ${EXIM}; Sendmail, qmail, Dovecot, Zimbra`,
  },
  {
    id: "virus",
    pattern:
      /\bvirus|malware|infected|phish|ransomware|trojan|dangerous (?:content|attachment)|(?:attachment|file) (?:type|name|extension).{0,40}(?:not allowed|blocked|denied|rejected|banned)|banned (?:file|attachment|name|content)/i,
    class: "blocked-content",
    detail: "a virus, phishing, or a forbidden attachment",
    source: "ClamAV, Amavis, Exchange transport rules",
  },
  {
    id: "reputation-deferred",
    codes: "4",
    pattern:
      /reputation|spam|suspicio|unsolicited|complaint|policy|temporarily (?:deferred|blocked|rejected)|deferred/i,
    class: "reputation-deferred",
    detail: "deferred because of reputation or policy",
    source: COMMON,
  },
  {
    id: "ip-reputation",
    codes: "5",
    pattern:
      /(?:ip|host|network|netblock|server|client|connection|connecting)\b.{0,100}(?:reputation|blocked|banned|rejected|refused|denied|not (?:allowed|accepted|welcome)|abus)|(?:reputation|blocked|banned|refused|rejected|denied).{0,60}\b(?:ip|your (?:host|server|network|system))\b|(?:no|not accept(?:ing|ed)?) (?:mail|email|connections?) from (?:your|this|\[?\d)/i,
    class: "blocked-ip",
    detail: "the IP is refused",
    source: COMMON,
  },
  {
    id: "spam-content",
    codes: "5",
    pattern:
      /\bspam|unsolicited|\bUBE\b|\bUCE\b|bulk mail|junk|content (?:rejected|denied|filter|not accept|restrict|violat|block)|blocked by (?:content|filter|customer|policy|mail ?filter)|(?:message|mail|email|content|data).{0,60}(?:looks like|considered|classified|identified|detected|suspicious|objectionable|undesirable|rejected by (?:filter|content|policy|recipient))|reputation|violat|local policy|policy (?:reasons?|violation|rejection|restriction)|administrative (?:prohibition|policy)|\bAUP\b|rejected (?:due to|for|by) polic/i,
    class: "blocked-content",
    detail: "refused by a filter or a policy",
    source: `SpamAssassin, rspamd, ${COMMON}`,
  },
  {
    id: "remote-trouble",
    pattern:
      /(?:temporary|internal|local|configuration|system|server|database|ldap|dns|lookup|unexpected|software|processing|queue file|mail server|map)\s(?:\w+\s)?(?:error|failure|problem|trouble|unavailable|busy|overload)|system (?:resources|not accepting)|insufficient (?:system )?(?:storage|resources|disk)|server (?:is )?(?:busy|overloaded|too busy|shutting down|unavailable)|load (?:average|is) too high|service (?:is )?(?:currently |temporarily )?(?:not |un)available|shutting down|maintenance|out of (?:memory|disk|resources)|timed? ?out|timeout|mail loop|routing loop|too many hops|hop count|loops? back|resources? temporarily|try again later|back ?end|not accepting (?:network )?messages|no route|unable to (?:route|connect|deliver|process)|lost connection|could not (?:be )?(?:delivered|process|connect|queue)|temporarily unavailable/i,
    class: "remote-trouble",
    detail: "the receiver has a problem of its own",
    source: `${EXCHANGE}; ${POSTFIX}; ${EXIM}; Sendmail`,
  },
];

/** Enhanced codes: "*" stands for the first digit (4 or 5) or the last number. First match wins. */
export const ENHANCED_RULES: readonly {
  readonly code: string;
  readonly class: ReplyClass;
  readonly detail: string;
}[] = [
  { code: "*.1.0", class: "other", detail: "other address status" },
  { code: "*.1.1", class: "unknown-recipient", detail: "bad destination mailbox address" },
  { code: "*.1.2", class: "unknown-recipient", detail: "bad destination system address" },
  { code: "*.1.3", class: "unknown-recipient", detail: "bad destination mailbox address syntax" },
  { code: "*.1.4", class: "unknown-recipient", detail: "destination mailbox address ambiguous" },
  { code: "*.1.6", class: "unknown-recipient", detail: "destination mailbox has moved" },
  { code: "*.1.7", class: "authentication", detail: "bad sender's mailbox address syntax" },
  { code: "*.1.8", class: "authentication", detail: "bad sender's system address" },
  { code: "*.1.9", class: "other", detail: "message relayed to non-compliant mailer" },
  { code: "*.1.10", class: "unknown-recipient", detail: "recipient address has null MX (RFC 7505)" },
  { code: "*.1.*", class: "other", detail: "address status" },
  { code: "*.2.1", class: "unknown-recipient", detail: "mailbox disabled, not accepting messages" },
  { code: "*.2.2", class: "mailbox-full", detail: "mailbox full" },
  { code: "*.2.3", class: "other", detail: "message length exceeds administrative limit" },
  { code: "*.2.4", class: "remote-trouble", detail: "mailing list expansion problem" },
  { code: "*.2.*", class: "other", detail: "mailbox status" },
  { code: "*.3.1", class: "remote-trouble", detail: "mail system full" },
  { code: "*.3.2", class: "remote-trouble", detail: "system not accepting network messages" },
  { code: "*.3.3", class: "other", detail: "system not capable of selected features" },
  { code: "*.3.4", class: "other", detail: "message too big for system" },
  { code: "*.3.5", class: "remote-trouble", detail: "system incorrectly configured" },
  { code: "4.3.*", class: "remote-trouble", detail: "mail system status" },
  { code: "5.3.*", class: "other", detail: "mail system status" },
  { code: "*.4.*", class: "remote-trouble", detail: "network and routing status" },
  { code: "*.5.*", class: "other", detail: "mail delivery protocol status" },
  { code: "*.6.*", class: "other", detail: "message content or media status" },
  { code: "4.7.0", class: "reputation-deferred", detail: "other security status" },
  { code: "5.7.0", class: "blocked-content", detail: "other security status" },
  { code: "4.7.1", class: "reputation-deferred", detail: "delivery not authorised for now" },
  { code: "5.7.1", class: "blocked-content", detail: "delivery not authorised, message refused" },
  { code: "*.7.4", class: "tls-policy", detail: "security features not supported" },
  { code: "*.7.5", class: "tls-policy", detail: "cryptographic failure" },
  { code: "*.7.6", class: "tls-policy", detail: "cryptographic algorithm not supported" },
  { code: "*.7.7", class: "blocked-content", detail: "message integrity failure" },
  { code: "*.7.8", class: "other", detail: "authentication credentials invalid (RFC 4954)" },
  { code: "*.7.10", class: "tls-policy", detail: "encryption needed" },
  { code: "*.7.11", class: "tls-policy", detail: "encryption required for the authentication mechanism" },
  { code: "*.7.15", class: "other", detail: "priority level is too low (RFC 6710)" },
  { code: "*.7.17", class: "unknown-recipient", detail: "mailbox owner has changed (RFC 7293)" },
  { code: "*.7.18", class: "unknown-recipient", detail: "domain owner has changed (RFC 7293)" },
  { code: "*.7.20", class: "authentication", detail: "no passing DKIM signature found (RFC 7372)" },
  { code: "*.7.21", class: "authentication", detail: "no acceptable DKIM signature found (RFC 7372)" },
  {
    code: "*.7.22",
    class: "authentication",
    detail: "no valid author-matched DKIM signature found (RFC 7372)",
  },
  { code: "*.7.23", class: "authentication", detail: "SPF validation failed (RFC 7372)" },
  { code: "*.7.24", class: "authentication", detail: "SPF validation error (RFC 7372)" },
  { code: "*.7.25", class: "blocked-ip", detail: "reverse DNS validation failed (RFC 7372)" },
  { code: "*.7.26", class: "authentication", detail: "multiple authentication checks failed (RFC 7372)" },
  { code: "*.7.27", class: "authentication", detail: "sender address has null MX (RFC 7505)" },
  { code: "*.7.28", class: "throttled-rate", detail: "mail flood detected" },
  { code: "*.7.29", class: "authentication", detail: "ARC validation failure" },
  { code: "*.7.30", class: "tls-policy", detail: "REQUIRETLS support required (RFC 8689)" },
  { code: "4.7.*", class: "reputation-deferred", detail: "security or policy status" },
  { code: "5.7.*", class: "blocked-content", detail: "security or policy status" },
];

/** Basic codes, where nothing else is known. */
export const BASIC_RULES: readonly {
  readonly code: string;
  readonly class: ReplyClass;
  readonly detail: string;
}[] = [
  { code: "2**", class: "accepted", detail: "accepted" },
  { code: "421", class: "remote-trouble", detail: "service not available, closing" },
  { code: "450", class: "remote-trouble", detail: "mailbox unavailable for now" },
  { code: "451", class: "remote-trouble", detail: "local error in processing" },
  { code: "452", class: "remote-trouble", detail: "insufficient system storage" },
  { code: "454", class: "tls-policy", detail: "TLS not available for now (RFC 3207)" },
  { code: "4**", class: "remote-trouble", detail: "temporary failure" },
  { code: "550", class: "unknown-recipient", detail: "mailbox unavailable" },
  { code: "551", class: "unknown-recipient", detail: "user not local" },
  { code: "552", class: "mailbox-full", detail: "exceeded storage allocation" },
  { code: "553", class: "unknown-recipient", detail: "mailbox name not allowed" },
  { code: "554", class: "other", detail: "transaction failed" },
  { code: "556", class: "unknown-recipient", detail: "domain does not accept mail (RFC 7504)" },
  { code: "***", class: "other", detail: "no answer about a message" },
];
