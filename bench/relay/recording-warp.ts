/**
 * warp as one worker, put together as the program does it (delivery log at level info on stderr), and with the recording
 * on: a sink that wants every event. `node bench/relay/recording-warp.ts FLAGS`; it prints its port.
 */

import { parseOptions } from "../../src/cli/options.ts";
import { observe } from "../../src/cli/proxy/observation.ts";
import { SmtpProxy } from "../../src/cli/proxy/proxy.ts";
import { spec } from "../../src/cli/proxy-options.ts";
import { settleV8 } from "../../src/cli/v8.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { EventSink, WarpEvent } from "../../src/events/events.ts";
import { SharedState, sharedOctets } from "../../src/stores/shared-state.ts";

/** Takes every event, and looks at each as a sink would that stores it. */
class Recording implements EventSink {
  events = 0;
  octets = 0;
  wants(): boolean {
    return true;
  }
  emit(event: WarpEvent): void {
    this.events++;
    if (event.kind === "after_comm") this.octets += event.data.length;
  }
}

settleV8();
const loaded = loadConfig(parseOptions(spec, process.argv.slice(2)), {});
const { telemetry, sinks } = observe(loaded.config, "bench", undefined);
const shape = { workers: 1, sessions: loaded.config.limits.sessions };
const proxy = new SmtpProxy(loaded, {
  telemetry,
  sinks: [...sinks, new Recording()],
  version: "bench",
  worker: 0,
  extraHooks: [],
  sockets: undefined,
  shared: new SharedState(new ArrayBuffer(sharedOctets(shape)), shape),
});
await proxy.start();
console.log(`port ${proxy.addresses[0]?.port}`);
process.once("SIGTERM", () => process.exit(0)); // an orderly end, which a profile is written at
