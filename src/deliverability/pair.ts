/** Two names as the key of a map. Asked for several times with every message, so the last answer is kept. */
export class PairKeys {
  #a = "";
  #b = "";
  #key = "|";

  of(a: string, b: string): string {
    if (this.#a !== a || this.#b !== b) {
      this.#a = a;
      this.#b = b;
      this.#key = `${a}|${b}`;
    }
    return this.#key;
  }
}

const pairs = new PairKeys();

/** A source IP and a provider. */
export function pairKey(ip: string, provider: string): string {
  return pairs.of(ip, provider);
}
