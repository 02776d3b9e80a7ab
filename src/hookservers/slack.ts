/**
 * The Slack sink (@slack/web-api), best effort by nature: it never holds an acknowledgement up, and what doesn't fit into
 * its bounded queue is dropped and counted. It says each connection in the original's form (several in one message when
 * they come faster than one a second) and, at most once a minute, a digest of what operators should know.
 */
import { LogLevel, WebAPIPlatformError, WebAPIRateLimitedError, WebClient } from "@slack/web-api";
import type { Event } from "../gen/warp/hook/v1/hook_pb.ts";
import { pause } from "./pause.ts";
import { type Batch, SettingError, type Sink, type SinkContext } from "./sink.ts";
import { Digest, defaultThresholds, type Thresholds } from "./slack-digest.ts";
import { connectionNotice } from "./slack-text.ts";
import { SourceState } from "./source-state.ts";

/** What may be set; a member that is missing has its default. */
export interface SlackSettings {
  /** Default: `SLACK_TOKEN`. */
  readonly token?: string | undefined;
  /** Default: `SLACK_CHANNEL`. */
  readonly channel?: string | undefined;
  /** Base address of Slack's API, for a gateway or a test server. */
  readonly url?: string | undefined;
  /** A notice per connection; default: true. */
  readonly connections?: boolean | undefined;
  /** Shortest time between two digests. ms, default 60,000. */
  readonly digestMs?: number | undefined;
  readonly thresholds?: Partial<Thresholds> | undefined;
}

const maxNotices = 500;
/** One post, and how many notices it stands for: those are dropped when it can't be made. */
interface Message {
  readonly text: string;
  readonly notices: number;
}
/** Slack takes 4,000 characters in good shape, and about one message a second in a channel. */
const maxTextCharacters = 3500;
const betweenPostsMs = 1000;
const callTimeoutMs = 10_000;
/** How long the start waits for Slack. ms. */
const askMs = 3000;
const maxAttempts = 5;
const flushMs = 3000;
/** Answers to auth.test that no waiting mends. */
const hopeless = ["invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"];

export class SlackSink implements Sink {
  readonly name = "slack";
  readonly durable = false;
  readonly #context: SinkContext;
  readonly #client: WebClient;
  readonly #channel: string;
  readonly #connections: boolean;
  readonly #digestMs: number;
  readonly #digest: Digest;
  readonly #seen = new SourceState();
  readonly #notices: string[] = [];
  #dropped = 0;
  #nextDigestMs: number;
  #sending: Promise<void> | undefined;
  #timer: NodeJS.Timeout;
  #complainedMs = Number.NEGATIVE_INFINITY;
  readonly #stop = new AbortController();
  #closed: Promise<void> | undefined;

  /** Rejects with a `SettingError` where token or channel is missing, or Slack says that the token is none. */
  static async open(settings: SlackSettings, context: SinkContext): Promise<SlackSink> {
    const token = settings.token || context.env.SLACK_TOKEN || "";
    if (token === "") throw new SettingError("missing SLACK_TOKEN, please set `SLACK_TOKEN`");
    const channel = settings.channel || context.env.SLACK_CHANNEL || "";
    if (channel === "") throw new SettingError("missing SLACK_CHANNEL, please set `SLACK_CHANNEL`");
    try {
      await clientOf(token, settings.url, askMs).auth.test();
    } catch (error) {
      if (error instanceof WebAPIPlatformError && hopeless.includes(error.data.error)) {
        throw new SettingError(`slack.token: Slack says ${error.data.error}`);
      }
      // Slack may be away now and here later.
      context.log(`slack: cannot be asked about the token yet: ${(error as Error).message}`);
    }
    return new SlackSink(settings, context, token, channel);
  }

  private constructor(settings: SlackSettings, context: SinkContext, token: string, channel: string) {
    this.#context = context;
    this.#channel = channel;
    this.#connections = settings.connections ?? true;
    this.#digestMs = settings.digestMs ?? 60_000;
    this.#digest = new Digest({ ...defaultThresholds, ...settings.thresholds });
    this.#nextDigestMs = context.now() + this.#digestMs;
    this.#client = clientOf(token, settings.url, callTimeoutMs);
    this.#timer = setInterval(() => this.#wake(), Math.min(this.#digestMs, 1000));
    this.#timer.unref();
  }

