/** What primary and worker say to each other over their IPC channel (structured clones). */
import type { LoadedConfig } from "../../config/load.ts";
import type { SharedShape } from "../../stores/shared-state.ts";
import type { ExportedMetric } from "../../telemetry/cells.ts";

/** Descriptors of a worker: 0 to 2, the channel, the shared memory, then every listening socket of the proxy. */
export const CHANNEL_FD = 3;
export const SHARED_FD = 4;
export const FIRST_SOCKET_FD = 5;

export type ToWorker =
  | {
      readonly kind: "start";
      readonly loaded: LoadedConfig;
      readonly version: string;
      readonly worker: number;
      readonly shape: SharedShape;
      readonly pluginsAddress: string | undefined;
      /** Indexes of the listening sockets to accept from. */
      readonly sockets: readonly number[];
    }
  | { readonly kind: "reload"; readonly id: number; readonly loaded: LoadedConfig }
  | { readonly kind: "export"; readonly id: number }
  /** Answered at once, by whoever is not hung. */
  | { readonly kind: "ping" }
  /** Accept from these too (a sibling died), or no more. */
  | { readonly kind: "lend" | "return"; readonly sockets: readonly number[] }
  | { readonly kind: "drain"; readonly accept: boolean }
  | { readonly kind: "adopt_journals" };

export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "pong" }
  | { readonly kind: "failed"; readonly text: string }
  /** `problem`: why it could not be used. */
  | { readonly kind: "reloaded"; readonly id: number; readonly problem: string | undefined }
  | { readonly kind: "exported"; readonly id: number; readonly metrics: readonly ExportedMetric[] };
