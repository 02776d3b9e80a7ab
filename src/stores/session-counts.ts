/** How many sessions there are now, in all and of each client: of this process alone, or of all workers together. */

export interface SessionCounts {
  all(): number;
  /** Of this process alone: descriptors are its own. */
  ofProcess(): number;
  ofClient(ip: string): number;
  opened(ip: string): void;
  closed(ip: string): void;
}

/** Of one process. */
export class LocalCounts implements SessionCounts {
  private total = 0;
  private readonly perClient = new Map<string, number>();

  all(): number {
    return this.total;
  }

  ofProcess(): number {
    return this.total;
  }

  ofClient(ip: string): number {
    return this.perClient.get(ip) ?? 0;
  }

  opened(ip: string): void {
    this.total++;
    this.perClient.set(ip, this.ofClient(ip) + 1);
  }

  closed(ip: string): void {
    this.total--;
    const count = this.ofClient(ip) - 1;
    if (count > 0) this.perClient.set(ip, count);
    else this.perClient.delete(ip);
  }
}
