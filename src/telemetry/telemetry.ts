/** The `Telemetry` that the proxy's layers are given: the log, and the metrics where there are any. */
import { noTelemetry, type Telemetry } from "../events/telemetry.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** Without `metrics` everything but the log goes nowhere. */
export function makeTelemetry(log: Log, metrics?: Metrics): Telemetry {
  const telemetry: Record<string, unknown> = { log: log.write.bind(log) };
  for (const name of Object.keys(noTelemetry) as (keyof Telemetry)[]) {
    if (name === "log") continue;
    telemetry[name] = metrics === undefined ? noTelemetry[name] : metrics[name].bind(metrics);
  }
  return telemetry as unknown as Telemetry;
}
