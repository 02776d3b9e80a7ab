/**
 * Makes one write of what several streams want stored at the same moment: while one group is being written, the next
 * gathers. Each caller's promise settles with the group that its items were in. Bounded by what callers have unanswered
 * (the protocol's 8 MiB per stream), cut into groups of about `limit` items.
 */
interface Waiting<Item> {
  readonly items: readonly Item[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Grouper<Item> {
  readonly #write: (items: readonly Item[]) => Promise<void>;
  readonly #limit: number;
  #waiting: Waiting<Item>[] = [];
  #exclusive: (() => Promise<void>)[] = [];
  #idle: (() => void)[] = [];
  #running = false;

  constructor(write: (items: readonly Item[]) => Promise<void>, limit: number) {
    this.#write = write;
    this.#limit = limit;
  }

  /** Resolves once `items` were written, rejects with what the write of their group failed with. */
  add(items: readonly Item[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ items, resolve, reject });
      this.#start();
    });
  }

  /** Runs `work` between two groups. */
  exclusively<T>(work: () => Promise<T> | T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#exclusive.push(async () => {
        try {
          resolve(await work());
        } catch (error) {
          reject(error);
        }
      });
      this.#start();
    });
  }

  /** Resolves when all that was added before is settled. */
  idle(): Promise<void> {
    return this.#running ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  #start(): void {
    if (this.#running) return;
    this.#running = true;
    // A turn of the loop later: what other streams delivered in the same turn comes along.
    setImmediate(() => void this.#run());
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0 || this.#exclusive.length > 0) {
      const work = this.#exclusive.shift();
      if (work !== undefined) await work();
      if (this.#waiting.length > 0) await this.#writeGroup();
    }
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #writeGroup(): Promise<void> {
    const group = this.#take();
    try {
      await this.#write(group.flatMap((waiting) => waiting.items));
      for (const waiting of group) waiting.resolve();
    } catch (error) {
      for (const waiting of group) waiting.reject(error);
    }
  }

  #take(): Waiting<Item>[] {
    let items = 0;
    let count = 0;
    for (const waiting of this.#waiting) {
      if (count > 0 && items + waiting.items.length > this.#limit) break;
      items += waiting.items.length;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }
}
