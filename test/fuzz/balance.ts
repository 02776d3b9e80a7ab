/** What has to come out even at the end of a session: all that was opened is closed, once; nothing is held, no timer runs. */
import type { Router } from "../../src/egress/contract.ts";
import type { Telemetry } from "../../src/events/telemetry.ts";
import type { Simulation } from "../support/simulation.ts";

export class Balance {
  private readonly sums = new Map<string, number>();

  readonly telemetry: Partial<Telemetry> = {
    sessionOpened: () => this.add("sessions", 1),
    sessionClosed: () => this.add("sessions", -1),
    legDialled: (_reason, result) => result === "connected" && this.add("legs", 1),
    legClosed: () => this.add("legs", -1),
    log: (level, code, text, _fields, cause) => {
      if (level === "error")
        this.errors.push(`${code}: ${text}: ${(cause as Error | undefined)?.stack ?? ""}`);
    },
  };
  readonly router: Pick<Router, "legOpened" | "legClosed"> = {
    legOpened: (ip) => this.add(`legs of ${ip}`, 1),
    legClosed: (ip) => this.add(`legs of ${ip}`, -1),
  };
  private readonly errors: string[] = [];

  private add(what: string, count: number): void {
    this.sums.set(what, (this.sums.get(what) ?? 0) + count);
  }

  /** Of a session that has ended. */
  breaches(simulation: Simulation): string[] {
    const found = [...this.errors];
    for (const [what, sum] of this.sums) if (sum !== 0) found.push(`${sum} ${what} more opened than closed`);
    const { ownLegs } = simulation.session.env;
    if (ownLegs.size > 0) found.push(`${ownLegs.size} ends of legs not forgotten`);
    if (simulation.heldNow !== 0) found.push(`${simulation.heldNow} messages still held`);
    if (simulation.clock.pending > 0) found.push(`${simulation.clock.pending} timers still run`);
    if (simulation.events.at(-1)?.kind !== "after_conn")
      found.push("an event behind the connection's record");
    const ids = simulation.transactions.map(({ transactionId }) => transactionId);
    if (new Set(ids).size !== ids.length) found.push("a transaction was recorded twice");
    return found;
  }
}
