/** `--verbose` as a person likes it: colours by direction, and the time since the connection began. */
import type { Direction } from "../../src/events/events.ts";
import { VerboseLog } from "../../src/telemetry/verbose.ts";

/** `2026/03/01 12:34:56.123456 <ULID> <direction> <data>` */
const LINE = /^(\d{4})\/(\d\d)\/(\d\d) ([\d:]{8})\.(\d{6}) ([0-9A-Z]{26}) (->|<-|>\||\|>|\|<|<\||--) (.*)$/;

export class Dialogue {
  private readonly log: VerboseLog;

  constructor(colour: boolean) {
    this.log = new VerboseLog({
      style: "colour",
      destination: { write: (line) => void process.stdout.write(colour ? line : withoutColours(line)) },
    });
  }

  /** One line of warp's stderr; what is no line of a dialogue (a log record) is shown as it is. */
  take(line: string): void {
    const match = LINE.exec(line);
    if (match === null) {
      process.stdout.write(`${line}\n`);
      return;
    }
    const [, year, month, day, time, micros = "", connectionId = "", direction = "--", data = ""] = match;
    const at = Date.parse(`${year}-${month}-${day}T${time}`) + Number(micros) / 1000;
    this.log.emit({
      kind: "after_comm",
      at,
      connectionId,
      transactionId: "",
      direction: direction as Direction,
      data: Buffer.from(data.replaceAll("\\r\\n", "\r\n")),
      truncated: false,
      origin: "upstream",
      leg: 0,
      redacted: false,
      tls: false,
      code: "",
    });
  }
}

function withoutColours(line: string): string {
  return line.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, "g"), "");
}
