/**
 * The chain of filters for one message: in configured order, each sees what the one before made
 * of it, and the first rejection ends it. A filter that fails, in whatever way, does what its `on_failure` says; a shadow
 * filter is asked and never obeyed. Nothing here does I/O: calls and storage come in as arguments, and so does the clock.
 */
import type { FilterOutcome, ReplyFacts } from "../events/events.ts";
import type { HookFailure, Telemetry } from "../events/telemetry.ts";
import { OWN } from "../smtp/own-replies.ts";
import { Breaker, type Settled } from "./breaker.ts";
import {
  type ChainResult,
  type FilterChain,
  type FilterEnvelope,
  type HeldMessage,
  HoldFull,
  type HoldStore,
  type VerdictReply,
} from "./contract.ts";
import { editedSection, hold, replacementProblem, withEdits } from "./derived.ts";
import { type RawVerdict, type Remarks, type Verdict, validateVerdict } from "./verdict.ts";
import type { Matcher } from "./when.ts";

export type OnFailure = "tempfail" | "accept" | "reject";

/** One filter: its settings, and the call that reaches it. */
export interface FilterHook {
  readonly name: string;
  readonly deadlineMs: number;
  readonly onFailure: OnFailure;
  /** False: shadow mode. */
  readonly enforce: boolean;
  readonly when: Matcher;
  /** False: this hook does not filter. True also while its role is not known yet. Asked for each message. */
  readonly isFilter: boolean;
  /** Never rejects; settles within `deadlineMs`, or soon after `signal` is aborted. */
  call(message: HeldMessage, envelope: FilterEnvelope, terms: CallTerms): Promise<CallResult>;
  /** The breaker opened: the connection may be a dead one. */
  unresponsive?(): void;
}
export interface CallTerms {
  readonly deadlineMs: number;
  readonly discardAllowed: boolean;
  /** What the filters before it said. */
  readonly earlier: readonly FilterOutcome[];
  readonly signal: AbortSignal;
}
export type CallResult =
  /** `sawWhole`: false where the message was cut, or only its header section sent. */
  | { readonly ok: true; readonly response: RawVerdict; readonly sawWhole: boolean }
  | { readonly ok: false; readonly cause: Exclude<HookFailure, "breaker">; readonly detail: string }
  /** It has just said for the first time that it does not filter. */
  | { readonly ok: "not_a_filter" };

export interface ChainOptions {
  readonly hooks: readonly FilterHook[];
  readonly store: HoldStore;
  /** The chain's own limit, beside the time that a message has left. */
  readonly budgetMs: number;
  readonly discard: boolean;
  /** Monotonic, ms. */
  readonly now: () => number;
  readonly telemetry: Pick<Telemetry, "log" | "hookVerdict" | "hookFailure">;
  /** A message goes on without this filter's verdict (`on_failure: accept`). */
  readonly skipped?: (hook: string, envelope: FilterEnvelope, failure: string) => void;
}

const SKIPPED_FIELD = "X-Warp-Filter-Skipped";
/** A call that had less than this of its deadline says nothing about the hook. */
const FAIR_CALL_MS = 1000;

export function createChain(options: ChainOptions): FilterChain {
  const breakers = new Map(options.hooks.map((hook) => [hook, new Breaker()]));
  return {
    get required() {
      return options.hooks.some((hook) => hook.isFilter);
    },
    async run(message, envelope, timeLeftMs, signal) {
      const run = new ChainRun(options, breakers, message, envelope, signal);
      return run.result(Math.min(options.budgetMs, timeLeftMs));
    },
  };
}

/** How a filter ends the chain. */
type End =
  | {
      readonly kind: "reject";
      readonly reply: VerdictReply;
      readonly hook: string;
      readonly origin: "hook" | "warp";
    }
  | { readonly kind: "discard"; readonly hook: string }
  | { readonly kind: "no_storage" };

/** One message on its way through the chain. */
class ChainRun {
  private readonly outcomes: FilterOutcome[] = [];
  private readonly options: ChainOptions;
  private readonly breakers: ReadonlyMap<FilterHook, Breaker>;
  private readonly envelope: FilterEnvelope;
  private readonly signal: AbortSignal;
  /** For what is made of this message. */
  private readonly store: HoldStore;
  private message: HeldMessage;

