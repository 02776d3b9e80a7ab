/**
 * What this part needs of the configuration and of the program around it. `Config` (src/config) fits `HooksSettings` as it
 * is; times in ms, sizes in octets.
 */

import type { SelectRoute } from "../egress/contract.ts";
import type { EventKind, EventSink, Notice } from "../events/events.ts";
import type { Telemetry } from "../events/telemetry.ts";
import type { OnFailure } from "../filter/chain.ts";
import type { FilterChain, HoldStore } from "../filter/contract.ts";
import type { When } from "../filter/when.ts";
import type { HookAddress } from "../sdk/address.ts";
import type { OctetPool } from "../stores/budget.ts";

export type HookRole = "filter" | "observe";

export interface HookSettings {
  readonly name: string;
  readonly address: HookAddress;
  /** Undefined: what Describe says, and a filter until it has said it. */
  readonly roles: readonly HookRole[] | undefined;
  readonly deadlineMs: number;
  readonly onFailure: OnFailure;
  readonly enforce: boolean;
  readonly when: When;
  /** Undefined: what Describe names, and notices. */
  readonly events: readonly EventKind[] | undefined;
  readonly maxMessageOctets: number | undefined;
  readonly headerOnly: boolean | undefined;
  readonly tls: HookTls | undefined;
  readonly insecure: boolean;
}
/** PEM files. */
export interface HookTls {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** Name that the server's certificate has to carry; undefined: the host of the address. */
  readonly serverName: string | undefined;
}

export interface HooksSettings {
  /** Name of this proxy in `Source`. */
  readonly proxy: string;
  readonly workers: number;
  readonly hooks: readonly HookSettings[];
  readonly filter: {
    readonly holdMemoryOctets: number;
    readonly holdTotalOctets: number;
    readonly spool: string | undefined;
    readonly chainBudgetMs: number;
    readonly discard: boolean;
  };
  readonly journal:
    | { readonly dir: string; readonly maxSizeOctets: number; readonly fsyncMs: number }
    | undefined;
  /** The largest message warp takes: bounds what a hook may answer. */
  readonly limits: { readonly messageOctets: number };
}

export interface HooksDependencies {
  readonly telemetry: Telemetry;
  readonly version: string;
  /** Number of this process among the workers; 0 where there is one. */
  readonly worker: number;
  /** `filter.hold_total` of all workers together; absent: of this process. */
  readonly holdPool?: OctetPool | undefined;
  /** Notices of this part (a hook came or went), for the other sinks; observers get them anyway. */
  readonly notice?: (notice: Notice) => void;
  /** Of this host's own addresses; for `when: { client: [self] }`. */
  readonly isOwnAddress?: (ip: string) => boolean;
}

export interface Hooks {
  readonly chain: FilterChain;
  readonly hold: HoldStore;
  /** Emit every event to each of these. Empty where no hook can be an observer. */
  readonly sinks: readonly EventSink[];
  /** Asks the hooks that choose source IPs; undefined while none says that it does. */
  readonly selectRoute: SelectRoute;
  /**
   * Connects, opens the journal and takes over what others left there. Throws where the configuration cannot work (a
   * certificate that cannot be read, a journal or spool that cannot be written); a hook that is absent is only reported.
   */
  start(): Promise<void>;
  /** Takes over, in the journal, what processes have left that ended meanwhile. */
  adopt(): void;
  /** Waits for observers to acknowledge, until none does for `flushMs` (default 5 s), then closes everything. */
  stop(flushMs?: number): Promise<void>;
}
