/**
 * An error that nobody expected, in what a connection or a timer sets off, ends the session that it belongs to, not the
 * process with all the others: one peer's octets must not be everybody's end. Both sides are reset then, so a message
 * under way has no end that anybody could take for one.
 */
import type { TransportHandler } from "../net/transport.ts";

export function guarded(handler: TransportHandler, defect: (error: unknown) => void): TransportHandler {
  return {
    data: guardedCall((chunk: Buffer) => handler.data(chunk), defect),
    drained: guardedCall(() => handler.drained(), defect),
    ended: guardedCall(() => handler.ended(), defect),
    closed: guardedCall((cause: Error | undefined) => handler.closed(cause), defect),
  };
}

export function guardedCall<Argument = void>(
  call: (argument: Argument) => void,
  defect: (error: unknown) => void,
): (argument: Argument) => void {
  return (argument) => {
    try {
      call(argument);
    } catch (error) {
      defect(error);
    }
  };
}