  constructor(
    options: ChainOptions,
    breakers: ReadonlyMap<FilterHook, Breaker>,
    message: HeldMessage,
    envelope: FilterEnvelope,
    signal: AbortSignal,
  ) {
    this.options = options;
    this.breakers = breakers;
    this.message = message;
    this.envelope = envelope;
    this.signal = signal;
    this.store = { open: () => options.store.open(message) };
  }

  async result(budgetMs: number): Promise<ChainResult> {
    const deadline = this.options.now() + budgetMs;
    for (const hook of this.options.hooks) {
      if (!hook.isFilter || !hook.when(this.envelope, this.message.octets)) continue;
      const end = await this.guarded(hook, deadline);
      if (end === undefined) continue;
      // Frees what the filters made, and the held message below it.
      this.message.release();
      return { ...end, outcomes: this.outcomes };
    }
    return { kind: "relay", message: this.message, outcomes: this.outcomes };
  }

  /** One filter; whatever is thrown on the way is a storage that failed, since calls never throw. */
  private async guarded(hook: FilterHook, deadline: number): Promise<End | undefined> {
    try {
      return await this.pass(hook, deadline);
    } catch (cause) {
      const full = cause instanceof HoldFull;
      this.options.telemetry.log(
        full ? "warn" : "error",
        full ? "hold_full" : "held_message_failed",
        full
          ? "no room for what a filter made of a message"
          : "the held message could not be read or changed",
        this.logFields(hook),
        cause,
      );
      return { kind: "no_storage" };
    }
  }

  private async pass(hook: FilterHook, deadline: number): Promise<End | undefined> {
    const started = this.options.now();
    const answer = await this.ask(hook, Math.min(hook.deadlineMs, deadline - started));
    const durationMs = this.options.now() - started;
    if (this.signal.aborted)
      return { kind: "reject", reply: OWN.filterTempfail, hook: hook.name, origin: "warp" };
    if (answer.ok === "not_a_filter") return undefined;
    if (!answer.ok) return this.failed(hook, answer.cause, answer.detail, durationMs);
    const judged = validateVerdict(answer.response, {
      smtputf8: this.envelope.smtputf8,
      eightBit: this.envelope.eightBit,
      maxOctets: this.envelope.maxOctets,
      discardAllowed: this.options.discard,
      sawWhole: answer.sawWhole,
    });
    if (!judged.ok) return this.failed(hook, "invalid", judged.problem, durationMs);
    const { verdict, remarks } = judged;
    let changed: HeldMessage | string;
    try {
      changed = await this.changed(verdict, hook.enforce);
    } catch (cause) {
      this.record(hook, verdict, remarks, durationMs);
      throw cause;
    }
    if (typeof changed === "string") return this.failed(hook, "invalid", changed, durationMs);
    this.message = changed;
    this.record(hook, verdict, remarks, durationMs);
    if (!hook.enforce) return undefined;
    if (verdict.kind === "reject") {
      return { kind: "reject", reply: verdict.reply, hook: hook.name, origin: "hook" };
    }
    return verdict.kind === "discard" ? { kind: "discard", hook: hook.name } : undefined;
  }

  private async ask(
    hook: FilterHook,
    deadlineMs: number,
  ): Promise<CallResult | { readonly ok: false; readonly cause: "breaker"; readonly detail: string }> {
    if (deadlineMs <= 0) {
      return { ok: false, cause: "deadline", detail: "the filters before it used up the time of the chain" };
    }
    const breaker = this.breakers.get(hook) as Breaker;
    const admitted = breaker.admit(this.options.now());
    if (admitted === undefined) {
      return { ok: false, cause: "breaker", detail: "did not answer the last calls in time" };
    }
    const wasOpen = breaker.isOpen;
    const result = await hook.call(this.message, this.envelope, {
      deadlineMs,
      discardAllowed: this.options.discard,
      earlier: this.outcomes,
      signal: this.signal,
    });
    breaker.settled(admitted, this.settledAs(hook, result, deadlineMs), this.options.now());
    if (breaker.isOpen && !wasOpen) hook.unresponsive?.();
    return result;
  }

