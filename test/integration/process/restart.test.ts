/** A restart loses no session and refuses no connection: the next process gets the very same listening sockets. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { native } from "../../../src/net/native.ts";
import { Client, Crowd } from "./client.ts";
import { Destination } from "./destination.ts";
import { folder, freePort, Warp } from "./warp.ts";

const skip = native.unavailable === undefined ? false : native.unavailable;

async function flagsFor(
  destination: Destination,
  ...more: string[]
): Promise<{ port: number; flags: string[] }> {
  const port = await freePort();
  const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address, ...more];
  return { port, flags };
}

/** Needs root, to be somebody else, and python3, which can ask for descriptors without any of our code. */
const stranger =
  process.getuid?.() === 0 && spawnSync("python3", ["-V"]).error === undefined
    ? false
    : "needs root and python3";

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
    // Not even a 421: whoever had just connected brought its message to the process that accepted it.
    assert.deepEqual([...crowd.troubles], []);
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
    await before.listensAgain();
    await pause(200);
    await crowd.stop();
    assert.deepEqual([...crowd.troubles], []);
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

  const dual = ["::"];
  const pair = ["0.0.0.0", "::"];
  const [ofIpv4, ofBoth] = [/^warp listens to 0\.0\.0\.0:/, /^warp listens to \[::\]:/];
  for (const { title, rounds, sockets } of [
    { title: "[::] to both wildcards and back", rounds: [dual, pair, dual], sockets: [ofBoth] },
    { title: "both wildcards to [::] and back", rounds: [pair, dual, pair], sockets: [ofIpv4, ofBoth] },
  ]) {
    it(`loses no connection when listen changes from ${title}`, async (test) => {
      const destination = await Destination.listen();
      test.after(() => destination.close());
      const port = await freePort();
      const flags = ["--port", `${port}`, "--destination", destination.address, "--client", "127.0.0.0/8"];
      const all: Warp[] = [];
      test.after(() => Promise.all(all.map((warp) => warp.stop("SIGKILL"))));
      let crowd: Crowd | undefined;
      test.after(() => crowd?.abandon());
      for (const [index, ips] of rounds.entries()) {
        const before = all.at(-1);
        const more = [...ips.flatMap((ip) => ["--ip", ip]), "--workers", `${1 + (index % 2)}`];
        const warp = await Warp.start([...flags, ...more]);
        all.push(warp);
        if (before !== undefined) assert.equal(await before.closed, 0);
        for (const line of sockets) await warp.line(line);
        assert.equal(warp.lines.filter((line) => line.startsWith("warp ")).length, sockets.length);
        crowd ??= new Crowd(port, 2);
      }
      await crowd?.stop();
      assert.deepEqual([...(crowd?.troubles ?? [])], []);
      assert.ok((crowd?.accepted.length ?? 0) > 0);
      assert.equal(await all.at(-1)?.stop(), 0);
    });
  }

  it("hands over to one at a time: of two that start together, the second takes over from the first", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const before = await Warp.start(flags);
    test.after(() => before.stop("SIGKILL"));
    const crowd = new Crowd(port, 2);
    test.after(() => crowd.abandon());
    const both = [Warp.launch(flags), Warp.launch(flags)];
    test.after(() => Promise.all(both.map((warp) => warp.stop("SIGKILL"))));
    await Promise.all(both.map((warp) => warp.line(/^warp listens to /)));
    assert.equal(await before.closed, 0);
    const first = await Promise.race(both.map((warp) => warp.closed.then(() => warp)));
    assert.equal(await first.closed, 0);
    await crowd.stop();
    assert.deepEqual([...crowd.troubles], []);
    const last = both.find((warp) => warp !== first);
    assert.equal(await last?.stop(), 0);
  });

  it("is ready at once though another user has its name, says so, and takes the name when it is free", {
    skip: stranger,
  }, async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const squat =
      "import os,socket,sys\nos.setuid(1)\ns=socket.socket(socket.AF_UNIX)\n" +
      "s.bind('\\0warp 127.0.0.1:'+sys.argv[1])\ns.listen(int(sys.argv[2]))\nprint('ready',flush=True)\n" +
      // A queue that is full: whoever connects waits for it to be accepted.
      "c=socket.socket(socket.AF_UNIX)\nc.connect(s.getsockname())\nsys.stdin.read()\n";
    for (const queue of ["100", "0"]) {
      const other = spawn("python3", ["-c", squat, `${port}`, queue], { stdio: ["pipe", "pipe", "inherit"] });
      test.after(() => other.kill("SIGKILL"));
      await once(other.stdout, "data");
      const startedAt = performance.now();
      const warp = await Warp.start(flags);
      test.after(() => warp.stop("SIGKILL"));
      assert.ok(performance.now() - startedAt < 7000, `${performance.now() - startedAt} ms`);
      if (queue === "100") {
        const { msg } = await warp.record("no_handover");
        assert.match(String(msg), /^the name "warp 127\.0\.0\.1:\d+" is held by a process of another user/);
        await warp.line(/the next warp will not be able to take over/);
        const next = Warp.launch(flags);
        assert.equal(await next.closed, 1);
        assert.equal(next.records("no_handover").length, 1);
      }
      other.kill("SIGKILL");
      if (queue === "100") await warp.record("handover_possible");
      assert.equal(await warp.stop(), 0);
    }
  });

  it("hands its sockets to nobody but its own user and root", { skip: stranger }, async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const { port, flags } = await flagsFor(destination);
    const warp = await Warp.start(flags);
    test.after(() => warp.stop("SIGKILL"));
    const ask =
      "import os,socket,sys\nos.setuid(int(sys.argv[2]))\ns=socket.socket(socket.AF_UNIX)\n" +
      "s.connect('\\0warp 127.0.0.1:'+sys.argv[1])\n" +
      "text,fds,_,_=socket.recv_fds(s,65536,8)\nprint(len(text)>0,len(fds))\n";
    const askAs = (user: number): string =>
      execFileSync("python3", ["-c", ask, `${port}`, `${user}`], { encoding: "utf8" }).trim();
    assert.equal(askAs(1), "False 0");
    assert.equal(askAs(0), "True 1");
    await warp.record("handover_refused");
    assert.equal(await warp.stop(), 0);
  });

  it("lets plugins pass from one process to the next: every session is in the file once", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const path = folder(test);
    const { port, flags } = await flagsFor(destination, "--plugins", "file", "--journal", `${path}/journal`);
    const options = { env: { FILE_PATH: `${path}/warp.log` } };
    let current = await Warp.start(flags, options);
    const all = [current];
    test.after(() => Promise.all(all.map((warp) => warp.stop("SIGKILL"))));
    const crowd = new Crowd(port, 2);
    test.after(() => crowd.abandon());
    for (let round = 0; round < 2; round++) {
      const before = current;
      current = await Warp.start(flags, options);
      all.push(current);
      assert.equal(await before.closed, 0);
    }
    await crowd.stop();
    // What the processes before it had not handed over is in the journal, and is sent by the one that runs.
    const until = performance.now() + 25_000;
    while (sessionsIn(`${path}/warp.log`).length < crowd.accepted.length && performance.now() < until)
      await pause(100);
    const ended = sessionsIn(`${path}/warp.log`);
    assert.equal(new Set(ended).size, ended.length);
    assert.equal(ended.length, crowd.accepted.length);
    assert.equal(await current.stop(), 0);
  });
});

/** Connection ids of the sessions whose end is in the file sink's file. */
function sessionsIn(path: string): string[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { type: string; connection_id: string })
    .filter(({ type }) => type === "conn")
    .map((record) => record.connection_id);
}
