/**
 * One observing hook: what it gets, how far it has acknowledged, and the stream that is open to it. Journals that others
 * left are sent first, each on a stream of its own. Nothing here is ever in the way of mail or of another hook.
 */
import type { EventKind } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import { Capability, type DescribeResponse } from "../gen/warp/hook/v1/hook_pb.ts";
import type { Journal, LeftJournal } from "../stores/journal.ts";
import type { HookConnection } from "./connection.ts";
import type { EventLog, LogReader } from "./event-log.ts";
import { callFailure } from "./failure.ts";
import { type Feed, leftFeed, liveFeed } from "./feed.ts";
import { type KnownGap, ObserveStream, type StreamEnd, type StreamLimits } from "./observe-stream.ts";
import type { HookSettings } from "./settings.ts";
import type { UlidSource } from "./ulid.ts";

export interface ObserverOptions {
  readonly connection: HookConnection;
  readonly log: EventLog;
  readonly journal: Journal | undefined;
  readonly left: readonly LeftJournal[];
  readonly ids: UlidSource;
  readonly limits: StreamLimits;
  readonly telemetry: Pick<Telemetry, "log" | "eventsUnacked" | "eventsDropped">;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
const REPORT_MS = 1000;

export class Observer implements LogReader {
  private readonly options: ObserverOptions;
  private readonly settings: HookSettings;
  private readonly left: LeftJournal[];
  private readonly gaps = new Map<string, Map<number, KnownGap>>();
  private acked = 0;
  /** Undefined: not known yet, so that events are kept for it. */
  private observes: boolean | undefined;
  private kinds: ReadonlySet<EventKind>;
  private stream: ObserveStream | undefined;
  private stopping = false;
  private pauses = 0;
  private oddAckLogged = false;
  private wasUp = false;
  private wentAwayAt = Number.NEGATIVE_INFINITY;
  private wakeUp: (() => void) | undefined;
  private running: Promise<void> | undefined;
  private readonly reporting: NodeJS.Timeout;

  constructor(options: ObserverOptions) {
    this.options = options;
    this.settings = options.connection.settings;
    this.left = options.left.filter((journal) => journal.ackedSequence(this.settings.name) !== undefined);
    this.observes = this.settings.roles === undefined ? undefined : this.settings.roles.includes("observe");
    this.kinds = new Set(this.settings.events ?? ALL);
    this.reporting = setInterval(() => this.report(), REPORT_MS);
    this.reporting.unref();
  }

  get ackedSequence(): number | undefined {
    return this.observes === false ? undefined : this.acked;
  }

  wants(kind: EventKind): boolean {
    return this.observes !== false && this.kinds.has(kind);
  }

  wake(): void {
    this.stream?.changed();
  }

  start(): void {
    this.running = this.run();
  }

  /** Journals that were left meanwhile: sent next, on streams of their own; the live one goes on behind them. */
  takeOver(journals: readonly LeftJournal[]): void {
    const mine = journals.filter((journal) => journal.ackedSequence(this.settings.name) !== undefined);
    if (mine.length === 0) return;
    const isLive = this.left.length === 0;
    this.left.push(...mine);
    if (isLive) void this.stream?.finish(1000);
  }

  /** Describe was answered, or the connection is gone. */
  connectionChanged(): void {
    const { description, isUp } = this.options.connection;
    if (description !== undefined) this.described(description);
    if (this.wasUp && !isUp) this.wentAwayAt = performance.now();
    this.wasUp = isUp;
    this.wakeUp?.();
  }

  /**
   * Waits for acknowledgements of what was emitted so far, then ends the stream. It goes on as long as they come: `ms`
   * without any ends it, and 6 × `ms` in all. A hook that has just gone may be back soon (`--plugins` starts its child again):
   * it is waited for where there is no journal.
   */
  async stop(ms: number): Promise<void> {
    const { log } = this.options;
    const until = await this.handedOver(ms);
    this.stopping = true;
    this.wakeUp?.();
    await this.stream?.finish(Math.max(0, until - performance.now()));
    this.stream?.cancel();
    await this.running;
    clearInterval(this.reporting);
    const missing = this.observes === false ? 0 : log.last - this.acked;
    if (missing > 0 && this.options.journal === undefined) {
      this.options.telemetry.log(
        "warn",
        "events_undelivered",
        `${missing} events were not acknowledged by ${this.settings.name} and are lost: there is no journal`,
        { hook: this.settings.name, count: missing },
      );
    }
  }

  /** Resolves with when the patience ends. */
  private async handedOver(ms: number): Promise<number> {
    const { log, connection, journal } = this.options;
    const latest = performance.now() + 6 * ms;
    let until = performance.now() + ms;
    let { acked } = this;
    while (this.observes !== false && this.acked < log.last && performance.now() < until) {
      const isAway = !connection.isUp && (journal !== undefined || performance.now() - this.wentAwayAt > ms);
      if (isAway) break;
      await pause(20);
      if (this.acked === acked) continue;
      acked = this.acked;
      until = Math.min(latest, performance.now() + ms);
    }
    return until;
  }