  /** Never waits. */
  store(batch: Batch): Promise<void> {
    const receivedMs = this.#context.now();
    for (const event of batch.events) {
      const item = { event, source: batch.source, receivedMs };
      if (this.#seen.has(item)) continue;
      this.#seen.mark(item);
      this.#take(event);
    }
    this.#wake();
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  #take(event: Event): void {
    this.#digest.add(event);
    if (!this.#connections || event.kind.case !== "afterConn") return;
    if (this.#notices.length < maxNotices) this.#notices.push(connectionNotice(event.kind.value));
    else this.#dropped += 1;
  }

  #wake(): void {
    if (this.#sending !== undefined || this.#stop.signal.aborted) return;
    if (this.#notices.length === 0 && this.#context.now() < this.#nextDigestMs) return;
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
    });
  }

  async #send(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const message = this.#next(this.#context.now() >= this.#nextDigestMs);
      if (message === undefined) return;
      await this.#post(message);
      await pause(betweenPostsMs, this.#stop.signal);
    }
  }

  /** The next message: the digest where it is due and has something to say, else as many notices as fit. */
  #next(digestDue: boolean): Message | undefined {
    if (digestDue) {
      this.#nextDigestMs = this.#context.now() + this.#digestMs;
      const digest = this.#digest.take();
      const dropped = this.#dropped;
      this.#dropped = 0;
      const parts = [digest, dropped > 0 ? `*Notices dropped here*: ${dropped}` : undefined];
      const text = parts.filter((part) => part !== undefined).join("\n");
      if (text !== "") return { text, notices: dropped + (digest === undefined ? 0 : 1) };
    }
    const lines = this.#notices.splice(0, 1);
    let characters = lines[0]?.length ?? 0;
    while (this.#notices[0] !== undefined && characters + this.#notices[0].length < maxTextCharacters) {
      characters += this.#notices[0].length + 1;
      lines.push(this.#notices.shift()!);
    }
    return lines.length === 0 ? undefined : { text: lines.join("\n"), notices: lines.length };
  }

  /** Posts one message, as patiently as Slack asks. One that can't be posted is counted with the dropped. */
  async #post({ text, notices }: Message): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#client.chat.postMessage({
          channel: this.#channel,
          username: "Warp",
          text,
          parse: "none",
          link_names: false,
          unfurl_links: false,
          unfurl_media: false,
        });
        return;
      } catch (error) {
        const limited = error instanceof WebAPIRateLimitedError;
        // Being told to wait is no failed attempt.
        if (limited) attempt -= 1;
        const given = error instanceof WebAPIPlatformError || attempt >= maxAttempts;
        if (given || this.#stop.signal.aborted) {
          this.#dropped += notices;
          this.#complain(error as Error);
          return;
        }
        await pause(
          limited ? error.retryAfter * 1000 : Math.min(60_000, 1000 * 2 ** attempt),
          this.#stop.signal,
        );
      }
    }
  }

  #complain(error: Error): void {
    if (this.#context.now() - this.#complainedMs < 60_000) return;
    this.#complainedMs = this.#context.now();
    this.#context.log(`slack: a message was not posted: ${error.message}`);
  }

  /** What is still queued goes out in at most two messages, within `flushMs`. */
  async #end(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    const flush = async () => {
      await this.#sending;
      for (const text of [this.#next(true), this.#next(false)])
        if (text !== undefined) await this.#post(text);
    };
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, flushMs);
    });
    await Promise.race([flush(), late]);
    clearTimeout(timer);
    const lost = this.#notices.length + this.#dropped;
    if (lost > 0) this.#context.log(`slack: ${lost} notices were not posted`);
  }
}

function clientOf(token: string, url: string | undefined, timeout: number): WebClient {
  return new WebClient(token, {
    ...(url !== undefined && { slackApiUrl: url.endsWith("/") ? url : `${url}/` }),
    logLevel: LogLevel.ERROR,
    timeout,
    // Waiting and trying again is ours, with the queue in view.
    retryConfig: { retries: 0 },
    rejectRateLimitedCalls: true,
  });
}
