/** Memory of a relay with many sessions that have said EHLO and say nothing more. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { residentKb, type Target } from "./processes.ts";

/** One target after the other: each has its own destination's sessions to hold as well. */
export async function idle(targets: readonly Target[], counts: readonly number[]): Promise<void> {
  console.log("\nidle sessions, resident memory");
  for (const target of targets) {
    const pid = target.pid as number;
    await open(target.port, 20).then(closeAll);
    const before = residentKb(pid);
    const sockets: Socket[] = [];
    for (const count of counts) {
      sockets.push(...(await open(target.port, count - sockets.length)));
      await new Promise((resolve) => setTimeout(resolve, 1000)); // lets a collection run that is due
      const each = (residentKb(pid) - before) / count;
      const held = `${(residentKb(pid) / 1024).toFixed(0)} MB`;
      console.log(`  ${target.name.padEnd(12)} ${count} sessions: ${held}, ${each.toFixed(1)} KB each`);
    }
    await closeAll(sockets);
  }
}

/** Sessions behind their EHLO; not all at once, or the queue of the listener would overflow. */
async function open(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const some = Math.min(50, count - sockets.length);
    sockets.push(...(await Promise.all(Array.from({ length: some }, () => greeted(port)))));
  }
  return sockets;
}

async function greeted(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "data");
  socket.write("EHLO client.example\r\n");
  await once(socket, "data");
  return socket;
}

async function closeAll(sockets: readonly Socket[]): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 500));
}
