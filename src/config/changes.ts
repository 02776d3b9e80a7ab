/** What differs between two configurations, and which of it a running proxy can't take in: for a reload to say so. */
import { isDeepStrictEqual } from "node:util";
import type { Config } from "./schema.ts";

/**
 * Settings that are read once, at the start: addresses and processes, what hooks and stores were made from. Each is a
 * path in `Config`, and the key of the file that a person knows it by.
 */
const AT_START: readonly (readonly [key: string, pick: (config: Config) => unknown])[] = [
  ["proxy", (config) => config.proxy],
  ["listen", (config) => config.listen],
  ["workers", (config) => config.workers],
  ["capture.mode", (config) => config.capture.mode],
  ["hooks", (config) => config.hooks],
  ["filter", (config) => config.filter],
  ["journal", (config) => config.journal],
  ["redis", (config) => config.redis],
  ["plugins", (config) => config.plugins],
  ["sqlite", (config) => (config.plugins.includes("sqlite") ? config.sqlite : undefined)],
  ["file", (config) => (config.plugins.includes("file") ? config.file : undefined)],
  ["mysql", (config) => (config.plugins.includes("mysql") ? config.mysql : undefined)],
  ["slack", (config) => (config.plugins.includes("slack") ? config.slack : undefined)],
  ["reputation.state_file", (config) => config.reputation.stateFile],
  ["log.format", (config) => config.log.format],
  ["metrics", (config) => config.metrics],
];

/** Keys of the file that changed and take effect only with a restart. Their values aren't given: some are secrets. */
export function changesThatNeedRestart(running: Config, read: Config): readonly string[] {
  return AT_START.filter(([, pick]) => !isDeepStrictEqual(pick(running), pick(read))).map(([key]) => key);
}

/** Top-level members of `Config` that differ. */
export function changedSections(running: Config, read: Config): readonly (keyof Config)[] {
  return (Object.keys(read) as (keyof Config)[]).filter((key) => !isDeepStrictEqual(running[key], read[key]));
}
