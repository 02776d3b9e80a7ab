/** How connections reach warp, who may make them, and where they may not go. */
import { z } from "zod";
import { readNetwork, Unreadable } from "../scalars.ts";
import { count, hostPort, listOf, network, port, scalar, words, yesNo } from "../values.ts";

const opaquePorts = scalar("`relay`, `refuse` or ports", (value): "relay" | "refuse" | number[] => {
  if (value === "relay" || value === "refuse") return value;
  const ports = z.array(port).safeParse(Array.isArray(value) ? value : [value]);
  if (!ports.success) throw new Unreadable("relay, refuse or a list of ports");
  return ports.data;
});

export const capture = z
  .strictObject({
    mode: words("redirect", "tproxy", "fixed")
      .optional()
      .describe(
        "How connections reach warp: `redirect` and `tproxy` are captured by the kernel (`warp rules`), `fixed` sends every connection to `destination`. Default: `fixed` where `destination` is given, else `redirect`.",
      ),
    destination: hostPort.optional().describe("The one destination of `fixed`; naming it implies that mode."),
    mark: count(1, 0xffffffff)
      .prefault(0x77)
      .describe(
        "SO_MARK of warp's own connections, by which the capture rules let them pass. Keep it apart from TPROXY's mark.",
      ),
    ports: listOf(port)
      .prefault([25])
      .describe(
        "Destination ports that are captured and that warp connects to; any other is refused with `421 4.3.5`.",
      ),
    opaque_ports: opaquePorts
      .optional()
      .describe(
        "Traffic that is no SMTP dialogue (465 by nature): `relay` untouched with connection events only, `refuse`, or the list of ports to relay. Default: `relay`, or `refuse` where a hook may be a filter.",
      ),
  })
  .transform((raw) => ({
    mode: raw.mode ?? (raw.destination === undefined ? ("redirect" as const) : ("fixed" as const)),
    destination: raw.destination,
    mark: raw.mark,
    ports: raw.ports,
    opaquePorts: raw.opaque_ports,
  }));

export const clientNetworks = listOf(
  scalar("network or `self`", (value) => (value === "self" ? ("self" as const) : readNetwork(value))),
);

export const destinations = z
  .strictObject({
    deny_self: yesNo
      .prefault(true)
      .describe(
        "Refuse destinations that are an address of this host (`redirect`, `tproxy`): inbound mail relayed from a trusted address would make an open relay of the local MTA.",
      ),
    deny: listOf(network).prefault([]).describe("Networks that are never connected to."),
  })
  .transform((raw) => ({ denySelf: raw.deny_self, deny: raw.deny }));
