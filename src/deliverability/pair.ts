let last = { ip: "", provider: "", key: "|" };

/** A source IP and a provider as the key of a map. Asked for several times with every message, so the last answer is kept. */
export function pairKey(ip: string, provider: string): string {
  if (last.ip !== ip || last.provider !== provider) last = { ip, provider, key: `${ip}|${provider}` };
  return last.key;
}
