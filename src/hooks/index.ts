/**
 * The proxy's side of the hook protocol, assembled: a connection for each hook, the filter chain over those that filter, a
 * sink for those that observe, the store of held messages, and the journal.
 */
import type { EventSink, Notice } from "../events/events.ts";
import { createChain } from "../filter/chain.ts";
import { createHoldStore } from "../stores/hold.ts";
import {
  adopt,
  type Journal,
  type JournalOptions,
  type LeftJournal,
  openJournal,
} from "../stores/journal.ts";
import { HookConnection } from "./connection.ts";
import { settingsProblem } from "./credentials.ts";
import type { SourceFacts } from "./event-encoding.ts";
import { EventLog } from "./event-log.ts";
import { ConnectedFilter } from "./filter-hook.ts";
import { STREAM_LIMITS, type StreamLimits } from "./observe-stream.ts";
import { Observer } from "./observer.ts";
import { RouteCaller } from "./route-caller.ts";
import type { HookSettings, Hooks, HooksDependencies, HooksSettings } from "./settings.ts";
import { UlidSource } from "./ulid.ts";

export type { SelectRoute } from "../egress/contract.ts";
export type { HookSettings, Hooks, HooksDependencies, HooksSettings, HookTls } from "./settings.ts";

/** Octets of encoded events in memory. With a journal, what is not there is read from disk. */
const QUEUE_OCTETS = 64 * 1024 * 1024;
const QUEUE_OCTETS_WITH_JOURNAL = 16 * 1024 * 1024;
/** A replacement has the size of a message, plus what is around it. */
const ANSWER_EXTRA_OCTETS = 1024 * 1024;
const FLUSH_MS = 5000;

/** For tests and tools. */
export interface HooksTuning {
  readonly limits?: Partial<StreamLimits>;
  readonly queueOctets?: number;
  readonly holdWaitMs?: number;
}

/** Does no I/O before `start`. Settings and dependencies: see there. */
export function createHooks(
  settings: HooksSettings,
  dependencies: HooksDependencies,
  tuning: HooksTuning = {},
): Hooks {
  return new AssembledHooks(settings, dependencies, tuning);
}

class AssembledHooks implements Hooks {
  readonly chain: Hooks["chain"];
  readonly hold: ReturnType<typeof createHoldStore>;
  readonly sinks: readonly EventSink[];
  readonly selectRoute: RouteCaller;
  private readonly settings: HooksSettings;
  private readonly dependencies: HooksDependencies;
  private readonly tuning: HooksTuning;
  private readonly ids = new UlidSource();
  private readonly source: SourceFacts;
  private readonly connections: readonly HookConnection[];
  private readonly log: EventLog;
  private observers: Observer[] = [];
  private journal: Journal | undefined;
  private left: LeftJournal[] = [];
  private stopped: Promise<void> | undefined;

  constructor(settings: HooksSettings, dependencies: HooksDependencies, tuning: HooksTuning) {
    const { telemetry } = dependencies;
    this.settings = settings;
    this.dependencies = dependencies;
    this.tuning = tuning;
    this.source = { proxy: settings.proxy, worker: dependencies.worker, epoch: this.ids.next(Date.now()) };
    this.hold = createHoldStore({
      memoryOctets: settings.filter.holdMemoryOctets,
      totalOctets: settings.filter.holdTotalOctets,
      pool: dependencies.holdPool,
      spool: settings.filter.spool,
      telemetry,
      ...(tuning.holdWaitMs === undefined ? {} : { waitMs: tuning.holdWaitMs }),
    });
    this.connections = settings.hooks.map((hook) => this.connection(hook));
    this.chain = this.assembleChain();
    this.selectRoute = new RouteCaller(this.connections, this.source, telemetry);
    this.log = new EventLog({
      source: this.source,
      ids: this.ids,
      maxOctets:
        tuning.queueOctets ?? (settings.journal === undefined ? QUEUE_OCTETS : QUEUE_OCTETS_WITH_JOURNAL),
      store: {
        write: (blocks) => this.journal?.write(blocks) ?? Promise.resolve(),
      },
      telemetry,
    });
    this.sinks = settings.hooks.some(mayObserve) ? [this.log] : [];
  }

  async start(): Promise<void> {
    this.check();
    this.openJournal();
    this.observers = this.connections
      .filter(({ settings }) => mayObserve(settings))
      .map(
        (connection) =>
          new Observer({
            connection,
            log: this.log,
            journal: this.journal,
            left: this.left,
            ids: this.ids,
            limits: { ...STREAM_LIMITS, ...this.tuning.limits },
            telemetry: this.dependencies.telemetry,
          }),
      );
    for (const observer of this.observers) {
      this.log.addReader(observer);
      observer.start();
    }
    // Local hooks answer within some ms: most proxies then know the roles before the first client comes.
    await Promise.race([
      Promise.all(this.connections.map((connection) => connection.start())),
      new Promise((resolve) => setTimeout(resolve, 1000).unref()),
    ]);
  }

