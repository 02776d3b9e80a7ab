/**
 * The layout of the keys in Redis (docs/reputation.md). What stands in braces is the hash tag of Redis Cluster, so each
 * script touches one slot. A key over 200 octets has its identity replaced by a digest.
 */
import { createHash } from "node:crypto";

const MAX_KEY_OCTETS = 200;

export function senderKey(prefix: string, identity: string): string {
  return shortened(prefix, "s:", identity, "");
}
export function ipKey(prefix: string, ip: string, provider: string): string {
  return shortened(prefix, "i:", `${ip}|${provider}`, "");
}
export function messagesKey(prefix: string, ip: string, provider: string, day: string): string {
  return shortened(prefix, "w:", `${ip}|${provider}`, `:${day}`);
}
export function poorKey(prefix: string): string {
  return `${prefix}poor`;
}
export function coolingKey(prefix: string): string {
  return `${prefix}cooling`;
}
export function proxyKey(prefix: string, proxy: string): string {
  return `${prefix}p:${proxy}`;
}

function shortened(prefix: string, kind: string, name: string, end: string): string {
  const key = `${prefix}${kind}{${name}}${end}`;
  if (Buffer.byteLength(key) <= MAX_KEY_OCTETS) return key;
  return `${prefix}${kind}{sha256:${createHash("sha256").update(name).digest("hex")}}${end}`;
}
