/** One hook as the filter chain sees it: its role, the part of the message that it gets, and the call. */
import type { CallResult, CallTerms, FilterHook, OnFailure } from "../filter/chain.ts";
import type { FilterEnvelope, HeldMessage } from "../filter/contract.ts";
import { type Matcher, matcher, type WhenFacts } from "../filter/when.ts";
import { Capability } from "../gen/warp/hook/v1/hook_pb.ts";
import { beforeRelay } from "./before-relay.ts";
import type { HookConnection } from "./connection.ts";
import type { SourceFacts } from "./event-encoding.ts";
import type { HookSettings } from "./settings.ts";

export class ConnectedFilter implements FilterHook {
  readonly name: string;
  readonly deadlineMs: number;
  readonly onFailure: OnFailure;
  readonly enforce: boolean;
  readonly when: Matcher;
  private readonly connection: HookConnection;
  private readonly settings: HookSettings;
  private readonly source: SourceFacts;

  constructor(connection: HookConnection, source: SourceFacts, facts: WhenFacts) {
    this.connection = connection;
    this.settings = connection.settings;
    this.source = source;
    this.name = this.settings.name;
    this.deadlineMs = this.settings.deadlineMs;
    this.onFailure = this.settings.onFailure;
    this.enforce = this.settings.enforce;
    this.when = matcher(this.settings.when, facts);
  }

  get isFilter(): boolean {
    if (this.settings.roles !== undefined) return this.settings.roles.includes("filter");
    // Nothing is known of it yet: a message that passed now might pass unfiltered. And what named BEFORE_RELAY once stays a
    // filter until reload, whatever it names later.
    return this.connection.description === undefined || this.connection.named.has(Capability.BEFORE_RELAY);
  }

  async call(message: HeldMessage, envelope: FilterEnvelope, terms: CallTerms): Promise<CallResult> {
    const started = performance.now();
    const client = await this.connection.ready(terms.deadlineMs);
    if (!this.isFilter) return { ok: "not_a_filter" };
    if ("cause" in client) return { ok: false, ...client };
    const deadlineMs = terms.deadlineMs - (performance.now() - started);
    if (deadlineMs <= 0) return { ok: false, cause: "deadline", detail: "connecting took too long" };
    const described = Number(this.connection.description?.maxMessageOctets ?? 0n);
    const caps = [this.settings.maxMessageOctets, described === 0 ? undefined : described];
    const portion = {
      maxOctets: caps.reduce(
        (least, cap) => (cap === undefined ? least : Math.min(least ?? cap, cap)),
        undefined,
      ),
      headerOnly: this.settings.headerOnly ?? this.connection.description?.headerOnly ?? false,
    };
    return beforeRelay(client, message, envelope, portion, { ...terms, deadlineMs }, this.source);
  }

  unresponsive(): void {
    this.connection.reconnect("it answers no calls");
  }
}
