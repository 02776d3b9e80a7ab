/** What one process of the proxy says of itself: its log, its metrics where there are any, its sinks. */
import type { Config } from "../../config/schema.ts";
import type { EventSink } from "../../events/events.ts";
import { defectFields, type Telemetry } from "../../events/telemetry.ts";
import { DeliveryLog } from "../../telemetry/delivery-log.ts";
import { LineWriter } from "../../telemetry/line-writer.ts";
import { Log } from "../../telemetry/log.ts";
import { Metrics } from "../../telemetry/metrics.ts";
import { makeTelemetry } from "../../telemetry/telemetry.ts";
import { VerboseLog } from "../../telemetry/verbose.ts";

export interface Observation {
  readonly log: Log;
  readonly metrics: Metrics | undefined;
  readonly telemetry: Telemetry;
  readonly sinks: readonly EventSink[];
  /** For the end of the process: resolves when every line is out, or its reader has taken nothing for too long. */
  flush(): Promise<void>;
  /** The same while nothing else goes on. */
  flushSync(): void;
}

/** `worker`: its number, where there are several; the primary has none. */
export function observe(config: Config, version: string, worker: number | undefined): Observation {
  const destination = new LineWriter({ fd: 2, shared: config.workers > 1 });
  process.on("exit", (status) => {
    if (destination.holdsThread) endWithoutThreads(status);
  });
  const { level, format, verbose } = config.log;
  const log = new Log({ level, format, destination, worker });
  const metrics = config.metrics && new Metrics({ version });
  return {
    log,
    metrics,
    telemetry: makeTelemetry(log, metrics),
    sinks: [
      new DeliveryLog(log),
      ...(verbose ? [new VerboseLog({ destination })] : []),
      ...(metrics === undefined ? [] : [metrics.sink]),
    ],
    flush: () => destination.flush(),
    flushSync: () => destination.flushSync(),
  };
}

/**
 * Node's exit waits for its threads, and nobody can wake one whose write the reader of the log does not take. A supervisor
 * takes an end by SIGTERM for a clean one.
 */
function endWithoutThreads(status: number): void {
  process.removeAllListeners("SIGTERM");
  process.kill(process.pid, status === 0 ? "SIGTERM" : "SIGKILL");
}

/**
 * A defect of our own is never swallowed: it is logged with its stack and ends this process, whose state nobody knows any
 * more. A message under way has no end then, so nobody takes it for one; a supervisor starts the process again.
 */
export function endOnDefect({ log, flushSync }: Observation, status = 70): void {
  const end = (error: unknown): void => {
    log.write("error", "defect", "a defect of warp itself: this process ends", defectFields(error));
    flushSync();
    process.exit(status);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
