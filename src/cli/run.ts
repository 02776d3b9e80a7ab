/** `warp` itself: starts the proxy, says where it listens, and stops it on SIGTERM and SIGINT. */
import type { LoadedConfig } from "../config/load.ts";
import { DeliveryLog } from "../telemetry/delivery-log.ts";
import { LineWriter } from "../telemetry/line-writer.ts";
import { Log } from "../telemetry/log.ts";
import { makeTelemetry } from "../telemetry/telemetry.ts";
import { VerboseLog } from "../telemetry/verbose.ts";
import { Proxy } from "./proxy/proxy.ts";
import { version } from "./version.ts";

/** Runs until a signal ends it. Exit status 0: drained; 1: it could not start. */
export async function runProxy(loaded: LoadedConfig, _reload: () => LoadedConfig): Promise<number> {
  const { config } = loaded;
  const destination = new LineWriter({ fd: 2 });
  const log = new Log({ level: config.log.level, format: config.log.format, destination });
  const telemetry = makeTelemetry(log);
  for (const line of loaded.notes) log.write("info", "note", line);
  for (const line of loaded.warnings) log.write("warn", "config", line);
  const proxy = new Proxy(loaded, {
    telemetry,
    sinks: [new DeliveryLog(log), ...(config.log.verbose ? [new VerboseLog({ destination })] : [])],
    version: version().version,
    worker: 0,
    extraHooks: [],
    inherited: [],
  });
  await proxy.start();
  for (const address of proxy.addresses) {
    const text = `warp listens to ${address.ip.includes(":") ? `[${address.ip}]` : address.ip}:${address.port}`;
    process.stdout.write(`${text}\n`);
    log.write("info", "listening", text);
  }
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  log.write("info", "stopping", "stopping: transactions finish, idle sessions are told");
  await proxy.drain();
  log.write("info", "stopped", "stopped");
  await destination.flush();
  return 0;
}
