/**
 * Asks a hook for the source IP of one transaction (RPC SelectRoute): at most 200 ms, and whatever goes wrong means that
 * the rules decide. Filters' reject rules hold for `refuse` too.
 */
import type { AddressFacts, SessionFacts } from "../events/events.ts";
import type { VerdictReply } from "../filter/contract.ts";

export const SELECT_ROUTE_MS = 200;

export interface RouteQuestion {
  readonly transactionId: string;
  readonly session: SessionFacts;
  readonly mailFrom: AddressFacts;
  /** The first one, where a rule needs it. */
  readonly recipient: AddressFacts | undefined;
  /** The identity that reputation counts for. */
  readonly sender: string;
  readonly score: number;
  readonly tier: string;
  readonly pools: readonly string[];
}
/** The hook's wish; the caller checks that pool or IP exist. */
export type RouteAnswer =
  | { readonly kind: "pool"; readonly hook: string; readonly pool: string }
  | { readonly kind: "source_ip"; readonly hook: string; readonly sourceIp: string }
  | { readonly kind: "refuse"; readonly hook: string; readonly reply: VerdictReply };

export interface SelectRoute {
  /** Some hook said in Describe that it selects routes. May change while the program runs. */
  readonly available: boolean;
  /** Never rejects. Undefined: the rules decide. */
  ask(question: RouteQuestion): Promise<RouteAnswer | undefined>;
}
