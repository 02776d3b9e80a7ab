/** What of a changed configuration a reload cannot bring: settings that something was made from at the start. */
import { isDeepStrictEqual } from "node:util";
import type { Config } from "../../config/schema.ts";

export interface AfterReload {
  /** The new configuration, but for the settings that cannot change. */
  readonly config: Config;
  /** Names, as in the file, of those that differ and need a restart. */
  readonly later: readonly string[];
}

export function afterReload(running: Config, wanted: Config): AfterReload {
  let config = wanted;
  const later: string[] = [];
  for (const { name, differs, keep } of FIXED) {
    if (!differs(running, wanted)) continue;
    later.push(name);
    config = keep(config, running);
  }
  return { config, later };
}

interface FixedSetting {
  readonly name: string;
  differs(running: Config, wanted: Config): boolean;
  /** `config` with what runs. */
  keep(config: Config, running: Config): Config;
}

/** Everything that is not here is new for new sessions after a reload. */
const FIXED: readonly FixedSetting[] = [
  section("proxy"),
  section("listen"),
  section("workers"),
  {
    name: "capture.mode",
    differs: (running, wanted) => running.capture.mode !== wanted.capture.mode,
    // The destination is a part of `fixed`: without the one, the other has no meaning.
    keep: (config, { capture: { mode, destination } }) => ({
      ...config,
      capture: { ...config.capture, mode, destination },
    }),
  },
  section("journal"),
  section("redis"),
  section("plugins"),
  ofPlugin("sqlite"),
  ofPlugin("file"),
  ofPlugin("mysql"),
  ofPlugin("slack"),
  within("reputation", "halfLivesMs", "half_lives"),
  within("reputation", "tiers", "tiers"),
  within("reputation", "dwellMs", "dwell"),
  within("reputation", "stateFile", "state_file"),
  within("log", "format", "format"),
  within("log", "bodies", "bodies"),
  within("log", "verbose", "verbose"),
  section("metrics"),
];

function section<Key extends keyof Config>(key: Key): FixedSetting {
  return {
    name: key,
    differs: (running, wanted) => !isDeepStrictEqual(running[key], wanted[key]),
    keep: (config, running) => ({ ...config, [key]: running[key] }),
  };
}

/** Settings of a plugin matter where it runs. */
function ofPlugin(key: "sqlite" | "file" | "mysql" | "slack"): FixedSetting {
  const whole = section(key);
  return {
    ...whole,
    differs: (running, wanted) => running.plugins.includes(key) && whole.differs(running, wanted),
  };
}

function within<Key extends "reputation" | "log">(
  key: Key,
  member: keyof Config[Key],
  name: string,
): FixedSetting {
  return {
    name: `${key}.${name}`,
    differs: (running, wanted) => !isDeepStrictEqual(running[key][member], wanted[key][member]),
    keep: (config, running) => ({ ...config, [key]: { ...config[key], [member]: running[key][member] } }),
  };
}
