/** Messages of the day per source IP and provider, as far as this process knows; yesterday's are dropped. */
export class DayMessages {
  #day = "";
  readonly #counts = new Map<string, number>();

  add(pair: string, day: string, messages: number): number {
    this.#turn(day);
    const sum = (this.#counts.get(pair) ?? 0) + messages;
    this.#counts.set(pair, sum);
    return sum;
  }

  set(pair: string, day: string, messages: number): void {
    this.#turn(day);
    if (day === this.#day) this.#counts.set(pair, messages);
  }

  get(pair: string, day: string): number {
    return day === this.#day ? (this.#counts.get(pair) ?? 0) : 0;
  }

  get day(): string {
    return this.#day;
  }

  entries(): IterableIterator<[string, number]> {
    return this.#counts.entries();
  }

  #turn(day: string): void {
    if (day <= this.#day) return;
    this.#day = day;
    this.#counts.clear();
  }
}
