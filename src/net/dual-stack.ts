/** Which listener serves IPv4 where addresses of both families are listed. */

interface Address {
  readonly ip: string;
  readonly port: number;
}

/**
 * "::" takes IPv4 too, unless the list has IPv4 addresses of the same port: then each is a socket of its own, and this one
 * is IPv6 alone (IPV6_V6ONLY), since the kernel lets only one of them have the port.
 */
export function isDualStack({ ip, port }: Address, listen: readonly Address[]): boolean {
  return ip === "::" && !listen.some((other) => other.port === port && !other.ip.includes(":"));
}

/** A "::" that leaves IPv4 to others of the list. */
export function isIpv6Only(address: Address, listen: readonly Address[]): boolean {
  return address.ip === "::" && !isDualStack(address, listen);
}