  private settledAs(hook: FilterHook, result: CallResult, deadlineMs: number): Settled {
    if (result.ok || result.cause !== "deadline") return this.signal.aborted ? "ignored" : "answered";
    if (this.signal.aborted) return "ignored";
    return deadlineMs >= Math.min(hook.deadlineMs, FAIR_CALL_MS) ? "deadline" : "ignored";
  }

  /** What the verdict makes of the message (in shadow mode: only whether it could); a string says why it cannot. */
  private async changed(verdict: Verdict, enforce: boolean): Promise<HeldMessage | string> {
    if (verdict.kind === "replace") {
      const problem = await replacementProblem(this.message, verdict);
      if (problem !== undefined) return problem;
      if (!enforce) return this.message;
      const replacement = await hold(this.store, verdict.message);
      this.message.release();
      return replacement;
    }
    if (verdict.kind !== "add_header") return this.message;
    const { maxOctets } = this.envelope;
    if (enforce) return withEdits(this.store, this.message, verdict.edits, maxOctets);
    const made = await editedSection(this.message, verdict.edits, maxOctets);
    return typeof made === "string" ? made : this.message;
  }

  private async failed(
    hook: FilterHook,
    cause: HookFailure,
    detail: string,
    durationMs: number,
  ): Promise<End | undefined> {
    const applied = hook.enforce ? hook.onFailure : "";
    const reply =
      applied === "tempfail" ? OWN.filterTempfail : applied === "reject" ? OWN.filterReject : undefined;
    this.outcomes.push({
      hook: hook.name,
      verdict: "",
      score: 0,
      tags: [],
      note: "",
      failure: detail === "" ? cause : `${cause}: ${detail}`,
      onFailure: applied,
      durationMs,
      shadow: !hook.enforce,
      reply: reply === undefined ? undefined : replyFacts(reply, "warp", hook.name),
    });
    this.options.telemetry.hookFailure(hook.name, cause, applied === "" ? "none" : applied);
    this.options.telemetry.log("warn", "filter_failed", `filter ${hook.name} failed: ${cause}: ${detail}`, {
      ...this.logFields(hook),
      cause,
      applied: applied === "" ? "none" : applied,
      ms: Math.round(durationMs),
    });
    if (reply !== undefined) return { kind: "reject", reply, hook: hook.name, origin: "warp" };
    if (applied === "accept") {
      this.options.skipped?.(hook.name, this.envelope, `${cause}: ${detail}`);
      await this.markSkipped(hook);
    }
    return undefined;
  }

  /** Says in the message which filter it did not pass, where that fits into the leg's SIZE. */
  private async markSkipped(hook: FilterHook): Promise<void> {
    const field = { kind: "insert", name: SKIPPED_FIELD, value: hook.name } as const;
    const edited = await withEdits(this.store, this.message, [field], this.envelope.maxOctets);
    if (typeof edited !== "string") this.message = edited;
  }

  private record(hook: FilterHook, verdict: Verdict, remarks: Remarks, durationMs: number): void {
    this.outcomes.push({
      hook: hook.name,
      verdict: verdict.kind,
      ...remarks,
      failure: "",
      onFailure: "",
      durationMs,
      shadow: !hook.enforce,
      reply: verdict.kind === "reject" ? replyFacts(verdict.reply, "hook", hook.name) : undefined,
    });
    this.options.telemetry.hookVerdict(hook.name, verdict.kind, !hook.enforce, durationMs);
  }

  private logFields(hook: FilterHook) {
    return {
      hook: hook.name,
      conn: this.envelope.session.connectionId,
      tx: this.envelope.transactionId,
    };
  }
}

function replyFacts(reply: VerdictReply, origin: "hook" | "warp", hook: string): ReplyFacts {
  return {
    code: reply.code,
    enhancedCode: reply.enhancedCode,
    text: Buffer.from(`${reply.code} ${reply.enhancedCode} ${reply.text}`, "latin1"),
    origin,
    replyClass: "",
    latencyMs: undefined,
    hook: origin === "hook" ? hook : "",
  };
}
