/** Log and metrics. */
import { z } from "zod";
import { localAddress, words, yesNo } from "../values.ts";

export const log = z.strictObject({
  level: words("trace", "debug", "info", "warn", "error", "fatal", "silent")
    .prefault("info")
    .describe("Lowest level that is written."),
  format: words("json", "text")
    .prefault("json")
    .describe("`json`: one object per line. `text`: for reading."),
  bodies: yesNo
    .prefault(false)
    .describe(
      "Let the content of messages be in events and in `verbose` (64 KiB of each), not only their header section.",
    ),
  verbose: yesNo
    .prefault(false)
    .describe("Print each line of each dialogue with its direction, as the original's `-verbose`."),
});

export const metrics = z.strictObject({
  listen: localAddress.describe(
    "Where `/metrics`, `/healthz` and `/readyz` are served: an address of this host, or `localhost` (127.0.0.1). Nothing there asks for a password.",
  ),
});
