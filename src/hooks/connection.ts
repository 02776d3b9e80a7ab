/**
 * The connection to one hook server: connect, Describe, watch, and begin again when it is lost, at first at once, then with
 * growing pauses. A hook that is absent is reported once and tried for ever; who needs it now gets an attempt out of turn.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { Telemetry } from "../events/telemetry.ts";
import {
  type Capability,
  DescribeRequestSchema,
  type DescribeResponse,
  DescribeResponseSchema,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { grpcTarget } from "../sdk/address.ts";
import { channelOptions, credentials } from "./credentials.ts";
import type { SourceFacts } from "./event-encoding.ts";
import { type CallFailure, callFailure, printable } from "./failure.ts";
import type { HookSettings } from "./settings.ts";

export const DESCRIBE_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** Attempts out of turn come no closer than this. */
const ATTEMPT_GAP_MS = 250;
/** Who needs the hook waits so long for an attempt that is under way. */
const ATTEMPT_WAIT_MS = 2000;
const REPEAT_LOG_MS = 60_000;

export const SERVICE = "/warp.hook.v1.HookService";

export interface ConnectionOptions {
  readonly settings: HookSettings;
  readonly source: SourceFacts;
  readonly version: string;
  readonly maxReceiveOctets: number;
  readonly telemetry: Pick<Telemetry, "log" | "hookUp">;
  /** It came, went, or said something else of itself. */
  readonly changed: (up: boolean, detail: string) => void;
}

/** Octets in, octets out: the messages are encoded by the callers. */
export class HookConnection {
  readonly settings: HookSettings;
  /** The latest answer; kept while the hook is away. Undefined: it has not answered yet in this process. */
  description: DescribeResponse | undefined;
  /** Every capability that it has named so far. */
  readonly named = new Set<Capability>();
  /** How often it was connected: calls of a connection before end with it, not by the server's answer. */
  connects = 0;
  private readonly options: ConnectionOptions;
  private link: Link | undefined;
  private up = false;
  private stopped = false;
  private problem: CallFailure = { cause: "absent", detail: "not connected yet" };
  private attempt: Promise<void> | undefined;
  private attemptAt = Number.NEGATIVE_INFINITY;
  private pauses = 0;
  private timer: NodeJS.Timeout | undefined;
  private logged = { text: "", at: Number.NEGATIVE_INFINITY };

  constructor(options: ConnectionOptions) {
    this.options = options;
    this.settings = options.settings;
  }

  /** Begins to connect; resolves when the first attempt ended, either way. */
  start(): Promise<void> {
    return this.attemptNow();
  }

  /** Ends calls under way. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.link?.close();
    this.link = undefined;
    this.up = false;
  }

  get isUp(): boolean {
    return this.up;
  }

  /** The client to call with, now; tries to connect first where it is down. Waits at most `waitMs`. */
  async ready(waitMs: number): Promise<grpc.Client | CallFailure> {
    if (!this.up && !this.stopped) {
      const age = performance.now() - this.attemptAt;
      if (this.attempt === undefined && age >= ATTEMPT_GAP_MS) this.attemptNow();
      const patience = Math.min(waitMs, ATTEMPT_WAIT_MS - (performance.now() - this.attemptAt));
      if (this.attempt !== undefined && patience > 0) await within(this.attempt, patience);
    }
    return this.client() ?? this.problem;
  }

  client(): grpc.Client | undefined {
    return this.up ? this.link?.client : undefined;
  }

  /** The server does not answer any more: a new connection, since this one may be dead without saying so. */
  reconnect(reason: string): void {
    if (!this.up || this.stopped) return;
    this.lost({ cause: "absent", detail: reason });
    this.retire();
    void this.attemptNow();
  }

  private attemptNow(): Promise<void> {
    clearTimeout(this.timer);
    this.attempt ??= this.connect().finally(() => {
      this.attempt = undefined;
    });
    return this.attempt;
  }

