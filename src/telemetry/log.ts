/**
 * The log: pino, on stderr, one line per thing that happened. Fields have the names that dashboards and greps rely on:
 * time, level, msg, code, conn, tx, leg, client, dest, source_ip, from, to, tls, reply, class, ms, message_id, hook,
 * worker. `code` is the stable name of what happened; `msg` is for people and may change.
 */
import { type Logger, pino } from "pino";
import type { LogFields, LogLevel } from "../events/telemetry.ts";
import { escapeJson, escapeText } from "./escape.ts";

export interface LogOptions {
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";
  readonly format: "json" | "text";
  /** Takes whole lines with their line end; a `LineWriter`. */
  readonly destination: { write(line: string): void };
  /** Number of this worker, where there are several. */
  readonly worker?: number | undefined;
  /** ms since 1970; for tests. */
  readonly now?: () => number;
}

/** Everything that the program logs goes through one of these. */
export class Log {
  readonly #pino: Logger;
  readonly #stream: { write(line: string): void };
  /** What pino puts behind the time: the worker. */
  readonly #bindings: string;
  readonly #time: () => string;

  constructor(options: LogOptions) {
    const now = options.now ?? Date.now;
    const { destination } = options;
    const written = options.format === "json" ? escapeJson : readable;
    const stream = { write: (line: string) => destination.write(written(line)) };
    this.#stream = stream;
    this.#bindings = options.worker === undefined ? "" : `,"worker":${options.worker}`;
    this.#time = () => `,"time":"${isoTime(now())}"`;
    this.#pino = pino(
      {
        level: options.level,
        base: options.worker === undefined ? null : { worker: options.worker },
        timestamp: this.#time,
        formatters: { level: (label) => ({ level: label }) },
      },
      stream,
    );
  }

  /** From now on (reload). */
  setLevel(level: LogOptions["level"]): void {
    this.#pino.level = level;
  }

  /** Would a line of this level be written? */
  enabled(level: LogLevel): boolean {
    return this.#pino.isLevelEnabled(level);
  }

  /** One line. Fields that are undefined are left out. */
  write(level: LogLevel, code: string, message: string, fields?: LogFields, cause?: unknown): void {
    if (!this.#pino.isLevelEnabled(level)) return;
    const all = cause === undefined ? { code, ...fields } : { code, ...fields, ...errorFields(cause) };
    this.#pino[level](all, message);
  }

  /**
   * The same line for what comes with every message: pino's walk over twenty fields costs four times as much as V8's
   * JSON, and `fields` (`fieldsText`, parts of it used again) is put in as it is.
   */
  writeText(level: LogLevel, code: string, message: string, fields: string): void {
    if (!this.#pino.isLevelEnabled(level)) return;
    const head = `{"level":"${level}"${this.#time()}${this.#bindings},"code":"${code}"`;
    this.#stream.write(`${head}${fields},"msg":${JSON.stringify(message)}}\n`);
  }
}

/** Fields as `writeText` takes them: `,"name":"value"` each; those that are undefined are left out. */
export function fieldsText(fields: LogFields): string {
  const text = JSON.stringify(fields);
  return text === "{}" ? "" : `,${text.slice(1, -1)}`;
}

/**
 * What a log line says of an error: `error` its message, `error_code` its stable code where it has one (ECONNREFUSED),
 * and `stack` only for a defect of our own (TypeError and the like), where it says where.
 */
export function errorFields(error: unknown): LogFields {
  if (!(error instanceof Error)) return { error: escapeText(String(error)) };
  const { code } = error as { readonly code?: unknown };
  const isDefect =
    error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  return {
    error: error.message,
    error_code: typeof code === "string" || typeof code === "number" ? code : undefined,
    stack: isDefect && code === undefined ? error.stack : undefined,
  };
}

/** `2026-03-01T12:34:56.123Z INFO  listening warp listens to 127.0.0.1:10025 worker=1` */
function readable(line: string): string {
  const { time, level, msg, code, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${readableValue(value)}`);
  const head = `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${String(code)}`;
  return `${[head, escapeText(String(msg ?? "")), ...pairs].join(" ")}\n`;
}

function readableValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[^\s"=]+$/.test(text) ? escapeText(text) : escapeText(JSON.stringify(text));
}

let cachedSecond = Number.NaN;
let cachedText = "";

/** As Date's toISOString; many lines have a second in common. */
function isoTime(now: number): string {
  const second = Math.floor(now / 1000);
  if (second !== cachedSecond) {
    cachedText = new Date(second * 1000).toISOString().slice(0, -4);
    cachedSecond = second;
  }
  return `${cachedText}${String(Math.floor(now - second * 1000)).padStart(3, "0")}Z`;
}
