/**
 * An error that nobody expected, in what a connection or a timer sets off, ends the session that it belongs to, not the
 * process with all the others: one peer's octets must not be everybody's end. Both sides are reset then, so a message
 * under way has no end that anybody could take for one.
 */
import type { TransportHandler } from "../net/transport.ts";

export function guarded(handler: TransportHandler, defect: (error: unknown) => void): TransportHandler {
  return {
    data(chunk) {
      try {
        handler.data(chunk);
      } catch (error) {
        defect(error);
      }
    },
    drained: guardedCall(() => handler.drained(), defect),
    ended: guardedCall(() => handler.ended(), defect),
    closed(cause) {
      try {
        handler.closed(cause);
      } catch (error) {
        defect(error);
      }
    },
  };
}

export function guardedCall(call: () => void, defect: (error: unknown) => void): () => void {
  return () => {
    try {
      call();
    } catch (error) {
      defect(error);
    }
  };
}
