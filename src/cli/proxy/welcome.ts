/** What a person at a terminal is told once the proxy listens. */
import type { Config } from "../../config/schema.ts";
import type { Endpoint } from "../../events/events.ts";
import { endpointText } from "./sockets.ts";

/** Some lines, without line end at the last. */
export function welcome({ capture, workers }: Config, addresses: readonly Endpoint[]): string {
  const [first] = addresses;
  const where = addresses.map(endpointText).join(" and ");
  const lines = [
    "",
    `  warp ${MODES[capture.mode]} on ${where}${workers > 1 ? ` (${workers} workers)` : ""}.`,
  ];
  if (capture.mode === "fixed") {
    const { host = "", port = 0 } = capture.destination ?? {};
    lines.push(
      `  Everything that arrives goes to ${endpointText({ ip: host, port })}. Send something through it:`,
    );
    lines.push(
      `    swaks --server ${first?.ip} --port ${first?.port} --from you@example.net --to them@example.com`,
    );
  } else {
    lines.push(
      "  Nothing reaches it yet unless the kernel hands connections over. As root, in another terminal:",
    );
    lines.push("    npx warp rules            shows the rules");
    lines.push("    npx warp rules --apply    sends this host's outgoing port 25 through warp");
    lines.push("    npx warp rules --remove   ends it");
    lines.push("  To try it at once, without root and without touching the network:");
    lines.push("    npm run demo");
  }
  lines.push("  Ctrl-C stops it; --verbose shows each line of each dialogue; --help lists the options.", "");
  return lines.join("\n");
}

const MODES = {
  redirect: "waits for redirected SMTP connections",
  tproxy: "waits for SMTP connections that TPROXY hands over",
  fixed: "accepts SMTP connections",
} as const;
