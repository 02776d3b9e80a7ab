/** Log, metrics and event sinks of one process, as the configuration asks for them. */
import type { EventSink } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import { DeliveryLog } from "./delivery-log.ts";
import { LineWriter } from "./line-writer.ts";
import { Log, type LogOptions } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { makeTelemetry } from "./telemetry.ts";
import { VerboseLog } from "./verbose.ts";

/** A `Config` is one. */
export interface TelemetrySettings {
  readonly log: Pick<LogOptions, "level" | "format"> & { readonly verbose: boolean };
  readonly metrics: object | undefined;
}
export interface TelemetryOptions {
  readonly version: string;
  /** Number of this worker, where there are several: it is in every line. */
  readonly worker?: number | undefined;
  /** Descriptor that log and `--verbose` are written to; default: stderr. */
  readonly fd?: number;
}
export interface ProcessTelemetry {
  readonly telemetry: Telemetry;
  readonly log: Log;
  /** Undefined where the configuration asks for none: then nothing is counted. */
  readonly metrics: Metrics | undefined;
  /** For every session: delivery lines, `--verbose`, metrics. */
  readonly sinks: readonly EventSink[];
  /** Writes what waits. At the end of the process. */
  close(): Promise<void>;
}

export function openTelemetry(settings: TelemetrySettings, options: TelemetryOptions): ProcessTelemetry {
  const { level, format, verbose } = settings.log;
  const destination: LineWriter = new LineWriter({
    fd: options.fd ?? 2,
    dropped: (count) => droppedLine(format, count),
  });
  const log = new Log({ level, format, destination, worker: options.worker });
  const metrics = settings.metrics === undefined ? undefined : new Metrics({ version: options.version });
  const sinks: EventSink[] = [new DeliveryLog(log)];
  if (verbose) sinks.push(new VerboseLog({ destination }));
  if (metrics !== undefined) sinks.push(metrics.sink);
  // The process may end by an error, without `close`.
  const atExit = () => destination.flushSync();
  process.on("exit", atExit);
  return {
    telemetry: makeTelemetry(log, metrics),
    log,
    metrics,
    sinks,
    close: async () => {
      await destination.flush();
      process.off("exit", atExit);
    },
  };
}

/** In the form of its neighbours, so that a reader of JSON can read it too. */
function droppedLine(format: "json" | "text", count: number): string {
  const fields = {
    level: "warn",
    time: new Date().toISOString(),
    code: "log_dropped",
    dropped: count,
    msg: "lines were dropped: the reader of the log is too slow",
  };
  if (format === "json") return JSON.stringify(fields);
  return `${fields.time} WARN  ${fields.code} ${fields.msg} dropped=${count}`;
}
