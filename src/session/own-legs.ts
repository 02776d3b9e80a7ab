/**
 * The connections that warp made itself, each by both of its ends: a captured connection that is one of them is a loop. One
 * end does not tell: a client may well have the port that a leg to somebody else has, since the kernel gives a port again
 * where the other end differs.
 */
import type { Endpoint } from "../events/events.ts";

export interface OwnLeg {
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

export class OwnLegs {
  /** By local port, which few have in common. */
  private readonly byPort = new Map<number, readonly OwnLeg[]>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  add(local: Endpoint, remote: Endpoint): OwnLeg {
    const leg = { local, remote };
    const others = this.byPort.get(local.port);
    this.byPort.set(local.port, others === undefined ? [leg] : [...others, leg]);
    this.count++;
    return leg;
  }

  delete(leg: OwnLeg): void {
    const all = this.byPort.get(leg.local.port);
    if (all === undefined || !all.includes(leg)) return;
    this.count--;
    if (all.length === 1) this.byPort.delete(leg.local.port);
    else
      this.byPort.set(
        leg.local.port,
        all.filter((other) => other !== leg),
      );
  }

  /** Is what arrived from `client`, bound for `destination`, one of them? */
  has(client: Endpoint, destination: Endpoint): boolean {
    const legs = this.byPort.get(client.port);
    if (legs === undefined) return false;
    return legs.some(({ local, remote }) => isSame(local, client) && isSame(remote, destination));
  }
}

function isSame(one: Endpoint, other: Endpoint): boolean {
  return one.port === other.port && one.ip === other.ip;
}
