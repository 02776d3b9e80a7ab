/** From a gRPC status to what the operator is told: a cause with a bounded name, and the details in words. */
import * as grpc from "@grpc/grpc-js";

/** absent: nobody there. refused: it answered with an error. closed: it left during the call. */
export interface CallFailure {
  readonly cause: "absent" | "refused" | "deadline" | "closed" | "invalid";
  readonly detail: string;
}

export function callFailure(status: Pick<grpc.StatusObject, "code" | "details">, rpc: string): CallFailure {
  const detail = printable(status.details);
  switch (status.code) {
    case grpc.status.OK:
      return { cause: "closed", detail: `${rpc} ended without an answer` };
    case grpc.status.DEADLINE_EXCEEDED:
      return { cause: "deadline", detail: `${rpc} was not answered in time` };
    case grpc.status.UNIMPLEMENTED:
      return {
        cause: "refused",
        detail:
          rpc === "Describe"
            ? "no warp hook at this address (Describe is UNIMPLEMENTED)"
            : `the server does not implement ${rpc} (UNIMPLEMENTED)`,
      };
    case grpc.status.UNAVAILABLE:
      return /^No connection established|^Name resolution failed|^Failed to connect/i.test(status.details)
        ? { cause: "absent", detail }
        : { cause: "closed", detail: `the connection was lost: ${detail}` };
    case grpc.status.CANCELLED:
      return { cause: "closed", detail: `${rpc} was cancelled: ${detail}` };
    case grpc.status.RESOURCE_EXHAUSTED:
      // In grpc-js's words, of the answer; a server that takes no message of this size says it in those of its own library.
      if (/^Received message (?:larger than max \(\d+ vs \d+\)$|that decompresses)/.test(status.details)) {
        return { cause: "invalid", detail };
      }
      break;
    case grpc.status.INTERNAL:
      if (/RST_STREAM|GOAWAY|ECONN/.test(status.details)) {
        return { cause: "closed", detail: `the connection was lost: ${detail}` };
      }
      if (/parsing|decompress/i.test(status.details)) return { cause: "invalid", detail };
      break;
    default:
  }
  return { cause: "refused", detail: `${rpc}: ${grpc.status[status.code] ?? status.code}: ${detail}` };
}

/** One line of at most 300 characters, whatever the peer sent. */
export function printable(text: string): string {
  const line = text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, " ");
  return line.length > 300 ? `${line.slice(0, 300)}…` : line;
}
