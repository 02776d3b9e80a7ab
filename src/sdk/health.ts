/** The standard health service (grpc.health.v1): SERVING while the server runs, NOT_SERVING once it stops. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  Health,
  type HealthCheckRequest,
  type HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/grpc/health/v1/health_pb.ts";
import { StatusError } from "./failure.ts";
import { addService } from "./grpc.ts";

type Watcher = grpc.ServerWritableStream<
  HealthCheckRequest,
  MessageInitShape<typeof HealthCheckResponseSchema>
>;

/** Adds the service to a server, for the empty name (the whole server) and for `serviceName`. Aborting `stopping` ends it. */
export function addHealth(server: grpc.Server, serviceName: string, stopping: AbortSignal): void {
  const known = new Set(["", serviceName]);
  const watchers = new Set<Watcher>();
  const current = (): Status => (stopping.aborted ? Status.NOT_SERVING : Status.SERVING);
  stopping.addEventListener("abort", () => {
    for (const watcher of watchers) {
      watcher.write({ status: Status.NOT_SERVING });
      watcher.end();
    }
  });
  addService(server, Health, {
    check: (call, done) => {
      if (known.has(call.request.service)) done(null, { status: current() });
      else done(new StatusError(grpc.status.NOT_FOUND, `no service "${call.request.service}" here`));
    },
    watch: (call) => {
      call.write({ status: known.has(call.request.service) ? current() : Status.SERVICE_UNKNOWN });
      if (stopping.aborted) {
        call.end();
        return;
      }
      watchers.add(call);
      call.once("cancelled", () => watchers.delete(call));
    },
  });
}
