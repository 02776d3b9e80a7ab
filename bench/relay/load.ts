/** Mail at full speed by Postfix's smtp-source, and what it cost the relay. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpuMs, type Target } from "./processes.ts";

export interface Load {
  readonly octets: number;
  readonly messages: number;
  readonly sessions: number;
  /** Connections carry many messages; else one each. */
  readonly reused: boolean;
}

export interface Measured {
  readonly perSecond: number;
  /** CPU of the relay per 1,000 messages, ms; undefined where there is no relay. */
  readonly cpuMs: number | undefined;
}

/** Sends, and waits for the last reply. Rejects where a message was not taken. */
export async function send(target: Target, load: Load): Promise<Measured> {
  const before = target.pid === undefined ? 0 : cpuMs(target.pid);
  const began = performance.now();
  const argv = ["-s", `${load.sessions}`, "-m", `${load.messages}`, "-l", `${load.octets}`];
  const child = spawn(
    "smtp-source",
    [
      ...argv,
      ...(load.reused ? ["-d"] : []),
      "-f",
      "a@client.example",
      "-t",
      "b@example.net",
      `127.0.0.1:${target.port}`,
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const [status] = (await once(child, "close")) as [number];
  if (status !== 0) throw new Error(`smtp-source to ${target.name} ended with ${status}`);
  const seconds = (performance.now() - began) / 1000;
  return {
    perSecond: load.messages / seconds,
    cpuMs: target.pid === undefined ? undefined : ((cpuMs(target.pid) - before) * 1000) / load.messages,
  };
}
