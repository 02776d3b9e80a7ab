/** The kinds of values that the configuration is made of: readers of `scalars.ts` as zod types, with what the reference calls them. */
import { z } from "zod";
import {
  readDuration,
  readHookAddress,
  readHostPort,
  readIp,
  readIpPort,
  readNetwork,
  readShare,
  readSize,
  Unreadable,
} from "./scalars.ts";

/** setTimeout counts in 32 bits: no timer of the proxy can be longer. */
const LONGEST_TIMER_MS = 24 * 86_400_000;

/** A value that a reader of `scalars.ts` takes; `kind` is what the reference calls it. */
export function scalar<T>(kind: string, read: (value: unknown) => T) {
  return z
    .unknown()
    .transform((value, context): T => {
      try {
        return read(value);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        context.issues.push({
          code: "custom",
          input: value,
          message: error.message,
          params: { plain: true },
        });
        return z.NEVER;
      }
    })
    .meta({ kind });
}

export const duration = scalar("duration", readDuration);
export const positiveDuration = scalar("duration", (value) => {
  const ms = readDuration(value);
  if (ms < 1) throw new Unreadable("a duration of at least 1ms");
  return ms;
});
export const timer = scalar("duration", (value) => {
  const ms = readDuration(value);
  if (ms < 1 || ms > LONGEST_TIMER_MS) throw new Unreadable("a duration from 1ms to 24d");
  return ms;
});
export const size = scalar("size", readSize);
export const positiveSize = scalar("size", (value) => {
  const octets = readSize(value);
  if (octets < 1) throw new Unreadable("a size of at least 1 octet");
  return octets;
});
export const ipAddress = scalar("IP address", readIp);
export const listenAddress = scalar("ADDRESS:PORT", readIpPort);
/** The same for one that is of this host, where `localhost` says which. */
export const localAddress = scalar("HOST:PORT", (value) =>
  readIpPort(typeof value === "string" ? value.replace(/^localhost(?=:)/i, "127.0.0.1") : value),
);
export const hostPort = scalar("HOST:PORT", readHostPort);
export const hookAddress = scalar("hook address", readHookAddress);
export const network = scalar("network", readNetwork);
export const share = scalar("share in %", readShare);
export const filePath = scalar("path", (value) => {
  if (typeof value !== "string" || value.trim() === "" || value.includes("\0"))
    throw new Unreadable("a path");
  return value;
});
export const text = scalar("text", (value) => {
  if (typeof value !== "string" || value.trim() === "") throw new Unreadable("a text that isn't empty");
  return value;
});
export const httpUrl = scalar("URL", (value) => {
  const url = typeof value === "string" ? URL.parse(value) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new Unreadable("a URL of http or https, such as https://slack.example/api/");
  return value as string;
});
/** Host name as a peer or a certificate says it: letters, digits, hyphens, dots; one leading "*." where asked. */
export const hostName = scalar("host name", (value) => {
  const name = typeof value === "string" ? value.trim().replace(/\.$/, "").toLowerCase() : "";
  if (!/^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(name)) {
    throw new Unreadable("a host name, such as mx.example.net");
  }
  return name;
});
/** A name in a certificate: host name or IP address (which then needs an iPAddress SAN). */
export const certificateName = scalar("host name or IP address", (value) => {
  try {
    return readIp(value);
  } catch {
    const parsed = hostName.safeParse(value);
    if (!parsed.success) throw new Unreadable("a host name or IP address, such as mx.example.net");
    return parsed.data;
  }
});
export const glob = scalar("glob", (value) => {
  if (typeof value !== "string" || value === "" || /\s/.test(value)) {
    throw new Unreadable('a name or pattern without blanks, such as example.com, "*.example.com" or "*"');
  }
  return value.toLowerCase();
});
/** Of a domain, without the root's dot as addresses come. What no domain can ever match would be a rule without effect. */
export const domainGlob = scalar("glob", (value) => {
  const pattern = glob.safeParse(value);
  if (!pattern.success || /^\.|@/.test(pattern.data)) {
    throw new Unreadable(
      'a domain or pattern without @ and blanks, such as example.com, "*.example.com" (what is below it) or "*"',
    );
  }
  return pattern.data.replace(/\.$/, "");
});
export const addressGlob = scalar("glob", (value) => {
  const pattern = glob.safeParse(value);
  if (!pattern.success || /^[^@*?]+\.[^@*?]+$/.test(pattern.data)) {
    throw new Unreadable('an address or pattern, such as alice@example.com, "*@example.com" or "<>"');
  }
  return pattern.data;
});
/** Names of hooks, pools, rules and tiers appear in metrics, logs and Redis. */
export const shortName = scalar("name", (value) => {
  if (typeof value !== "string" || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(value)) {
    throw new Unreadable("a name of letters, digits, dot, hyphen and underscore (at most 64)");
  }
  return value;
});
export const yesNo = z.boolean().meta({ kind: "yes or no" });
export const count = (lowest: number, highest: number) =>
  scalar("number", (value) => {
    const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number) || number < lowest || number > highest) {
      throw new Unreadable(`a whole number from ${lowest} to ${highest}`);
    }
    return number;
  });
export const fraction = scalar("number", (value) => {
  if (typeof value !== "number" || !(value >= 0 && value <= 1)) throw new Unreadable("a number from 0 to 1");
  return value;
});
export const port = count(1, 65535);

/** One value stands for a list of one. */
export function listOf<T extends z.ZodType>(item: T) {
  return z.preprocess(
    (value) => (value === undefined || Array.isArray(value) ? value : [value]),
    z.array(item),
  );
}
export function words<const W extends readonly [string, ...string[]]>(...choices: W) {
  return z.enum(choices);
}
