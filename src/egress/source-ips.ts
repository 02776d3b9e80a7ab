/**
 * Which IPs of a pool can be used now for a destination: of its family, here on this host, not cooling for the provider,
 * below its daily and its connection cap. Those that can are ordered by rendezvous hash of the key.
 */
import { dayOf, type IpLedger } from "../deliverability/ledger.ts";
import { pairKey } from "../deliverability/pair.ts";
import { isCooling, type ThrottleBook } from "../deliverability/throttle.ts";
import type { UnusableCause } from "./contract.ts";
import { rendezvous } from "./rendezvous.ts";

export interface PoolIp {
  readonly ip: string;
  readonly ehlo?: string | undefined;
  readonly weight?: number | undefined;
  /** Messages per UTC day and provider. */
  readonly dailyCap?: number | undefined;
}
export interface Pool {
  readonly ips: readonly PoolIp[];
  /** Open connections at a time from each IP to one provider, of the whole proxy. */
  readonly maxConnections?: number | undefined;
}

/** How long an IP that bind didn't find here is left alone. */
export const RECHECK_MS = 30_000;

export interface Choice {
  readonly usable: readonly PoolIp[];
  readonly unusable: readonly { readonly ip: string; readonly cause: UnusableCause | "family" }[];
}

/** What an IP is wanted for. */
export interface Use {
  readonly ipv6: boolean;
  readonly provider: string;
  /** This process's part of the connection caps (1 / workers). */
  readonly share: number;
  readonly now: number;
  /** IPs to which the session has legs already: they are no new connections. */
  readonly ownLegs: readonly string[];
}

export class SourceIps {
  readonly #throttle: ThrottleBook;
  readonly #ledger: IpLedger;
  readonly #notLocalUntil = new Map<string, number>();
  readonly #legs = new Map<string, number>();

  constructor(throttle: ThrottleBook, ledger: IpLedger) {
    this.#throttle = throttle;
    this.#ledger = ledger;
  }

  /** The pool's IPs for one destination, in the order of the key's hash. */
  choose(pool: Pool, key: string, use: Use): Choice {
    const usable: { readonly listed: PoolIp; readonly name: string; readonly weight: number }[] = [];
    const unusable: { ip: string; cause: UnusableCause | "family" }[] = [];
    for (const candidate of pool.ips) {
      const cause = this.cause(candidate, pool, use);
      if (cause !== undefined) {
        unusable.push({ ip: candidate.ip, cause });
        continue;
      }
      const state = this.#throttle.state(candidate.ip, use.provider, use.now);
      // A slowed IP keeps half of its share: it is watched, not left.
      const weight = (candidate.weight ?? 1) * (state === "slowed" ? 0.5 : 1);
      usable.push({ listed: candidate, name: candidate.ip, weight });
    }
    return { usable: rendezvous(key, usable).map(({ listed }) => listed), unusable };
  }

  /** Why an IP can't be used now; undefined: it can. */
  cause(candidate: PoolIp, pool: Pool, use: Use): UnusableCause | "family" | undefined {
    const { ipv6, provider, share, now, ownLegs } = use;
    const { ip, dailyCap } = candidate;
    if (ip.includes(":") !== ipv6) return "family";
    if (!this.isLocal(ip, now)) return "not_local";
    if (isCooling(this.#throttle.state(ip, provider, now))) return "cooling";
    if (dailyCap !== undefined) {
      const day = dayOf(now);
      this.#ledger.refreshMessages(ip, provider, day);
      if (this.#ledger.messages(ip, provider, day) >= dailyCap) return "cap";
    }
    if (pool.maxConnections !== undefined && !ownLegs.includes(ip)) {
      const own = Math.max(1, Math.floor(pool.maxConnections * share));
      if (this.connections(ip, provider) >= own) return "cap";
    }
    return undefined;
  }

  isLocal(ip: string, now: number): boolean {
    const until = this.#notLocalUntil.get(ip);
    if (until === undefined) return true;
    if (now < until) return false;
    this.#notLocalUntil.delete(ip);
    return true;
  }

  notLocal(ip: string, now: number): void {
    this.#notLocalUntil.set(ip, now + RECHECK_MS);
  }

  opened(ip: string, provider: string, legs = 1): void {
    this.#legs.set(pairKey(ip, provider), this.connections(ip, provider) + legs);
  }

  closed(ip: string, provider: string, legs = 1): void {
    const left = this.connections(ip, provider) - legs;
    if (left > 0) this.#legs.set(pairKey(ip, provider), left);
    else this.#legs.delete(pairKey(ip, provider));
  }

  connections(ip: string, provider: string): number {
    return this.#legs.get(pairKey(ip, provider)) ?? 0;
  }
}
