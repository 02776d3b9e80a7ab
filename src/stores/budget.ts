/**
 * A number of octets that many messages share. Who finds it used up waits, for a bounded time; room goes to the oldest message
 * first, and as long as anybody waits the others leave it a reserve, so that those that began are finished and give back what
 * they hold. What is made of a complete message goes ahead of all that are still being collected: with it, that message leaves.
 * Where all that hold octets wait, none can finish: the youngest of them is given up at once, rather than all of them after the
 * wait.
 */
export class Budget {
  private readonly total: number;
  /** Left for the oldest unfinished message while anybody waits. */
  private readonly reserve: number;
  private readonly waitMs: number;
  private readonly waited: (durationMs: number) => void;
  private readonly pool: OctetPool;
  /** Of messages that are collected, or complete; by age. */
  private readonly shares = new Set<Share>();
  /** Of what is made of complete messages; by age. */
  private readonly derived = new Set<Share>();
  private waiting = 0;
  private looking: NodeJS.Timeout | undefined;
  /** How often in a row nobody could finish. */
  private stuckLooks = 0;

  /** `pool`: where the octets come from; its size is `total`. */
  constructor(
    total: number,
    waitMs: number,
    waited: (durationMs: number) => void,
    pool: OctetPool = new LocalPool(total),
  ) {
    this.total = total;
    this.reserve = Math.min(total / 4, MAX_RESERVE);
    this.waitMs = waitMs;
    this.waited = waited;
    this.pool = pool;
  }

  /** The share of one message, empty. `of`: what is made of this complete message, which can't leave without it. */
  open(of?: Share): Share {
    const share: Share = {
      message: of?.message,
      octets: 0,
      waiter: undefined,
      isComplete: false,
      take: (octets) => this.take(share, octets),
      complete: () => {
        share.isComplete = true;
        this.serve();
      },
      close: () => this.close(share),
    };
    share.message ??= share;
    this.queueOf(share).add(share);
    return share;
  }

  private queueOf(share: Share): Set<Share> {
    return share.message === share ? this.shares : this.derived;
  }

  private take(share: Share, octets: number): true | Promise<void> {
    if ((this.waiting === 0 || !this.isOlderWaiting(share)) && this.grant(share, octets)) {
      share.octets += octets;
      return true;
    }
    if (share.octets + octets > this.total) {
      return Promise.reject(new Error(`a message of more than the whole budget of ${this.total} octets`));
    }
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const end = (): void => {
        clearTimeout(timer);
        share.waiter = undefined;
        this.waiting--;
        this.waited(performance.now() - since);
      };
      const fail = (reason: string): void => {
        end();
        reject(new Error(reason));
        this.serve();
      };
      const timer = setTimeout(
        () => fail(`no room for ${octets} octets within ${this.waitMs} ms`),
        this.waitMs,
      );
      share.waiter = {
        octets,
        fail,
        served: () => {
          share.octets += octets;
          end();
          resolve();
        },
      };
      this.waiting++;
      // What another process gives back is not told here.
      if (this.pool.isShared) this.looking ??= setInterval(() => this.look(), LOOK_MS);
      else this.resolveStuck();
    });
  }

  private grant(share: Share, octets: number): boolean {
    if (this.waiting === 0 || this.derived.has(share) || this.isFront(share)) return this.pool.take(octets);
    if (!this.pool.take(octets + this.reserve)) return false;
    this.pool.give(this.reserve);
    return true;
  }

  /** No older message is unfinished. */
  private isFront(share: Share): boolean {
    for (const other of this.shares) {
      if (other === share) return true;
      if (!other.isComplete && other.octets > 0) return false;
    }
    return true;
  }

  private close(share: Share): void {
    if (!this.queueOf(share).delete(share)) return;
    share.waiter?.fail("the message was given up");
    this.pool.give(share.octets);
    share.octets = 0;
    this.serve();
  }

  /** Whose turn is before this one's. Derived shares have it together: a small one need not wait for the room of a large one. */
  private isOlderWaiting(share: Share): boolean {
    if (this.derived.has(share)) return false;
    for (const other of this.inTurn()) {
      if (other === share) return false;
      if (other.waiter !== undefined) return true;
    }
    return false;
  }

  private *inTurn(): Generator<Share> {
    yield* this.derived;
    yield* this.shares;
  }

  private serve(): void {
    if (!this.serveAll()) {
      if (!this.pool.isShared) this.resolveStuck();
      return;
    }
    this.stuckLooks = 0;
    if (this.waiting > 0) return;
    clearInterval(this.looking);
    this.looking = undefined;
  }

  /** False: somebody still waits for room. */
  private serveAll(): boolean {
    let isServed = true;
    for (const share of this.inTurn()) {
      if (this.waiting === 0) break;
      if (share.waiter === undefined) continue;
      if (!isServed && !this.derived.has(share)) break;
      if (this.grant(share, share.waiter.octets)) share.waiter.served();
      else isServed = false;
    }
    return isServed;
  }

  private look(): void {
    this.serve();
    this.stuckLooks = this.isStuck() ? this.stuckLooks + 1 : 0;
    // Messages of other processes may still end.
    if (this.stuckLooks >= STUCK_LOOKS) this.resolveStuck();
  }

  private isStuck(): boolean {
    if (this.waiting === 0) return false;
    const waiting = new Set<Share | undefined>();
    for (const { waiter, message } of this.inTurn()) if (waiter !== undefined) waiting.add(message);
    for (const { octets, message } of this.inTurn()) if (octets > 0 && !waiting.has(message)) return false;
    return true;
  }

  private resolveStuck(): void {
    if (!this.isStuck()) return;
    // What is still being collected comes last in turn, so it is given up before a message that only has to leave.
    const youngest = [...this.inTurn()].findLast(
      (share) => share.waiter !== undefined && (share.octets > 0 || this.derived.has(share)),
    );
    youngest?.waiter?.fail(
      "no room: the messages that hold octets wait for each other, and this is the youngest",
    );
  }
}

/** What one message holds. */
export interface Share {
  /** The share of the message that this belongs to: itself, unless it was made of another. */
  message: Share | undefined;
  /** Octets that it has. */
  octets: number;
  waiter: Waiter | undefined;
  isComplete: boolean;
  /** True: taken. Else they are taken when the promise resolves; it rejects when there was no room in time. */
  take(octets: number): true | Promise<void>;
  /** Nothing more is taken; what it holds is given back some time. */
  complete(): void;
  /** Gives everything back. Idempotent. */
  close(): void;
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
const STUCK_LOOKS = 20;
const MAX_RESERVE = 16 * 1024 * 1024;

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
  readonly served: () => void;
  readonly fail: (reason: string) => void;
}
