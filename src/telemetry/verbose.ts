/**
 * `--verbose`: every line of every dialogue with its direction, in the original's form, for the parsers that know it:
 * `2026/03/01 12:34:56.123456 <ULID> <direction> <data>`. Local time; one record per line; CR LF inside the data shown
 * as `\r\n`, other controls escaped visibly. At a connection's end a note sums up its first transaction.
 */
import type { AfterComm, AfterConn, Direction, EventKind, EventSink, WarpEvent } from "../events/events.ts";
import { escapeOctets, escapeText } from "./escape.ts";

export interface VerboseOptions {
  /** Takes whole lines with their line end; a `LineWriter`. */
  readonly destination: { write(line: string): void };
  /** Colours by direction, and the time since the connection began instead of the date: for the demo. */
  readonly style?: "plain" | "colour";
}

/** An EventSink that prints. */
export class VerboseLog implements EventSink {
  readonly #destination: { write(line: string): void };
  readonly #render: (at: number, connectionId: string, direction: Direction, data: string) => string;
  /** Beginning of each open connection (ms), in colour only; forgotten with its AfterConn. */
  readonly #began = new Map<string, number>();

  constructor(options: VerboseOptions) {
    this.#destination = options.destination;
    this.#render = options.style === "colour" ? this.#coloured.bind(this) : plainLine;
  }

  wants(kind: EventKind): boolean {
    return kind === "after_comm" || kind === "after_conn";
  }

  emit(event: WarpEvent): void {
    if (event.kind === "after_comm") this.#comm(event);
    else if (event.kind === "after_conn") this.#conn(event);
  }

  #comm(event: AfterComm): void {
    const data = event.truncated ? `${escapeOctets(event.data)}…` : escapeOctets(event.data);
    this.#destination.write(this.#render(event.at, event.connectionId, event.direction, data));
  }

  #conn(event: AfterConn): void {
    this.#destination.write(this.#render(event.at, event.connectionId, "--", summary(event)));
    this.#began.delete(event.connectionId);
  }

  #coloured(at: number, connectionId: string, direction: Direction, data: string): string {
    let began = this.#began.get(connectionId);
    if (began === undefined) {
      // Bounded whatever happens: a connection whose end is never told would stay for ever.
      if (this.#began.size >= 10_000) this.#began.clear();
      began = at;
      this.#began.set(connectionId, at);
    }
    const elapsed = `+${(at - began).toFixed(1)} ms`.padStart(12);
    const text = data.replaceAll("\\r\\n", `${DIM}\\r\\n${RESET}${COLOURS[direction]}`);
    return `${DIM}${connectionId.slice(-6)} ${elapsed}${RESET} ${COLOURS[direction]}${direction} ${text}${RESET}\n`;
  }
}

const RESET = "\x1b[0m";
const DIM = "\x1b[2m";
const COLOURS: Readonly<Record<Direction, string>> = {
  "->": "\x1b[36m",
  "<-": "\x1b[32m",
  ">|": "\x1b[33m",
  "|>": "\x1b[33m",
  "|<": "\x1b[35m",
  "<|": "\x1b[35m",
  "--": "\x1b[90m",
};

function plainLine(at: number, connectionId: string, direction: Direction, data: string): string {
  return `${timeText(at)} ${connectionId} ${direction} ${data}\n`;
}

/** `from:<a@b> to:<c@d> elapse:20 msec`; `<>` for the null sender, `<unknown>` where none was seen. */
function summary(event: AfterConn): string {
  const from = event.mailFrom === undefined ? "unknown" : escapeText(event.mailFrom.address);
  const [recipient] = event.mailTo;
  const to = recipient === undefined ? "unknown" : escapeText(recipient.address);
  return `from:<${from}> to:<${to}> elapse:${Math.round(event.elapseMs)} msec`;
}

let cachedSecond = Number.NaN;
let cachedText = "";

/** Local time with microseconds: `2026/03/01 12:34:56.123456`. */
export function timeText(at: number): string {
  const second = Math.floor(at / 1000);
  if (second !== cachedSecond) {
    const date = new Date(second * 1000);
    const two = (value: number): string => String(value).padStart(2, "0");
    const day = `${date.getFullYear()}/${two(date.getMonth() + 1)}/${two(date.getDate())}`;
    cachedText = `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
    cachedSecond = second;
  }
  const micros = Math.floor((at - second * 1000) * 1000);
  return `${cachedText}.${String(micros).padStart(6, "0")}`;
}
