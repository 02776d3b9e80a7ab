/**
 * What operators want to hear of, counted between two digests and said in one message: rejections, throttling, blocked
 * source IPs, failed hooks, notices, lost events. Below its threshold a count is not said. Pure; bounded by `maxGroups`
 * groups per section.
 */
import type { AfterTransaction, Event, Reply } from "../gen/warp/hook/v1/hook_pb.ts";
import { code } from "./slack-text.ts";
import { visible } from "./text.ts";
import { originWord } from "./words.ts";

/** From how many in one period a section is said. 0: never. */
export interface Thresholds {
  /** Recipients refused, by the destination or by a filter. */
  readonly rejections: number;
  /** Recipients deferred because of the rate or the reputation of the source. */
  readonly throttled: number;
  /** Answers that say that a source IP is blocked. */
  readonly blockedIps: number;
  readonly hookFailures: number;
}
export const defaultThresholds: Thresholds = {
  rejections: 10,
  throttled: 10,
  blockedIps: 1,
  hookFailures: 1,
};

interface Group {
  count: number;
  /** The last one, as an example. */
  example: string;
}
type Section = Map<string, Group>;

const maxGroups = 50;
const saidGroups = 8;

export class Digest {
  readonly #thresholds: Thresholds;
  readonly #rejections: Section = new Map();
  readonly #throttled: Section = new Map();
  readonly #blocked: Section = new Map();
  readonly #failures: Section = new Map();
  readonly #notices: Section = new Map();
  #lost = 0n;

  constructor(thresholds: Thresholds) {
    this.#thresholds = thresholds;
  }

  add(event: Event): void {
    const { kind } = event;
    if (kind.case === "afterTransaction") this.#addTransaction(kind.value);
    else if (kind.case === "gap") this.#lost += kind.value.count;
    else if (kind.case === "notice") count(this.#notices, code(kind.value.code), code(kind.value.text));
  }

  /** The digest of what was added since the last one, and a new start; undefined: nothing reached its threshold. */
  take(): string | undefined {
    const { rejections, throttled, blockedIps, hookFailures } = this.#thresholds;
    const lines = [
      ...said("Blocked IPs", this.#blocked, blockedIps),
      ...said("Throttled", this.#throttled, throttled),
      ...said("Rejections", this.#rejections, rejections),
      ...said("Hook failures", this.#failures, hookFailures),
      ...said("Notices", this.#notices, 1),
    ];
    if (this.#lost > 0n) lines.push(`*Events lost*: ${this.#lost}`);
    for (const section of [this.#rejections, this.#throttled, this.#blocked, this.#failures, this.#notices]) {
      section.clear();
    }
    this.#lost = 0n;
    return lines.length === 0 ? undefined : lines.join("\n");
  }

  #addTransaction(transaction: AfterTransaction): void {
    const { session } = transaction;
    const provider = session?.provider || session?.destination?.ip || "unknown";
    const ip = session?.route?.sourceIp || "system's choice";
    for (const { finalReply } of transaction.recipients) {
      if (finalReply !== undefined) this.#addReply(finalReply, provider, ip);
    }
    for (const { hook, failure, onFailure } of transaction.filters) {
      if (failure !== "") count(this.#failures, code(hook), `${code(failure)}, applied ${code(onFailure)}`);
    }
  }

  #addReply(reply: Reply, provider: string, ip: string): void {
    const { replyClass } = reply;
    const example = code(visible(reply.text).text);
    if (/^(throttl|reputation)/.test(replyClass)) {
      count(this.#throttled, `${code(ip)} at ${code(provider)}`, example);
    }
    if (replyClass === "blocked-ip" && originWord(reply.origin) === "upstream") {
      count(this.#blocked, `${code(ip)} at ${code(provider)}`, example);
    }
    if (reply.code >= 500) {
      const who = originWord(reply.origin) === "hook" ? reply.hook : replyClass || String(reply.code);
      count(this.#rejections, code(who), example);
    }
  }
}

function count(section: Section, key: string, example: string): void {
  const known = section.has(key) || section.size < maxGroups;
  const group = section.get(known ? key : "others");
  if (group === undefined) section.set(known ? key : "others", { count: 1, example });
  else {
    group.count += 1;
    group.example = example;
  }
}

function said(title: string, section: Section, threshold: number): string[] {
  let total = 0;
  for (const group of section.values()) total += group.count;
  if (threshold === 0 || total < threshold) return [];
  const groups = [...section].sort(([, a], [, b]) => b.count - a.count);
  const lines = groups
    .slice(0, saidGroups)
    .map(([key, group]) => `• ${key}: ${group.count}, last: ${group.example}`);
  if (groups.length > saidGroups) lines.push(`• ${groups.length - saidGroups} more kinds`);
  return [`*${title}*: ${total}`, ...lines];
}
