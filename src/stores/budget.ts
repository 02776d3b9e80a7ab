/**
 * A number of octets that many share. Who finds it used up waits in turn, so that a large request is not overtaken for
 * ever by small ones; a wait that is too long fails. A request larger than the whole budget fails at once.
 */
export class Budget {
  private free: number;
  private readonly total: number;
  private readonly waitMs: number;
  private readonly waited: (durationMs: number) => void;
  private readonly queue = new Set<Waiter>();

  constructor(total: number, waitMs: number, waited: (durationMs: number) => void) {
    this.total = total;
    this.free = total;
    this.waitMs = waitMs;
    this.waited = waited;
  }

  /** True: taken. Else it is taken when the promise resolves; it rejects when that took too long. */
  take(octets: number): true | Promise<void> {
    if (this.queue.size === 0 && octets <= this.free) {
      this.free -= octets;
      return true;
    }
    if (octets > this.total) {
      return Promise.reject(
        new Error(`${octets} octets at once, more than the whole budget of ${this.total}`),
      );
    }
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const waiter: Waiter = {
        octets,
        timer: setTimeout(() => {
          this.queue.delete(waiter);
          this.waited(performance.now() - since);
          reject(new Error(`no room for ${octets} octets within ${this.waitMs} ms`));
          this.serve();
        }, this.waitMs),
        served: () => {
          this.waited(performance.now() - since);
          resolve();
        },
      };
      this.queue.add(waiter);
    });
  }

  give(octets: number): void {
    this.free += octets;
    this.serve();
  }

  private serve(): void {
    for (const waiter of this.queue) {
      if (waiter.octets > this.free) return;
      this.free -= waiter.octets;
      this.queue.delete(waiter);
      clearTimeout(waiter.timer);
      waiter.served();
    }
  }
}

interface Waiter {
  readonly octets: number;
  readonly timer: NodeJS.Timeout;
  readonly served: () => void;
}
