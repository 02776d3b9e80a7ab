/**
 * Rspamd as a filter: each message goes to its HTTP API (`POST /checkv2`, as a stream), the envelope as request headers;
 * its action becomes the verdict, its milter headers become header edits, score and symbols become score and tags. An
 * error, an action that we do not know, or an answer that is none is a failure of the hook, never a relay.
 * https://docs.rspamd.com/developers/protocol
 */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { Envelope, FilterHandler } from "../sdk/index.ts";
import type { HookPart } from "./registry.ts";
import { postMessage } from "./rspamd-http.ts";
import { type RspamdAnswer, type VerdictSettings, verdictOf } from "./rspamd-verdict.ts";
import { SettingError, type SinkContext } from "./sink.ts";

export interface RspamdSettings extends Partial<VerdictSettings> {
  /** `http://127.0.0.1:11333`; a path before `/checkv2` may be in it. */
  readonly url: string;
  /** For a controller worker that asks for one. */
  readonly password?: string;
  /** How long Rspamd has for one message; below the deadline that the proxy gives this hook. Default 25,000 ms. */
  readonly timeoutMs?: number;
  /** Messages scanned at once; more wait their turn. Default 20. */
  readonly concurrentMessages?: number;
  /** A longer message is scanned cut. Default: no limit. */
  readonly maxMessageOctets?: number;
}

/** The kind `rspamd` of `warp hook`. Rspamd need not be up yet. Rejects with a `SettingError`. */
export async function openRspamd(given: object, context: SinkContext): Promise<HookPart> {
  const settings = given as Partial<RspamdSettings>;
  const url = endpoint(settings.url);
  const connections = settings.concurrentMessages ?? 20;
  const agent = new (url.protocol === "https:" ? HttpsAgent : HttpAgent)({
    keepAlive: true,
    maxSockets: connections,
  });
  const rules: VerdictSettings = { greylist: settings.greylist ?? "tempfail" };
  const timeoutMs = settings.timeoutMs ?? 25_000;
  const beforeRelay: FilterHandler = async (envelope, message, { signal }) => {
    const header = await message.header();
    const answer = await postMessage({
      url,
      agent,
      headers: requestHeaders(envelope, settings.password),
      body: message,
      timeoutMs,
      signal,
    });
    return verdictOf(answer as RspamdAnswer, header, envelope.discardAllowed, rules);
  };
  context.log(`rspamd: asking ${url.href}`);
  return {
    filter: {
      beforeRelay,
      concurrentMessages: connections,
      ...(settings.maxMessageOctets !== undefined && { maxMessageOctets: settings.maxMessageOctets }),
    },
    close: async () => agent.destroy(),
  };
}

function endpoint(text: string | undefined): URL {
  if (text === undefined || text === "") {
    throw new SettingError("missing url for rspamd, please set `--url`, as in http://127.0.0.1:11333");
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new SettingError(`url for rspamd was "${text}", should be as in http://127.0.0.1:11333`);
  }
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/checkv2`;
  return url;
}

/** The envelope as Rspamd reads it; each recipient is a header of its own. */
export function requestHeaders(
  envelope: Envelope,
  password: string | undefined,
): Record<string, string | string[]> {
  const { session, mailFrom, recipients } = envelope;
  const tls = session?.downstreamTls;
  const headers: Record<string, string | string[]> = {
    From: `<${headerOctets(mailFrom?.address ?? "")}>`,
    Rcpt: recipients.map(({ address }) => `<${headerOctets(address)}>`),
    IP: session?.client?.ip ?? "",
    Helo: headerOctets(Buffer.from(session?.helo ?? []).toString("utf8")),
    User: headerOctets(session?.authUser ?? ""),
    "Queue-Id": envelope.transactionId,
    "Log-Tag": session?.connectionId ?? "",
    "MTA-Tag": "warp",
    "MTA-Name": headerOctets(session?.source?.proxy ?? ""),
    "TLS-Version": tls?.encrypted === true ? headerOctets(tls.version) : "",
    "TLS-Cipher": tls?.encrypted === true ? headerOctets(tls.cipher) : "",
    Password: headerOctets(password ?? ""),
  };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value.length > 0));
}

/** UTF-8, one character per octet as node:http wants it, without what could end the header. */
function headerOctets(text: string): string {
  return Buffer.from(text.replace(/[\x00-\x1f\x7f]/g, ""), "utf8").toString("latin1");
}
