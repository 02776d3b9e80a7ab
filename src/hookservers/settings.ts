/**
 * Reading settings: one name, one form, one line that says what is wrong. Values come from the options of `warp hook`, the
 * configuration's section, and the environment, in this order.
 */
import { SettingError } from "./sink.ts";

export type Section = Readonly<Record<string, unknown>>;

/** Fails for a key that the section of `kind` does not have: a typo must not be taken for a default. */
export function knownKeys(kind: string, section: Section, keys: readonly string[]): void {
  const unknown = Object.keys(section).find((key) => !keys.includes(key));
  if (unknown !== undefined) {
    throw new SettingError(`${kind}.${unknown} is no setting of ${kind}; there are: ${keys.join(", ")}`);
  }
}

export function textSetting(kind: string, section: Section, key: string): string | undefined {
  const value = section[key];
  if (value === undefined || value === "") return undefined;
  if (typeof value !== "string") throw wrong(kind, key, value, "a text");
  return value;
}

export function flagSetting(kind: string, section: Section, key: string, fallback: boolean): boolean {
  const value = section[key];
  if (value === undefined) return fallback;
  if (value === true || value === "true") return true;
  if (value === false || value === "false") return false;
  throw wrong(kind, key, value, "true or false");
}

export function choiceSetting<Choice extends string>(
  kind: string,
  section: Section,
  key: string,
  choices: readonly Choice[],
  fallback: Choice,
): Choice {
  const value = section[key];
  if (value === undefined) return fallback;
  const choice = choices.find((each) => each === value);
  if (choice === undefined) throw wrong(kind, key, value, choices.join(", "));
  return choice;
}

export function countSetting(
  kind: string,
  section: Section,
  key: string,
  fallback: number,
  least = 0,
): number {
  const value = section[key];
  if (value === undefined) return fallback;
  const count = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof count !== "number" || !Number.isSafeInteger(count) || count < least) {
    throw wrong(kind, key, value, `a whole number of at least ${least}`);
  }
  return count;
}

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const sizeUnits: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1000,
  kib: 1024,
  k: 1024,
  mb: 1_000_000,
  mib: 1_048_576,
  m: 1_048_576,
  gb: 1_000_000_000,
  gib: 1_073_741_824,
  g: 1_073_741_824,
};

/** `30d`, `12h`, `500ms`, in ms. Undefined where the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)$/.exec(text.trim());
  return match === null ? undefined : Number(match[1]) * durationUnits[match[2]!]!;
}

/** A duration setting in ms; undefined: not set. */
export function durationSetting(kind: string, section: Section, key: string): number | undefined {
  const value = section[key];
  if (value === undefined) return undefined;
  const ms = typeof value === "string" ? parseDuration(value) : undefined;
  if (ms === undefined || ms <= 0) throw wrong(kind, key, value, "a duration such as 30d, 12h or 90s");
  return ms;
}

/** A size setting in octets; undefined: not set. */
export function sizeSetting(kind: string, section: Section, key: string): number | undefined {
  const value = section[key];
  if (value === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(String(value).trim());
  const unit = match === null ? undefined : sizeUnits[match[2]!.toLowerCase()];
  if (match === null || unit === undefined || Number(match[1]) <= 0) {
    throw wrong(kind, key, value, "a size such as 100MiB");
  }
  return Math.floor(Number(match[1]) * unit);
}

function wrong(kind: string, key: string, value: unknown, should: string): SettingError {
  return new SettingError(`${kind}.${key} is ${JSON.stringify(value)}, and should be ${should}`);
}
