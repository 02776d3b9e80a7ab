/** A refusal that is not of the table: a rule, SelectRoute or a filter chose it. */
import type { RouteReply } from "../egress/contract.ts";
import type { ReplyFacts } from "../events/events.ts";
import { formatReply } from "../smtp/reply.ts";

export interface ChosenReply {
  /** As the client gets it. */
  readonly wire: Buffer;
  /** As events have it. */
  readonly facts: ReplyFacts;
}

export function chosenReply(reply: RouteReply): ChosenReply {
  const { code, enhancedCode, origin, hook } = reply;
  const wire = formatReply(code, enhancedCode, reply.text);
  const text = wire.subarray(0, wire.length - 2);
  return {
    wire,
    facts: { code, enhancedCode, text, origin, replyClass: "", latencyMs: undefined, hook },
  };
}