  private described(description: DescribeResponse): void {
    const named = new Set(
      description.capabilities.flatMap((capability) => {
        const kind = KIND_OF_CAPABILITY.get(capability);
        return kind === undefined ? [] : [kind];
      }),
    );
    const wanted = this.settings.events ?? ALL;
    // An observer by configuration that names no kind gets what the configuration says.
    this.kinds = new Set(
      named.size === 0 ? wanted : wanted.filter((kind) => kind === "notice" || named.has(kind)),
    );
    if (this.settings.roles !== undefined) return;
    const before = this.observes;
    this.observes = named.size > 0;
    if (!this.observes) this.forget();
    // What happened while it said that it does not observe is not for it.
    else if (before === false) this.acked = this.options.log.last;
  }

  private forget(): void {
    this.options.journal?.forget(this.settings.name);
    for (const journal of this.left.splice(0)) journal.forget(this.settings.name);
    this.options.log.trim();
  }

  private async run(): Promise<void> {
    while (!this.stopping) {
      const client = this.observes === true ? this.options.connection.client() : undefined;
      if (client === undefined) {
        await this.wakened();
        continue;
      }
      const left = this.left[0];
      const feed = left === undefined ? liveFeed(this.options.log, this.options.journal) : leftFeed(left);
      const acked = left === undefined ? this.acked : (left.ackedSequence(this.settings.name) ?? left.last);
      this.stream = new ObserveStream(client, feed, acked, this.context(feed, left));
      const { connects } = this.options.connection;
      const startedAt = performance.now();
      let end: StreamEnd | undefined;
      try {
        end = await this.stream.run();
      } catch (cause) {
        this.options.telemetry.log("error", "journal_unreadable", "the journal cannot be read", {}, cause);
      }
      if (end?.kind === "drained" && !this.stopping) {
        if (left !== undefined) this.left.shift();
        await this.stream.finish(1000);
      }
      if (!this.stopping) {
        this.stream.cancel();
        this.stream = undefined;
        if (end?.kind !== "drained") await this.afterEnd(end, connects, startedAt);
      }
      await feed.close();
    }
  }

  private context(feed: Feed, left: LeftJournal | undefined) {
    const { name } = this.settings;
    let gaps = this.gaps.get(feed.source.epoch);
    if (gaps === undefined) {
      gaps = new Map();
      this.gaps.set(feed.source.epoch, gaps);
    }
    return {
      limits: this.options.limits,
      ids: this.options.ids,
      gaps,
      kinds: () => this.kinds,
      acknowledged: (sequence: number) => {
        if (left !== undefined) left.acknowledged(name, sequence);
        else {
          this.acked = sequence;
          this.options.journal?.acknowledged(name, sequence);
          this.options.log.trim();
        }
      },
      dropped: (count: number) => {
        this.options.telemetry.eventsDropped(name, count);
        this.options.telemetry.log("warn", "events_dropped", `${count} events were dropped for ${name}`, {
          hook: name,
          count,
        });
      },
      oddAck: (sequence: number) => {
        if (this.oddAckLogged) return;
        this.oddAckLogged = true;
        this.options.telemetry.log(
          "warn",
          "odd_acknowledgement",
          `${name} acknowledged ${sequence}, which was never sent; ignored`,
          { hook: name },
        );
      },
    };
  }

  /**
   * A stream on which something was stored is opened again at once, and one that was open for long; another, which may do
   * the same again, after a growing pause. What ends with its connection is no failure of the stream.
   */
  private async afterEnd(end: StreamEnd | undefined, connects: number, startedAt: number): Promise<void> {
    const { telemetry, connection } = this.options;
    const { name } = this.settings;
    if (end?.kind === "silent") {
      telemetry.log("warn", "observer_silent", `${name} has acknowledged nothing for too long`, {
        hook: name,
      });
      connection.reconnect("silent on Observe");
    }
    if (end?.kind === "closed") {
      if (end.progressed || performance.now() - startedAt >= LONGEST_PAUSE_MS) this.pauses = 0;
      // That the connection is lost (a GOAWAY, too) may be known a moment after its streams have ended.
      await new Promise((resolve) => setImmediate(resolve));
      if (end.status.code !== 0 && connection.isUp && connection.connects === connects) {
        const { cause, detail } = callFailure(end.status, "Observe");
        telemetry.log("warn", "observe_failed", `${name}: ${detail}`, { hook: name, cause });
      }
    }
    const ms = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.pauses++, 10));
    await this.wakened(ms * (0.5 + Math.random()));
  }

  /** Until the connection changed or this is stopped; at most `ms`. */
  private wakened(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(() => this.wakeUp?.(), ms);
      this.wakeUp = () => {
        this.wakeUp = undefined;
        clearTimeout(timer);
        resolve();
      };
      if (this.stopping) this.wakeUp();
    });
  }

  private report(): void {
    if (this.observes === false) return;
    const { name } = this.settings;
    const behind = this.left.reduce(
      (sum, journal) => sum + journal.last - (journal.ackedSequence(name) ?? journal.last),
      this.options.log.last - this.acked,
    );
    const since = behind === 0 ? undefined : this.options.log.emittedAt(this.acked + 1);
    this.options.telemetry.eventsUnacked(
      name,
      behind,
      since === undefined ? 0 : Math.max(0, Date.now() - since),
    );
  }
}

const ALL: readonly EventKind[] = ["after_comm", "after_transaction", "after_conn", "notice"];
const KIND_OF_CAPABILITY = new Map<number, EventKind>([
  [Capability.AFTER_COMM, "after_comm"],
  [Capability.AFTER_TRANSACTION, "after_transaction"],
  [Capability.AFTER_CONN, "after_conn"],
]);

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
