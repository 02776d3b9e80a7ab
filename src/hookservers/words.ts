/**
 * The protocol's enums, times and durations as the words and numbers that are stored: the original's two-character
 * directions, lower-case outcomes and origins, milliseconds.
 */
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { Direction, type Event, Origin, Outcome, type Source } from "../gen/warp/hook/v1/hook_pb.ts";

const directions: Readonly<Record<number, string>> = {
  [Direction.CLIENT_TO_PROXY]: ">|",
  [Direction.PROXY_TO_SERVER]: "|>",
  [Direction.SERVER_TO_PROXY]: "|<",
  [Direction.PROXY_TO_CLIENT]: "<|",
  [Direction.CLIENT_TO_SERVER]: "->",
  [Direction.SERVER_TO_CLIENT]: "<-",
  [Direction.PROXY]: "--",
};
const origins: Readonly<Record<number, string>> = {
  [Origin.UPSTREAM]: "upstream",
  [Origin.WARP]: "warp",
  [Origin.HOOK]: "hook",
};
const outcomes: Readonly<Record<number, string>> = {
  [Outcome.ACCEPTED]: "accepted",
  [Outcome.DEFERRED]: "deferred",
  [Outcome.REFUSED]: "refused",
  [Outcome.FILTERED]: "filtered",
  [Outcome.DISCARDED]: "discarded",
  [Outcome.ABANDONED]: "abandoned",
  [Outcome.UNKNOWN]: "unknown",
};

/** `->`, `<-`, … ; `--` for one that this version does not know. */
export function directionWord(direction: Direction): string {
  return directions[direction] ?? "--";
}
/** upstream, warp, hook; empty where nobody is named. */
export function originWord(origin: Origin): string {
  return origins[origin] ?? "";
}
export function outcomeWord(outcome: Outcome): string {
  return outcomes[outcome] ?? "unknown";
}

/** ms, with fractions; undefined: the stage was not reached. */
export function milliseconds(duration: Duration | undefined): number | undefined {
  if (duration === undefined) return undefined;
  return Number(duration.seconds) * 1000 + Math.round(duration.nanos / 1000) / 1000;
}

/** A moment in µs since 1970; `nowMs` where the event has none. */
export function microseconds(time: Timestamp | undefined, nowMs: number): number {
  if (time === undefined) return Math.round(nowMs) * 1000;
  return Number(time.seconds) * 1_000_000 + Math.floor(time.nanos / 1000);
}

/** `2006-01-02T15:04:05.999999`, in UTC. */
export function sqlTime(micros: number): string {
  return timeText(micros, "");
}

/** The same in RFC 3339, with a `Z` behind it. */
export function utcTime(micros: number): string {
  return timeText(micros, "Z");
}

/** RFC 3339 in whole seconds, UTC: the original's form in the file. */
export function secondsTime(micros: number): string {
  const second = Math.floor(micros / 1_000_000);
  if (second !== lastSecond) {
    lastSecondText = [new Date(second * 1000).toISOString().slice(0, 19), "Z"].join("");
    lastSecond = second;
  }
  return lastSecondText;
}

/** Joined, not added: JSON.stringify takes three times as long for an object with a string that V8 has in pieces. */
function timeText(micros: number, end: string): string {
  const ms = Math.floor(micros / 1000);
  if (ms !== lastMs) {
    lastMsText = new Date(ms).toISOString().slice(0, 23);
    lastMs = ms;
  }
  return [lastMsText, String(micros - ms * 1000).padStart(3, "0"), end].join("");
}

/** Events come in the order of time: many share their second, and their millisecond, with the one before. */
let lastSecond = Number.NaN;
let lastSecondText = "";
let lastMs = Number.NaN;
let lastMsText = "";

/** Who sent a stream: sequences are counted within one. */
export function sourceKey(source: Source | undefined): string {
  return source === undefined ? "" : `${source.proxy} ${source.worker} ${source.epoch}`;
}

const ulid = /^[0-9A-HJKMNP-TV-Z]{26}$/i;
/** True where `epoch` is the ULID that the protocol asks for, so that sequences within it can be trusted. */
export function isEpoch(epoch: string): boolean {
  return ulid.test(epoch);
}

/** An event may come from a client that gives no kind of its own that we know: nothing to store. */
export function hasKind(event: Event): boolean {
  return event.kind.case !== undefined;
}
