/**
 * Who authenticates (RFC 4954): the user of PLAIN (RFC 4616) and LOGIN, read in passing. Everything else of an exchange is
 * the client's secret, and nothing of it is kept.
 */
import type { Command } from "../smtp/command.ts";

export class AuthExchange {
  /** Empty where the mechanism doesn't tell, or not yet. */
  user = "";
  private readonly mechanism: string;

  constructor(command: Command) {
    const [mechanism, initial] = command.argument.toString("latin1").split(/[ \t]+/);
    this.mechanism = (mechanism ?? "").toUpperCase();
    if (initial !== undefined && initial !== "" && initial !== "=") this.read(initial);
  }

  /** A line of the client, after a 334. */
  answered(line: Buffer): void {
    if (this.user === "") this.read(line.toString("latin1"));
  }

  private read(response: string): void {
    const decoded = Buffer.from(response, "base64").toString("utf8");
    if (this.mechanism === "PLAIN") this.user = clean(decoded.split("\0")[1] ?? "");
    else if (this.mechanism === "LOGIN") this.user = clean(decoded);
  }
}

function clean(user: string): string {
  return user.replace(/[\0-\x1f\x7f]/g, "\uFFFD").slice(0, 255);
}
