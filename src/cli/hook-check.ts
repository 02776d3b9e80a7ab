/** `warp hook-check ADDRESS`: drives a hook server through the protocol and says which of its promises hold. */
import { parseAddress } from "../sdk/address.ts";
import type { ClientTls } from "../sdk/credentials.ts";
import { HookConnection, statusText } from "./hook-check/connection.ts";
import { checkDescribe, checkUnnamed, filters, observes, routes } from "./hook-check/describe.ts";
import { checkBeforeRelay } from "./hook-check/filter.ts";
import { checkObserve } from "./hook-check/observe.ts";
import { Broken, type Finding, Report, tableText } from "./hook-check/report.ts";
import { checkSelectRoute } from "./hook-check/route.ts";
import { hookAddress, TLS_OPTIONS, tlsOf } from "./hook-check/tls-options.ts";
import { type CommandSpec, runCommand } from "./options.ts";

export const spec: CommandSpec = {
  name: "hook-check",
  summary: "Drive a hook server through the protocol and say what holds",
  description: [
    "Calls every RPC as the proxy does, and as it does when things go wrong: batches, heartbeats and replayed events; small, empty, 8-bit and large messages; cancelled calls; 16 open Observe streams while a verdict is asked for. Each promise of the protocol is one line; a broken one comes with advice.",
    "An observer stores what the check sends: its events name the proxy hook-check.",
    "Exit status: 0 all that is promised holds, 1 something does not, 2 wrong usage.",
  ],
  operands: [{ name: "ADDRESS", help: "unix:/path or host:port" }],
  options: [
    { name: "timeout", value: "TIME", help: "How long the server has for each answer", default: "10s" },
    { name: "large", value: "SIZE", help: "Size of the large message", default: "10MB" },
    ...TLS_OPTIONS,
    { name: "json", help: "One JSON object: ok, address, hook, findings" },
  ],
  examples: [
    ["warp hook-check unix:/run/warp/spam.sock", "Check the hook server that listens there."],
    ["warp hook-check filter.example:7443 --ca ca.pem --json", "Over TLS, for a program to read."],
  ],
};

export interface CheckSettings {
  readonly address: string;
  readonly timeoutMs: number;
  readonly largeOctets: number;
  readonly tls: ClientTls | undefined;
}

export async function hookCheckCommand(argv: readonly string[]): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const address = hookAddress(options.operands[0]!);
    const report = await checkHook({
      address,
      timeoutMs: options.durationMs("timeout") ?? 10_000,
      largeOctets: options.octets("large") ?? 10_000_000,
      tls: tlsOf(options),
    });
    const ok = report.broken.length === 0;
    if (options.flag("json")) {
      process.stdout.write(`${JSON.stringify({ ok, address, findings: report.findings })}\n`);
    } else {
      process.stdout.write(`${tableText(report.findings)}\n${summary(report.findings)}\n`);
    }
    return ok ? 0 : 1;
  });
}

/** Runs every check that applies. Never rejects for what the server does. */
export async function checkHook(settings: CheckSettings): Promise<Report> {
  const report = new Report();
  const address = parseAddress(settings.address);
  const connect = () => new HookConnection(address, settings.tls, settings.timeoutMs);
  const found = await checkDescribe(report, connect);
  if (found === undefined) return report;
  const context = {
    report,
    connect,
    ...found,
    timeoutMs: settings.timeoutMs,
    largeOctets: settings.largeOctets,
  };
  try {
    await checkUnnamed(context);
    if (observes(found.described)) await checkObserve(context);
    if (filters(found.described)) await checkBeforeRelay(context);
    if (routes(found.described)) await checkSelectRoute(context);
    await report.check("Describe", "still answers after all this", async () => {
      const outcome = await found.connection.describe();
      if ("error" in outcome) {
        throw new Broken(
          statusText(outcome.error),
          "the server has to survive every client: see its own log",
        );
      }
      return "answers";
    });
  } finally {
    found.connection.close();
  }
  return report;
}

function summary(findings: readonly Finding[]): string {
  const count = (result: Finding["result"]) => findings.filter((finding) => finding.result === result).length;
  const notes = count("note") === 0 ? "" : `, ${count("note")} worth a note`;
  if (count("breaks") === 0) return `${count("holds")} promises hold${notes}`;
  return `${count("breaks")} of ${findings.length} promises broken, ${count("holds")} hold${notes}`;
}
