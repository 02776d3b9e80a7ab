/**
 * What the lower layers tell the metrics and the log about: the narrow interface that they call, and one that does
 * nothing. `src/telemetry` implements it. Rules: a call costs no I/O, never throws, and takes only bounded values (no
 * sender, no recipient, no message). What follows from AfterTransaction and AfterConn is not told here again.
 *
 * Metric names and label values: `warp_…` beside each method.
 */
export type SessionResult =
  | "served"
  | "refused_client"
  | "refused_limit"
  | "refused_destination"
  | "loop"
  | "no_route";
export type LegReason = "connect" | "route" | "tls_fallback" | "abort";
export type LegResult = "connected" | "refused" | "timeout" | "unreachable" | "no_source_ip" | "failed";
export type Family = 4 | 6;
export type SourceIpCause = "not_local" | "no_port" | "cooling" | "cap";
export type Side = "downstream" | "upstream";
export type Violation =
  | "bare_newline"
  | "nul"
  | "line_too_long"
  | "injected_plaintext"
  | "early_talk"
  | "unsolicited_reply"
  | "bad_path";
export type HookFailure = "absent" | "refused" | "deadline" | "closed" | "invalid" | "breaker";
/** 0 normal, 1 slowed, 2 throttled, 3 blocked. */
export type IpState = 0 | 1 | 2 | 3;
export type LogLevel = "debug" | "info" | "warn" | "error";
/** Field names of a log line: conn, tx, leg, client, dest, source_ip, from, to, tls, reply, class, ms, hook, worker, … */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** What a line of code `defect` says of an error that nobody expected: always where it was, too. */
export function defectFields(error: unknown): LogFields {
  return error instanceof Error ? { error: error.message, stack: error.stack } : { error: String(error) };
}

export interface Telemetry {
  /** One log line. `code` is the stable name of what happened ("dial_failed"); `cause` is the error behind it. */
  log(level: LogLevel, code: string, message: string, fields?: LogFields, cause?: unknown): void;

  /** warp_sessions_active: a session was accepted and will be served. */
  sessionOpened(): void;
  /** warp_sessions_active, warp_sessions_total, warp_session_duration_seconds; for every session that was opened. */
  sessionClosed(result: SessionResult, durationMs: number): void;
  /** warp_sessions_total: a connection that never became a session. */
  sessionRefused(result: SessionResult): void;

  /** warp_legs_total, warp_legs_active (where it connected). */
  legDialled(reason: LegReason, result: LegResult): void;
  /** warp_legs_active, warp_legs_unused_total (`used`: it had a transaction); for every leg that connected. */
  legClosed(used: boolean): void;
  /** warp_dial_seconds */
  dialled(family: Family, durationMs: number): void;
  /** warp_source_ip_unusable_total; `ip` is one of this host's configured or own addresses. */
  sourceIpUnusable(ip: string, cause: SourceIpCause): void;

  /** warp_octets_total; `in`: from the client, `out`: to the client. AfterConn's totals aren't counted again. */
  octets(direction: "in" | "out", count: number): void;
  /** warp_own_replies_total; `reason` a stable word ("dial_failed", "too_large", …). */
  ownReply(code: number, reason: string): void;
  /** warp_tls_handshakes_total; `policy` empty downstream, `version` empty where it failed. */
  tlsHandshake(
    side: Side,
    policy: string,
    version: string,
    result: "ok" | "failed" | "refused" | "timeout",
  ): void;
  /** warp_protocol_violations_total */
  violation(side: Side, kind: Violation): void;

  /** warp_hook_up */
  hookUp(hook: string, up: boolean): void;
  /** warp_hook_verdicts_total, warp_hook_seconds */
  hookVerdict(hook: string, verdict: string, shadow: boolean, durationMs: number): void;
  /** warp_hook_failures_total; `applied`: what was done then (tempfail, accept, reject), or "none" in shadow mode. */
  hookFailure(hook: string, cause: HookFailure, applied: "tempfail" | "accept" | "reject" | "none"): void;
  /** warp_held_octets: the sum now. */
  heldOctets(where: "memory" | "spool", octets: number): void;
  /** warp_held_wait_seconds: a message waited so long for room. */
  heldWait(durationMs: number): void;

  /** warp_events_total; `kind` after_comm, after_transaction, after_conn, notice, gap. */
  events(kind: string, count: number): void;
  /** warp_events_unacked, warp_events_oldest_unacked_seconds: the state now (`oldestMs` 0: nothing is waiting). */
  eventsUnacked(hook: string, count: number, oldestMs: number): void;
  /** warp_events_dropped_total */
  eventsDropped(hook: string, count: number): void;
  /** warp_journal_octets: the size on disk now. */
  journalOctets(octets: number): void;

  /** warp_redis_up */
  redisUp(up: boolean): void;
  /** warp_redis_seconds */
  redisCall(durationMs: number): void;
  /** warp_redis_fallbacks_total */
  redisFallback(cause: "slow" | "down"): void;
  /** warp_redis_pending_writes: the number now. */
  redisPendingWrites(count: number): void;
  /** warp_redis_lost_writes_total */
  redisLostWrites(count: number): void;
  /** warp_route_choices_total */
  routeChoice(rule: string, pool: string, tier: string): void;
  /** warp_ip_state; `until`: when the state is over (ms since 1970), 0: it has no end of its own. */
  ipState(ip: string, provider: string, state: IpState, until: number): void;
}

const nothing = (): void => {};

/** Tells nobody. For tests, and for parts that run alone. */
export const noTelemetry: Telemetry = {
  log: nothing,
  sessionOpened: nothing,
  sessionClosed: nothing,
  sessionRefused: nothing,
  legDialled: nothing,
  legClosed: nothing,
  dialled: nothing,
  sourceIpUnusable: nothing,
  octets: nothing,
  ownReply: nothing,
  tlsHandshake: nothing,
  violation: nothing,
  hookUp: nothing,
  hookVerdict: nothing,
  hookFailure: nothing,
  heldOctets: nothing,
  heldWait: nothing,
  events: nothing,
  eventsUnacked: nothing,
  eventsDropped: nothing,
  journalOctets: nothing,
  redisUp: nothing,
  redisCall: nothing,
  redisFallback: nothing,
  redisPendingWrites: nothing,
  redisLostWrites: nothing,
  routeChoice: nothing,
  ipState: nothing,
};
