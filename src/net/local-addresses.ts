/** This host's own addresses, all of loopback included; read at start, and again when the answer is some seconds old. */
import { networkInterfaces } from "node:os";

const MAX_AGE_MS = 5000;

export class LocalAddresses {
  private addresses: ReadonlySet<string> = new Set();
  private readAt = Number.NEGATIVE_INFINITY;
  private readonly now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** `ip` as text; a v4-mapped one counts as IPv4. */
  has(ip: string): boolean {
    if (isLoopback(ip)) return true;
    if (this.now() - this.readAt > MAX_AGE_MS) this.read();
    return this.addresses.has(ip);
  }

  private read(): void {
    const addresses = new Set<string>();
    for (const entries of Object.values(networkInterfaces())) {
      for (const entry of entries ?? []) addresses.add(entry.address.replace(/%.*$/, ""));
    }
    this.addresses = addresses;
    this.readAt = this.now();
  }
}

export function isLoopback(ip: string): boolean {
  return ip === "::1" || /^127\.\d+\.\d+\.\d+$/.test(ip);
}
