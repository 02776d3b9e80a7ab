/**
 * A number of octets that many share. Who finds it used up waits in turn, so that a large request is not overtaken for
 * ever by small ones; a wait that is too long fails. A request larger than the whole budget fails at once.
 */
export class Budget {
  private readonly total: number;
  private readonly waitMs: number;
  private readonly waited: (durationMs: number) => void;
  private readonly pool: OctetPool;
  private readonly queue = new Set<Waiter>();
  private looking: NodeJS.Timeout | undefined;

  /** `pool`: where the octets come from; its size is `total`. */
  constructor(
    total: number,
    waitMs: number,
    waited: (durationMs: number) => void,
    pool: OctetPool = new LocalPool(total),
  ) {
    this.total = total;
    this.waitMs = waitMs;
    this.waited = waited;
    this.pool = pool;
  }

  /** True: taken. Else it is taken when the promise resolves; it rejects when that took too long. */
  take(octets: number): true | Promise<void> {
    if (this.queue.size === 0 && this.pool.take(octets)) return true;
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
      // What another process gives back is not told here.
      if (this.pool.isShared) this.looking ??= setInterval(() => this.serve(), LOOK_MS);
    });
  }

  give(octets: number): void {
    this.pool.give(octets);
    this.serve();
  }

  private serve(): void {
    for (const waiter of this.queue) {
      if (!this.pool.take(waiter.octets)) return;
      this.queue.delete(waiter);
      clearTimeout(waiter.timer);
      waiter.served();
    }
    clearInterval(this.looking);
    this.looking = undefined;
  }
}

/** The octets that there are: of this process, or of several together. */
export interface OctetPool {
  /** Others give back what this one waits for. */
  readonly isShared: boolean;
  /** False: there are not so many left. */
  take(octets: number): boolean;
  give(octets: number): void;
}

const LOOK_MS = 50;

class LocalPool implements OctetPool {
  readonly isShared = false;
  private free: number;

  constructor(total: number) {
    this.free = total;
  }

  take(octets: number): boolean {
    if (octets > this.free) return false;
    this.free -= octets;
    return true;
  }

  give(octets: number): void {
    this.free += octets;
  }
}

interface Waiter {
  readonly octets: number;
  readonly timer: NodeJS.Timeout;
  readonly served: () => void;
}
