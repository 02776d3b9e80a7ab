/** From a gRPC status to what the operator is told: a cause with a bounded name, and the details in words. */
import * as grpc from "@grpc/grpc-js";

/** absent: nobody there. refused: it answered with an error. closed: it left during the call. */
export interface CallFailure {
  readonly cause: "absent" | "refused" | "deadline" | "closed" | "invalid";
  readonly detail: string;
}

/** As grpc-js gives it. An answer that its decompression cannot read ends a call with neither. */
export interface CallStatus {
  readonly code?: grpc.status | undefined;
  readonly details?: string | undefined;
}

export function callFailure(status: CallStatus, rpc: string): CallFailure {
  const detail = printable(reasonOf(status));
  const { details = "" } = status;
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
      return /^No connection established|^Name resolution failed|^Failed to connect/i.test(details)
        ? { cause: "absent", detail }
        : { cause: "closed", detail: `the connection was lost: ${detail}` };
    case undefined:
      return { cause: "invalid", detail };
    case grpc.status.CANCELLED:
      return { cause: "closed", detail: `${rpc} was cancelled: ${detail}` };
    case grpc.status.RESOURCE_EXHAUSTED:
      // In grpc-js's words, of the answer; a server that takes no message of this size says it in those of its own library.
      if (/^Received message (?:larger than max \(\d+ vs \d+\)$|that decompresses)/.test(details)) {
        return { cause: "invalid", detail };
      }
      break;
    case grpc.status.INTERNAL:
      if (/RST_STREAM|GOAWAY|ECONN/.test(details)) {
        return { cause: "closed", detail: `the connection was lost: ${detail}` };
      }
      if (/parsing|decompress/i.test(details)) return { cause: "invalid", detail };
      break;
    default:
  }
  return { cause: "refused", detail: `${rpc}: ${grpc.status[status.code] ?? status.code}: ${detail}` };
}

/** The reason alone, without what grpc-js puts around it: the same words each time that the same thing is wrong. */
export function reasonOf({ code, details }: CallStatus): string {
  if (code === undefined) return "the answer is compressed, and neither gzip nor deflate";
  return (details ?? "")
    .replace(
      /^No connection established\. Last error: (?:\w*Error(?: \[\w+\])?: )?(.*?)[. ]*Resolution note: ?$/s,
      "$1",
    )
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, "");
}

/** One line of at most 300 characters, whatever the peer sent. */
export function printable(text: string): string {
  const line = text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, " ");
  return line.length > 300 ? `${line.slice(0, 300)}…` : line;
}
