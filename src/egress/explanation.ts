/** What `warp egress explain` is told: the rules that were asked, the decision, and every IP of the pool with what hinders it. */
import type { Standing } from "../reputation/store.ts";
import type { Decision } from "./contract.ts";
import type { RuleFacts } from "./rules.ts";

export interface ExplainFacts extends Omit<RuleFacts, "provider"> {
  readonly identity: string;
  readonly standing: Standing | undefined;
}
export interface ExplainedRule {
  readonly name: string;
  readonly matches: boolean;
  readonly conditions: readonly { readonly key: string; readonly holds: boolean }[];
}
export interface Explanation {
  readonly provider: string;
  /** Up to the one that decides. */
  readonly rules: readonly ExplainedRule[];
  readonly decision: Decision;
  /** Of the pool that was chosen, in the order of the file. */
  readonly ips: readonly {
    readonly ip: string;
    readonly ehlo: string | undefined;
    readonly weight: number;
    /** Undefined: it can be used. */
    readonly cause: string | undefined;
    readonly state: string;
    readonly until: number;
    readonly why: string;
  }[];
}
