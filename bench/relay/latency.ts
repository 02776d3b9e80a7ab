/**
 * What a session takes at a steady, moderate rate: sessions begin at equal distances whatever the ones before do, and each
 * is timed from connect to the reply to QUIT. Targets take turns within the run, session by session.
 */
import { connect } from "node:net";
import { quantile } from "./compare.ts";
import type { Target } from "./processes.ts";

const MESSAGE = `From: a@client.example\r\nTo: b@example.net\r\nSubject: x\r\n\r\n${`${"x".repeat(78)}\r\n`.repeat(50)}.\r\n`;
/** What is said upon each reply, the greeting first. */
const DIALOGUE = [
  "EHLO client.example\r\n",
  "MAIL FROM:<a@client.example>\r\n",
  "RCPT TO:<b@example.net>\r\n",
  "DATA\r\n",
  MESSAGE,
  "QUIT\r\n",
];

/** `perSecond`: to each of the targets. */
export async function latency(targets: readonly Target[], perSecond: number, seconds: number): Promise<void> {
  console.log(`\nms per session, 4 KB, ${perSecond} messages/s to one target at a time`);
  const times = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  // Slices of a second, in turns: all targets see the same minutes of the machine.
  for (let second = 0; second < seconds; second++) {
    for (const target of targets) times.get(target.name)?.push(...(await slice(target, perSecond)));
  }
  const base = times.get("direct") ?? [];
  for (const [name, all] of times) {
    const [p50, p99] = [quantile(all, 0.5), quantile(all, 0.99)];
    const added =
      name === "direct" ? "" : `   added p50 ${over(p50, base, 0.5)}, p99 ${over(p99, base, 0.99)}`;
    console.log(`  ${name.padEnd(12)} p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)}${added}`);
  }
}

function over(value: number, base: readonly number[], q: number): string {
  return (value - quantile(base, q)).toFixed(2);
}

async function slice(target: Target, perSecond: number): Promise<number[]> {
  const began = performance.now();
  const running: Promise<number>[] = [];
  for (let i = 0; i < perSecond; ) {
    const due = Math.floor(((performance.now() - began) * perSecond) / 1000);
    for (; i <= due && i < perSecond; i++) running.push(session(target.port));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return Promise.all(running);
}

function session(port: number): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    let step = 0;
    let text = "";
    socket.setEncoding("latin1");
    socket.on("error", reject);
    socket.on("data", (chunk: string) => {
      text += chunk;
      // The last line of a reply has no hyphen behind its code.
      const last = /(?:^|\n)(\d{3})(?: [^\n]*)?\r\n$/.exec(text);
      if (last === null) return;
      if (Number(last[1]) >= 400) return void socket.destroy(new Error(`refused: ${text}`));
      text = "";
      if (step < DIALOGUE.length) return void socket.write(DIALOGUE[step++] as string);
      resolve(performance.now() - began);
      socket.destroy();
    });
  });
}
