/** The bundled hook servers (`--plugins`) as one more observer. */
import type { HookSettings } from "../../hooks/index.ts";
import { parseAddress } from "../../sdk/address.ts";

/** `address`: what `startPlugins` gave; undefined: there are none. */
export function pluginHooks(address: string | undefined): HookSettings[] {
  if (address === undefined) return [];
  return [
    {
      name: "plugins",
      address: parseAddress(address),
      roles: ["observe"],
      deadlineMs: 30_000,
      onFailure: "tempfail",
      enforce: true,
      when: {},
      events: undefined,
      maxMessageOctets: undefined,
      headerOnly: undefined,
      tls: undefined,
      insecure: false,
    },
  ];
}
