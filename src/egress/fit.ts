/**
 * Does the leg that is there already fit a decision? If so nothing is dialled. A leg fits when it left from the first
 * choice under the same EHLO name, or when both it and the decision mean "the client's own address".
 */
import type { Candidate, Decision } from "./contract.ts";

/** How a leg came to its address: the candidate that was bound, or the rule of the client's own address. */
export type LegOrigin = { readonly kind: "ip"; readonly candidate: Candidate } | { readonly kind: "client" };

/** True: keep the leg. "reply" and "none" need no leg at all, so any leg fits. */
export function legFits(decision: Decision, leg: LegOrigin): boolean {
  switch (decision.kind) {
    case "reply":
    case "none":
      return true;
    case "client":
      return leg.kind === "client";
    case "ip": {
      const first = decision.candidates[0];
      if (leg.kind !== "ip" || first === undefined) return false;
      return leg.candidate.ip === first.ip && leg.candidate.ehlo === first.ehlo;
    }
  }
}
