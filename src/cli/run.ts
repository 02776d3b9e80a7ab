/** `warp` itself: starts the proxy, and runs it until a signal ends it. */
import type { LoadedConfig } from "../config/load.ts";
import { observe } from "./proxy/observation.ts";
import { Primary } from "./proxy/primary.ts";
import { version } from "./version.ts";

/** Exit status 0: drained. Throws, with a plain text, where it cannot start. */
export async function runProxy(loaded: LoadedConfig, reload: () => LoadedConfig): Promise<number> {
  const { version: number } = version();
  const observation = observe(loaded.config, number, undefined);
  for (const line of loaded.notes) observation.log.write("info", "note", line);
  for (const line of loaded.warnings) observation.log.write("warn", "config", line);
  try {
    await new Primary({ loaded, reload, version: number, observation }).run();
    return 0;
  } finally {
    await observation.flush();
  }
}
