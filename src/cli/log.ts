/**
 * `warp log`: reads what the sqlite sink stored, while it is being written too. Lists transactions, one line per recipient's
 * final answer; `warp log show CONNECTION_ID` shows one connection's dialogue. A database that only the original has
 * written has connections and dialogues, which are shown as far as they go.
 */
import { existsSync } from "node:fs";
import { readDuration, Unreadable } from "../config/scalars.ts";
import { pause } from "../hookservers/pause.ts";
import type { SettingsOf } from "./commands.ts";
import { LogDatabase, type LogEntry, type LogFilter } from "./log/database.ts";
import { dialogueText, entryText, json } from "./log/text.ts";
import { type CommandSpec, type ParsedOptions, runCommand, UsageError } from "./options.ts";

export const spec: CommandSpec = {
  name: "log",
  summary: "Read what the sqlite sink stored",
  description: [
    "Without operands: the last recipients' answers, oldest first. With show: one connection, line by line, with arrows " +
      "(-> client to destination, <- back, and those that end in | begin or end at warp) and ms since it began.",
    "FROM and TO are addresses, or domains written as @example.com. SINCE and UNTIL are times as 2026-03-01T12:00 (UTC), " +
      "or durations back from now, as 2h.",
  ],
  operands: [
    { name: "show", help: "Show one connection", optional: true },
    { name: "CONNECTION_ID", help: "Which one; its first characters suffice", optional: true },
  ],
  options: [
    {
      name: "dsn",
      value: "PATH",
      help: "The database; default: the configuration's, SQLITE_DSN, DSN",
      completes: "file",
    },
    { name: "config", value: "FILE", help: "The configuration", completes: "file" },
    {
      name: "from",
      value: "ADDRESS",
      help: "Only of this sender (<> for the null sender), or of its domain",
    },
    { name: "to", value: "ADDRESS", help: "Only to this recipient, or its domain" },
    { name: "code", value: "CODE", help: "Only with this reply code; 4 and 5 for all that begin so" },
    { name: "class", value: "CLASS", help: "Only with this class of answer, as in warp classify" },
    { name: "since", value: "TIME", help: "Not before" },
    { name: "until", value: "TIME", help: "Before" },
    { name: "limit", value: "N", help: "At most so many, the last ones", default: "50" },
    { name: "follow", help: "Go on with what comes, until interrupted" },
    { name: "json", help: "One JSON object per line" },
  ],
  examples: [
    ["warp log --to @example.com --code 5 --since 1d", "What example.com refused today."],
    ["warp log --follow", "What happens now."],
    ["warp log show 01JDGV8", "A connection's dialogue."],
  ],
};

const followMs = 250;

export async function logCommand(argv: readonly string[], settingsOf: SettingsOf): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const [word, connectionId] = options.operands;
    if (word !== undefined && word !== "show") throw new UsageError(`"${word}" should be show`);
    if (word === "show" && connectionId === undefined) throw new UsageError("show needs a CONNECTION_ID");
    const path = databasePath(options, settingsOf);
    const database = open(path);
    if (database === undefined) return 1;
    try {
      if (connectionId !== undefined) return show(database, connectionId, options);
      return await list(database, options);
    } finally {
      database.close();
    }
  });
}

function databasePath(options: ParsedOptions, settingsOf: SettingsOf): string {
  const dsn = options.value("dsn") ?? settingsOf(options).sqlite.dsn ?? "";
  if (dsn === "") throw new UsageError("no database is named: --dsn PATH, or set `SQLITE_DSN` or `DSN`");
  return dsn;
}

function open(path: string): LogDatabase | undefined {
  if (!path.startsWith("file:") && !existsSync(path)) {
    process.stderr.write(`warp log: ${path} is not there\n`);
    return undefined;
  }
  try {
    return new LogDatabase(path);
  } catch (error) {
    process.stderr.write(`warp log: ${path} cannot be read: ${(error as Error).message}\n`);
    return undefined;
  }
}

async function list(database: LogDatabase, options: ParsedOptions): Promise<number> {
  const now = Date.now();
  const filter: LogFilter = {
    from: options.value("from"),
    to: options.value("to"),
    code: readCode(options.value("code")),
    class: options.value("class"),
    since: readTime("since", options.value("since"), now),
    until: readTime("until", options.value("until"), now),
  };
  const write = (entry: LogEntry) => {
    process.stdout.write(options.flag("json") ? json(entry) : entryText(entry));
  };
  // Taken before the list, so that what comes between is not missed.
  let position = database.position();
  for (const entry of database.last(filter, options.number("limit", 1, 1_000_000) ?? 50, position))
    write(entry);
  if (!options.flag("follow")) return 0;
  const interrupted = new AbortController();
  const stop = () => interrupted.abort();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  while (!interrupted.signal.aborted) {
    const here = database.position();
    for (const entry of database.between(filter, position, here)) write(entry);
    position = here;
    await pause(followMs, interrupted.signal);
  }
  return 0;
}

function show(database: LogDatabase, prefix: string, options: ParsedOptions): number {
  const ids = database.connectionsLike(prefix);
  if (ids.length !== 1) {
    const what = ids.length === 0 ? "no connection begins with" : "several connections begin with";
    process.stderr.write(`warp log: ${what} ${prefix}\n${ids.map((id) => `  ${id}\n`).join("")}`);
    return 1;
  }
  const dialogue = database.dialogue(ids[0]!);
  process.stdout.write(options.flag("json") ? json(dialogue) : dialogueText(dialogue));
  return 0;
}

function readCode(text: string | undefined): string | undefined {
  if (text !== undefined && !/^[2-5]([0-9][0-9])?$/.test(text)) {
    throw new UsageError(`--code was "${text}", should be a reply code such as 550, or 4 or 5`);
  }
  return text;
}

/** A time, or a duration back from now, in the form of the column. */
function readTime(name: string, text: string | undefined, now: number): string | undefined {
  if (text === undefined) return undefined;
  const at = moment(text, now);
  if (Number.isNaN(at))
    throw new UsageError(`--${name} was "${text}", should be a time such as 2026-03-01T12:00, or 2h`);
  return new Date(at).toISOString().slice(0, -1);
}

/** ms since 1970; NaN where it is neither a time nor a duration. A time without a zone is UTC, as the column is. */
function moment(text: string, now: number): number {
  try {
    return now - readDuration(text);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
  }
  const [, date, time = "", zone = ""] =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:?\d\d)?)?$/.exec(text) ?? [];
  // Date.parse takes the 30th of February for a day in March, and much else for some year.
  const midnight = date === undefined ? Number.NaN : Date.parse(`${date}T00:00Z`);
  if (Number.isNaN(midnight) || new Date(midnight).toISOString().slice(0, 10) !== date) return Number.NaN;
  return time === "" ? midnight : Date.parse(`${date}T${time}${zone || "Z"}`);
}
