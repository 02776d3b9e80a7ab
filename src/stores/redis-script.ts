/** Lua scripts by EVALSHA, with the text at hand for a Redis that does not have them (yet, or any more). */
import { createHash } from "node:crypto";
import type { RedisClient } from "./redis-connection.ts";

export interface Script {
  readonly text: string;
  readonly sha: string;
}
export function script(text: string): Script {
  return { text, sha: createHash("sha1").update(text).digest("hex") };
}

/** EVALSHA on one key; where Redis does not have the script (restart, failover, FLUSH) by its text, which loads it. */
export async function runScript(
  client: RedisClient,
  { sha, text }: Script,
  [key, ...args]: readonly [string, ...(string | number)[]],
): Promise<unknown> {
  try {
    return await client.evalsha(sha, 1, key, ...args);
  } catch (error) {
    // NOSCRIPT means that nothing was run, so running it now is no repetition.
    if (!(error as Error).message.startsWith("NOSCRIPT")) throw error;
    return client.eval(text, 1, key, ...args);
  }
}
