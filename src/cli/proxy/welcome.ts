/** What a person at a terminal is told once the proxy listens. */
import type { Config } from "../../config/schema.ts";
import type { Endpoint } from "../../events/events.ts";
import { endpointText } from "./sockets.ts";

/**
 * Some lines, without line end at the last. `argv`: the proxy's own options. `uid`: by which the rules have to tell its
 * connections, where it may not mark them.
 */
export function welcome(
  { capture, workers }: Config,
  addresses: readonly Endpoint[],
  argv: readonly string[],
  uid: number | undefined,
): string {
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
    const same = `${optionsOfRules(argv)}${uid === undefined ? "" : ` --uid ${uid}`}`;
    const commands = [
      [`npx warp rules${same}`, "shows the rules"],
      [`npx warp rules --apply${same}`, "sends this host's outgoing port 25 through warp"],
      ["npx warp rules --remove", "ends it"],
    ];
    const width = Math.max(...commands.map(([command = ""]) => command.length)) + 3;
    for (const [command = "", does] of commands) lines.push(`    ${command.padEnd(width)}${does}`);
    lines.push("  To try it at once, without root and without touching the network:");
    lines.push("    npm run demo");
  }
  lines.push("  Ctrl-C stops it; --verbose shows each line of each dialogue; --help lists the options.", "");
  return lines.join("\n");
}

/** What `warp rules` has to be told as well, with a blank before it. */
function optionsOfRules(argv: readonly string[]): string {
  const kept: string[] = [];
  for (const [index, word] of argv.entries()) {
    const [, name, value] = /^--?(config|ip|port|mode|client)(=.*)?$/.exec(word) ?? [];
    if (name === undefined) continue;
    kept.push(`--${name}${value ?? ` ${argv[index + 1] ?? ""}`}`);
  }
  return kept.map((option) => ` ${option}`).join("");
}

const MODES = {
  redirect: "waits for redirected SMTP connections",
  tproxy: "waits for SMTP connections that TPROXY hands over",
  fixed: "accepts SMTP connections",
} as const;
