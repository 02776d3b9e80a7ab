/** A restart loses no session and refuses no connection: the next process gets the very same listening sockets. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { native } from "../../../src/net/native.ts";
import { Client, Crowd } from "./client.ts";
import { Destination } from "./destination.ts";
import { freePort, Warp } from "./warp.ts";

const skip = native.unavailable === undefined ? false : native.unavailable;

async function flagsFor(
  destination: Destination,
  ...more: string[]
): Promise<{ port: number; flags: string[] }> {
  const port = await freePort();
  const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address, ...more];
  return { port, flags };
}

describe("restart", { skip, timeout: 120_000 }, () => {
  it("ten times under load: no connection is refused or reset, and every accepted message arrived", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    let current = await Warp.start(flags);
    const all = [current];
    test.after(() => Promise.all(all.map((warp) => warp.stop("SIGKILL"))));
    const crowd = new Crowd(port, 4);
    test.after(() => crowd.abandon());
    for (let round = 0; round < 10; round++) {
      const before = current;
      // Two workers and one in turn: the number of those who accept may change with a restart.
      current = await Warp.start([...flags, "--workers", round % 2 === 0 ? "2" : "1"]);
      all.push(current);
      assert.equal(await before.closed, 0, before.lines.slice(-5).join("\n"));
    }
    await crowd.stop();
    assert.equal(crowd.trouble("ECONNREFUSED"), 0);
    assert.equal(crowd.trouble("ECONNRESET"), 0);
    assert.deepEqual(
      [...crowd.troubles.keys()].filter((code) => code !== "421"),
      [],
    );
    assert.ok(crowd.accepted.length > 100, `${crowd.accepted.length} messages`);
    const arrived = new Set(destination.subjects);
    assert.deepEqual(
      crowd.accepted.filter((subject) => !arrived.has(subject)),
      [],
    );
    assert.equal(await current.stop(), 0);
  });

  it("lets a transaction in progress finish in the old process, while the new one serves", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const before = await Warp.start(flags);
    test.after(() => before.stop("SIGKILL"));
    const slow = await Client.connect(port);
    await slow.begin();
    assert.equal((await slow.say("DATA")).code, 354);
    const after = await Warp.start(flags);
    test.after(() => after.stop("SIGKILL"));
    await before.record("superseded");
    const fresh = await Client.connect(port);
    assert.equal((await fresh.reply()).code, 220);
    fresh.close();
    slow.write("Subject: slow\r\n\r\n");
    assert.equal((await slow.say("hello\r\n.")).code, 250);
    assert.equal((await slow.reply()).code, 421);
    assert.equal(await before.closed, 0);
    assert.deepEqual(destination.subjects, ["slow"]);
    assert.equal(await after.stop(), 0);
  });

  it("on SIGUSR2 starts the same command line again, which takes over", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const before = await Warp.start(flags);
    test.after(() => before.stop("SIGKILL"));
    const crowd = new Crowd(port, 2);
    test.after(() => crowd.abandon());
    before.signal("SIGUSR2");
    const { msg } = await before.record("restarting");
    const pid = Number(/process (\d+)/.exec(String(msg))?.[1]);
    test.after(() => {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    });
    await before.record("superseded");
    // Its output is that of the one before it.
    await before.record(
      "listening",
      before.lines.findIndex((line) => line.includes("superseded")),
    );
    await pause(200);
    await crowd.stop();
    assert.deepEqual(
      [...crowd.troubles.keys()].filter((code) => code !== "421"),
      [],
    );
    process.kill(pid, "SIGTERM");
    assert.equal(await before.closed, 0);
  });

  it("goes on with the old process when the new one cannot start", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const before = await Warp.start(flags);
    test.after(() => before.stop("SIGKILL"));
    const broken = Warp.launch([...flags, "--metrics", destination.address]);
    test.after(() => broken.stop("SIGKILL"));
    assert.equal(await broken.closed, 1);
    assert.match(broken.lines.at(-1) ?? "", /^warp: metrics\.listen: cannot listen on .*EADDRINUSE/);
    const client = await Client.connect(port);
    assert.equal((await client.reply()).code, 220);
    client.close();
    assert.equal(before.records("superseded").length, 0);
    assert.equal(await before.stop(), 0);
  });

  it("keeps connections that wait in the queue while nobody accepts", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const before = await Warp.start(flags);
    test.after(() => before.stop("SIGKILL"));
    before.signal("SIGSTOP");
    const waiting = await Promise.all(Array.from({ length: 20 }, () => Client.connect(port)));
    const launched = Warp.launch(flags);
    test.after(() => launched.stop("SIGKILL"));
    before.signal("SIGCONT");
    await launched.line(/^warp listens to /);
    const replies = await Promise.all(waiting.map((client) => client.reply()));
    assert.deepEqual(new Set(replies.map(({ code }) => code)), new Set([220]));
    for (const client of waiting) client.close();
    assert.equal(await launched.stop(), 0);
    assert.equal(await before.closed, 0);
  });
});
