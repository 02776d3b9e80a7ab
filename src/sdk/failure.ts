/** Errors as gRPC statuses, the one way in which a hook server says that a call failed. */
import type * as grpc from "@grpc/grpc-js";

/** An error that grpc-js turns into this status; `details` reaches the proxy's log, never the mail's sender. */
export class StatusError extends Error {
  readonly code: grpc.status;
  readonly details: string;

  constructor(code: grpc.status, details: string) {
    super(details);
    this.code = code;
    this.details = details.slice(0, 1000);
  }
}

export function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error(String(cause));
}
