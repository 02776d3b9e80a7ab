/** What this host lets warp do: checked before it says that it listens, in words that name the setting. */
import { readdirSync, readFileSync } from "node:fs";
import type { Config } from "../../config/schema.ts";
import type { Telemetry } from "../../events/telemetry.ts";
import { native } from "../../net/native.ts";

/** Throws where the configuration cannot work on this host; warns where it works, but not as somebody may expect. */
export function checkHostRights(config: Config, { log }: Pick<Telemetry, "log">): void {
  const { mode, mark } = config.capture;
  const descriptors = descriptorHint(config, openFiles());
  if (descriptors !== undefined) log("warn", "few_descriptors", descriptors);
  if (native.unavailable !== undefined) {
    if (mode !== "fixed") {
      throw new Error(
        `capture.mode ${mode} needs what this platform lacks: ${native.unavailable}; fixed mode works (--destination)`,
      );
    }
    if (config.workers > 1) {
      throw new Error(
        `workers: was ${config.workers}, more than one needs what is missing: ${native.unavailable}`,
      );
    }
    return;
  }
  if (mode === "tproxy") requireTransparent();
  if (mode !== "fixed" && markIfAllowed(config) !== mark) {
    log(
      "warn",
      "no_mark",
      "capture.mark cannot be set (CAP_NET_ADMIN is missing): the capture rules have to exempt warp by its uid (warp rules --uid)",
    );
  }
  for (const port of new Set(config.listen.map((address) => address.port))) {
    const hint = ephemeralPortHint(port, readRange(), readReserved());
    if (hint !== undefined) log("warn", "ephemeral_port", hint);
  }
}

/** Descriptors of this process: how many it may have, and how many it has. */
export interface OpenFiles {
  readonly limit: number;
  readonly used: number;
}

/** Node has raised the soft limit to the hard one. Infinity where it cannot be known (no /proc). */
export function openFiles(): OpenFiles {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
    return {
      limit: soft === undefined ? Number.POSITIVE_INFINITY : Number(soft),
      used: readdirSync("/proc/self/fd").length,
    };
  } catch {
    return { limit: Number.POSITIVE_INFINITY, used: 0 };
  }
}

/** For connections to hooks, Redis and metrics, the journal, legs being replaced, and clients that are being refused. */
const RESERVED_SHARE = 0.1;
const RESERVED_LEAST = 32;

/** How many sessions of one process there are descriptors for; one at the least. */
export function sessionsWithin({ limit, used }: OpenFiles, { mayFilter }: Pick<Config, "mayFilter">): number {
  if (limit === Number.POSITIVE_INFINITY) return limit;
  // Client and destination; a message that filters look at may have a file.
  const each = mayFilter ? 3 : 2;
  const free = limit - used - Math.max(RESERVED_LEAST, limit * RESERVED_SHARE);
  return Math.max(1, Math.floor(free / each));
}

export function descriptorHint(
  config: Pick<Config, "limits" | "workers" | "mayFilter">,
  files: OpenFiles,
): string | undefined {
  const { limits, workers } = config;
  const sessions = sessionsWithin(files, config);
  if (sessions * workers >= limits.sessions) return undefined;
  const each = workers > 1 ? "each worker" : "it";
  return `limits.sessions: was ${limits.sessions}, but a process may have ${files.limit} descriptors here: ${each} serves at most ${sessions} sessions at a time and tells others 421 4.3.2; raise LimitNOFILE (ulimit -n)`;
}

/** SO_MARK of warp's own connections; 0 where it is not needed, or where this user may not set it. */
export function markIfAllowed({ capture: { mode, mark } }: Config): number {
  if (mode === "fixed" || native.unavailable !== undefined) return 0;
  try {
    native.closeFd(native.createSocket(4, { mark }));
    return mark;
  } catch {
    // EPERM; checkHostRights has said so.
    return 0;
  }
}

function requireTransparent(): void {
  try {
    native.closeFd(native.createSocket(4, { transparent: true }));
  } catch (error) {
    throw new Error(`capture.mode tproxy needs CAP_NET_ADMIN (IP_TRANSPARENT): ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/**
 * A port that the kernel may give to any outgoing connection can be taken when warp starts again. `range` and `reserved` as
 * the kernel writes them: "32768\t60999", "10025,20000-20010".
 */
export function ephemeralPortHint(port: number, range: string, reserved: string): string | undefined {
  const [low = 0, high = 0] = range.trim().split(/\s+/).map(Number);
  if (port === 0 || port < low || port > high) return undefined;
  const isReserved = reserved
    .trim()
    .split(",")
    .some((part) => {
      const [from = Number.NaN, to = from] = part.split("-").map(Number);
      return part !== "" && port >= from && port <= to;
    });
  if (isReserved) return undefined;
  return `listen: port ${port} lies in net.ipv4.ip_local_port_range (${low} to ${high}): any outgoing connection may take it while warp is stopped; put it into net.ipv4.ip_local_reserved_ports`;
}

function readRange(): string {
  return readKernel("ip_local_port_range");
}
function readReserved(): string {
  return readKernel("ip_local_reserved_ports");
}
function readKernel(name: string): string {
  try {
    return readFileSync(`/proc/sys/net/ipv4/${name}`, "utf8");
  } catch {
    return "";
  }
}