  private async connect(): Promise<void> {
    this.attemptAt = performance.now();
    let answer: DescribeResponse | CallFailure;
    try {
      this.link ??= new Link(this.settings, this.options.maxReceiveOctets);
      answer = await this.describe(this.link.client);
    } catch (cause) {
      answer = { cause: "absent", detail: printable((cause as Error).message) };
    }
    if (this.stopped) return;
    if ("cause" in answer) {
      this.failed(answer);
      return;
    }
    this.description = answer;
    for (const capability of answer.capabilities) this.named.add(capability);
    this.pauses = 0;
    this.logged = { text: "", at: Number.NEGATIVE_INFINITY };
    this.up = true;
    this.connects++;
    this.watch(this.link as Link);
    this.options.telemetry.hookUp(this.settings.name, true);
    const who = printable(`${answer.name} ${answer.version}`.trim());
    this.options.telemetry.log(
      "info",
      "hook_up",
      `hook ${this.settings.name} is there: ${who}`,
      this.fields(),
    );
    this.options.changed(true, who);
  }

  private describe(client: grpc.Client): Promise<DescribeResponse | CallFailure> {
    const request = create(DescribeRequestSchema, {
      warpVersion: this.options.version,
      hookName: this.settings.name,
      source: this.options.source,
    });
    return new Promise((resolve) => {
      client.makeUnaryRequest(
        `${SERVICE}/Describe`,
        (value: Uint8Array) => Buffer.from(value),
        (octets) => octets,
        toBinary(DescribeRequestSchema, request),
        new grpc.Metadata(),
        { deadline: Date.now() + DESCRIBE_MS },
        (error, octets) => {
          if (error !== null || octets === undefined) {
            const status = error ?? { code: grpc.status.OK, details: "" };
            const failure = callFailure(status, "Describe");
            // Whatever keeps Describe from being answered, the hook is not there for mail.
            resolve(failure.cause === "refused" ? failure : { ...failure, cause: "absent" });
            return;
          }
          try {
            resolve(fromBinary(DescribeResponseSchema, octets));
          } catch (cause) {
            resolve({ cause: "refused", detail: `Describe: no protobuf: ${(cause as Error).message}` });
          }
        },
      );
    });
  }

  private failed(problem: CallFailure): void {
    this.problem = problem;
    this.retire();
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.pauses++, 10));
    this.timer = setTimeout(() => void this.attemptNow(), pause * (0.5 + Math.random()));
    const text = `hook ${this.settings.name} is not there: ${problem.detail}`;
    const now = performance.now();
    if (text === this.logged.text && now - this.logged.at < REPEAT_LOG_MS) return;
    if (this.logged.text === "") this.options.changed(false, problem.detail);
    this.logged = { text, at: now };
    this.options.telemetry.hookUp(this.settings.name, false);
    this.options.telemetry.log("warn", "hook_down", text, { ...this.fields(), cause: problem.cause });
  }

  /** The link was up and is not any more (a GOAWAY looks the same): Describe again, at once. */
  private watch(link: Link): void {
    const channel = link.client.getChannel();
    const next = (): void => {
      if (this.link !== link || this.stopped) return;
      const state = channel.getConnectivityState(false);
      if (state === grpc.connectivityState.READY) {
        channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, next);
        return;
      }
      if (!this.up) return;
      this.lost({ cause: "absent", detail: "the connection was lost" });
      void this.attemptNow();
    };
    next();
  }

  private lost(problem: CallFailure): void {
    this.up = false;
    this.problem = problem;
  }

  private retire(): void {
    this.link?.close();
    this.link = undefined;
  }

  private fields() {
    return { hook: this.settings.name, address: grpcTarget(this.settings.address) };
  }
}

/** One gRPC channel. Closing it lets calls end that are under way on a connection that still lives. */
class Link {
  readonly client: grpc.Client;

  constructor(settings: HookSettings, maxReceiveOctets: number) {
    this.client = new grpc.Client(
      grpcTarget(settings.address),
      credentials(settings),
      channelOptions(settings, maxReceiveOctets),
    );
  }

  close(): void {
    this.client.close();
  }
}

async function within(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    promise,
    new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    }),
  ]);
  clearTimeout(timer);
}