  stop(flushMs = FLUSH_MS): Promise<void> {
    this.stopped ??= this.close(flushMs);
    return this.stopped;
  }

  private async close(flushMs: number): Promise<void> {
    await this.log.flush();
    await Promise.all(this.observers.map((observer) => observer.stop(flushMs)));
    for (const connection of this.connections) connection.stop();
    await this.log.flush();
    this.log.close();
    await this.journal?.close();
    for (const journal of this.left) journal.close();
  }

  private check(): void {
    for (const hook of this.settings.hooks) {
      const problem = settingsProblem(hook);
      if (problem !== undefined) throw new Error(problem);
    }
    const problem = this.chain.required ? this.hold.problem() : undefined;
    if (problem !== undefined) throw new Error(problem);
  }

  private openJournal(): void {
    const options = this.journalOptions();
    if (options === undefined) return;
    try {
      const opened = openJournal(options);
      this.journal = opened.own;
      this.left = [...opened.left];
      opened.own.alsoOnDisk = () => this.left.reduce((sum, journal) => sum + journal.octets, 0);
      opened.own.makeRoom = () => this.left.some((journal) => journal.giveUpOldest());
    } catch (cause) {
      throw new Error(`journal: cannot use ${options.directory}: ${(cause as Error).message}`, { cause });
    }
  }

  adopt(): void {
    const options = this.journalOptions();
    if (options === undefined || this.journal === undefined) return;
    try {
      const journals = adopt(options);
      this.left = [...this.left.filter(({ isGone }) => !isGone), ...journals];
      for (const observer of this.observers) observer.takeOver(journals);
    } catch (cause) {
      const { telemetry } = this.dependencies;
      telemetry.log("error", "journal_not_taken_over", "the journal cannot be read", {}, cause);
    }
  }

  private journalOptions(): JournalOptions | undefined {
    const { journal, hooks, workers } = this.settings;
    if (journal === undefined || !hooks.some(mayObserve)) return undefined;
    return {
      directory: journal.dir,
      source: this.source,
      maxOctets: Math.floor(journal.maxSizeOctets / workers),
      fsyncMs: journal.fsyncMs,
      observers: hooks.filter(mayObserve).map(({ name }) => name),
      telemetry: this.dependencies.telemetry,
    };
  }

  private connection(settings: HookSettings): HookConnection {
    const connection: HookConnection = new HookConnection({
      settings,
      source: this.source,
      version: this.dependencies.version,
      maxReceiveOctets: this.settings.limits.messageOctets + ANSWER_EXTRA_OCTETS,
      telemetry: this.dependencies.telemetry,
      changed: (up, detail) => this.connectionChanged(connection, up, detail),
    });
    return connection;
  }

  private connectionChanged(connection: HookConnection, up: boolean, detail: string): void {
    const { name } = connection.settings;
    for (const observer of this.observers) observer.connectionChanged();
    const code = up ? "hook_up" : "hook_down";
    const text = up ? `hook ${name} is there: ${detail}` : `hook ${name} is not there: ${detail}`;
    this.notify("", code, text, { hook: name });
  }

  private notify(connectionId: string, code: string, text: string, fields: Record<string, string>): void {
    const notice: Notice = { kind: "notice", at: Date.now(), connectionId, code, text, fields };
    if (this.log.wants("notice")) this.log.emit(notice);
    this.dependencies.notice?.(notice);
  }

  private assembleChain(): Hooks["chain"] {
    const { telemetry, isOwnAddress = () => false } = this.dependencies;
    return createChain({
      hooks: this.connections
        .filter(({ settings }) => settings.roles === undefined || settings.roles.includes("filter"))
        .map((connection) => new ConnectedFilter(connection, this.source, { isOwnAddress })),
      store: this.hold,
      budgetMs: this.settings.filter.chainBudgetMs,
      discard: this.settings.filter.discard,
      now: () => performance.now(),
      telemetry,
      skipped: (hook, { session, transactionId }, failure) =>
        this.notify(
          session.connectionId,
          "filter_skipped",
          `a message was relayed without ${hook}: ${failure}`,
          {
            hook,
            tx: transactionId,
          },
        ),
    });
  }
}

function mayObserve(hook: HookSettings): boolean {
  return hook.roles === undefined || hook.roles.includes("observe");
}
