/**
 * Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005): every
 * candidate gets a score from the key and its own name, the highest is first. Removing a candidate moves only the keys
 * that had it first, adding one moves only the keys it wins, and raising a weight only draws keys towards it.
 */

export interface Weighted {
  readonly name: string;
  /** Share among the candidates; above 0. */
  readonly weight: number;
}

/** All candidates, the key's own one first, then the one that would follow it, and so on. */
export function rendezvous<T extends Weighted>(key: string, candidates: readonly T[]): readonly T[] {
  if (candidates.length < 2) return candidates;
  const hashedKey = hashed("\0", hashed(key, START));
  return candidates
    .map((candidate) => ({ candidate, score: rendezvousScore(hashedKey, candidate) }))
    .sort((a, b) => b.score - a.score || (a.candidate.name < b.candidate.name ? -1 : 1))
    .map(({ candidate }) => candidate);
}

function rendezvousScore(hashedKey: Lanes, { name, weight }: Weighted): number {
  return -weight / Math.log(unitOf(hashed(name, hashedKey)));
}

/** Evenly spread in (0, 1): FNV-1a in two lanes, then mixed (MurmurHash3's finaliser), 53 bits. */
export function unit(text: string): number {
  return unitOf(hashed(text, START));
}

interface Lanes {
  readonly a: number;
  readonly b: number;
}
const START: Lanes = { a: 0x811c9dc5, b: 0xc9dc5118 };

/** Goes on where `from` ended: what stands at the front of many texts is hashed once. */
function hashed(text: string, from: Lanes): Lanes {
  let { a, b } = from;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x85ebca6b) ^ (b >>> 13);
  }
  return { a, b };
}

function unitOf({ a, b }: Lanes): number {
  const high = mix(a ^ mix(b)) >>> 5;
  const low = mix(b ^ Math.imul(a, 0x9e3779b1)) >>> 6;
  return (high * 2 ** 26 + low + 0.5) / 2 ** 53;
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
