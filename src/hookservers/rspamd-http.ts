/** One HTTP request that streams a message and reads a JSON answer, bounded in time and size. */
import { type Agent, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

/** Symbols with their options can be long; more than this is no answer. */
const MAX_ANSWER_OCTETS = 8 * 1024 * 1024;

export interface Post {
  readonly url: URL;
  readonly agent: Agent;
  readonly headers: Record<string, string | string[]>;
  readonly body: AsyncIterable<Buffer>;
  readonly timeoutMs: number;
  /** Nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** Resolves to the parsed JSON of a 200. Rejects with the reason in plain words. */
export async function postMessage(post: Post): Promise<unknown> {
  const deadline = AbortSignal.timeout(post.timeoutMs);
  const signal = AbortSignal.any([post.signal, deadline]);
  try {
    return await exchange(post, signal);
  } catch (cause) {
    if (deadline.aborted) throw new Error(`Rspamd did not answer within ${post.timeoutMs} ms`, { cause });
    const { message, code } = cause as NodeJS.ErrnoException;
    throw new Error(`Rspamd at ${post.url.host}: ${message || code}`, { cause });
  }
}

async function exchange({ url, agent, headers, body }: Post, signal: AbortSignal): Promise<unknown> {
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const request = send(url, { method: "POST", agent, headers, signal });
  const answered = new Promise<unknown>((resolve, reject) => {
    request.once("error", reject);
    request.once("response", (response) => {
      readJson(response, response.statusCode ?? 0).then(resolve, reject);
    });
  });
  // An answer may come before the whole message was sent (an error, most likely): then that is what counts.
  const sent = pipeline(Readable.from(body), request);
  sent.catch(() => undefined);
  const first = await Promise.race([answered, sent.then(() => SENT)]);
  return first === SENT ? answered : first;
}
const SENT = Symbol("sent");

async function readJson(response: AsyncIterable<Buffer>, status: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let octets = 0;
  for await (const chunk of response) {
    octets += chunk.length;
    if (octets > MAX_ANSWER_OCTETS) throw new Error(`an answer of more than ${MAX_ANSWER_OCTETS} octets`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  if (status !== 200) throw new Error(`HTTP ${status}: ${text.slice(0, 200).trim()}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`an answer that is no JSON: ${text.slice(0, 200).trim()}`);
  }
}
