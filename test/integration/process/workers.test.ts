/** Workers under a primary: supervised, limited together, counted together. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { native } from "../../../src/net/native.ts";
import { Client, Crowd, sendOne } from "./client.ts";
import { Destination } from "./destination.ts";
import { folder, freePort, Warp } from "./warp.ts";

const skip = native.unavailable === undefined ? false : native.unavailable;

interface Running {
  readonly warp: Warp;
  readonly destination: Destination;
  readonly port: number;
  readonly metrics: number;
}

async function running(
  test: { after(run: () => unknown): void },
  workers: number,
  ...more: string[]
): Promise<Running> {
  const destination = await Destination.listen();
  const port = await freePort();
  const metrics = await freePort();
  const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address];
  const own = ["--workers", `${workers}`, "--metrics", `127.0.0.1:${metrics}`];
  const warp = await Warp.start([...flags, ...own, ...more]);
  test.after(async () => {
    await warp.stop("SIGKILL");
    destination.close();
  });
  return { warp, destination, port, metrics };
}

/** Process ids of the workers: the children of the primary that run worker.ts. */
function workerPids(warp: Warp): number[] {
  return readFileSync(`/proc/${warp.pid}/task/${warp.pid}/children`, "utf8")
    .trim()
    .split(" ")
    .filter((pid) => /worker\.[tj]s/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")))
    .map(Number);
}

async function scrape(port: number): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))] as const;
      }),
  );
}

describe("workers", { skip, timeout: 60_000 }, () => {
  it("share the connections, log with their numbers, and are summed in /metrics", async (test) => {
    const { warp, destination, port, metrics } = await running(test, 2);
    for (let count = 0; count < 40; count++) await sendOne(port, `message-${count}`, "x".repeat(1000));
    assert.equal(destination.taken.length, 40);
    await destination.until(() => destination.connections === 0);
    const workers = new Set(warp.records("delivery").map(({ worker }) => worker));
    assert.deepEqual(workers, new Set([0, 1]));
    const found = await scrape(metrics);
    assert.equal(found.get('warp_sessions_total{result="served"}'), 40);
    assert.equal(found.get('warp_transactions_total{outcome="accepted"}'), 40);
    assert.equal(found.get("warp_message_octets_count"), 40);
    assert.equal(found.get("warp_sessions_active"), 0);
    assert.equal(found.get("warp_workers"), 2);
    assert.equal((await fetch(`http://127.0.0.1:${metrics}/readyz`)).status, 200);
    assert.equal(await warp.stop(), 0);
  });

  it("hold the limit of sessions per client together, however the kernel spreads them", async (test) => {
    const { warp, port } = await running(test, 2, "--config", limitedTo(test, 5));
    const clients: Client[] = [];
    const codes: number[] = [];
    for (let count = 0; count < 12; count++) {
      const client = await Client.connect(port);
      clients.push(client);
      codes.push((await client.reply()).code);
    }
    assert.deepEqual(codes, [...Array<number>(5).fill(220), ...Array<number>(7).fill(421)]);
    for (const client of clients) client.close();
    assert.equal(await warp.stop(), 0);
  });

  it("survive kill -9 of one under load: it is started again, the others go on, counts do not fall", async (test) => {
    const { warp, destination, port, metrics } = await running(test, 2);
    for (let count = 0; count < 20; count++) await sendOne(port, `first-${count}`);
    const before = (await scrape(metrics)).get('warp_transactions_total{outcome="accepted"}') ?? 0;
    const [victim = 0, other = 0] = workerPids(warp);
    const crowd = new Crowd(port, 3);
    test.after(() => crowd.abandon());
    await destination.until(() => destination.taken.length > 40);
    process.kill(victim, "SIGKILL");
    const record = await warp.record("worker_ended");
    assert.match(String(record.msg), /SIGKILL/);
    const reached = destination.taken.length;
    await destination.until(() => destination.taken.length > reached + 50);
    await crowd.stop();
    // A connection that the killed one had is lost; nobody is refused, and nothing that was accepted is.
    assert.equal(crowd.trouble("ECONNREFUSED"), 0);
    const arrived = new Set(destination.subjects);
    assert.deepEqual(
      crowd.accepted.filter((subject) => !arrived.has(subject)),
      [],
    );
    await untilReady(metrics);
    const pids = workerPids(warp);
    assert.equal(pids.length, 2);
    assert.ok(pids.includes(other) && !pids.includes(victim));
    const after = (await scrape(metrics)).get('warp_transactions_total{outcome="accepted"}') ?? 0;
    assert.ok(after >= before + 20, `${before} accepted before, ${after} after`);
    assert.equal((await scrape(metrics)).get("warp_sessions_active"), 0);
    assert.equal(await warp.stop(), 0);
  });

  it("end when the primary is killed, and transactions finish", async (test) => {
    const { warp, destination, port } = await running(test, 2);
    const client = await Client.connect(port);
    await client.begin();
    assert.equal((await client.say("DATA")).code, 354);
    const pids = workerPids(warp);
    warp.signal("SIGKILL");
    assert.equal((await client.say("Subject: late\r\n\r\nhello\r\n.")).code, 250);
    assert.deepEqual(destination.subjects, ["late"]);
    await client.ended;
    for (const pid of pids) await untilGone(pid);
  });

  it("end when the primary is killed while they start", async (test) => {
    const destination = await Destination.listen();
    // A hook that says nothing: each worker waits for it before it is ready.
    const hook = createServer().listen(0, "127.0.0.1");
    test.after(() => {
      destination.close();
      hook.close();
    });
    await once(hook, "listening");
    const ports = ["--port", `${await freePort()}`, "--destination", destination.address];
    const filter = ["--filter", `a=127.0.0.1:${(hook.address() as AddressInfo).port}`];
    const warp = Warp.launch(["--ip", "127.0.0.1", ...ports, ...filter, "--workers", "2"]);
    for (let waiting = 0; waiting < 2; waiting++) await once(hook, "connection");
    const pids = workerPids(warp);
    warp.signal("SIGKILL");
    test.after(() => {
      for (const pid of pids.filter((each) => !isGone(each))) process.kill(pid, "SIGKILL");
    });
    for (const pid of pids) await untilGone(pid);
  });

  it("make the start fail, with one plain line, where one of them cannot start", async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const flags = [
      "--ip",
      "127.0.0.1",
      "--port",
      `${await freePort()}`,
      "--destination",
      destination.address,
    ];
    const hook = ["--filter", "a=unix:/nowhere.sock", "--config", spoolIn(test, "/proc")];
    const warp = Warp.launch([...flags, ...hook, "--workers", "2"]);
    assert.equal(await warp.closed, 1);
    assert.match(warp.lines.at(-1) ?? "", /^warp: filter\.spool: cannot make files in \/proc/);
  });
});

describe("a worker that hangs", { skip, timeout: 120_000 }, () => {
  it("is replaced by its siblings, then killed and started again; metrics and /readyz say so", async (test) => {
    const { warp, destination, port, metrics } = await running(test, 2);
    const [victim = 0, other = 0] = workerPids(warp);
    process.kill(victim, "SIGSTOP");
    const { worker } = await warp.record("worker_silent");
    const readyz = await fetch(`http://127.0.0.1:${metrics}/readyz`);
    assert.equal(readyz.status, 503);
    assert.match(await readyz.text(), new RegExp(`worker ${worker} does not answer`));
    const found = await scrape(metrics);
    assert.deepEqual([found.get("warp_workers"), found.get("warp_workers_configured")], [1, 2]);
    for (let count = 0; count < 20; count++) await sendOne(port, `meanwhile-${count}`);
    // One that comes back in time keeps its place.
    process.kill(victim, "SIGCONT");
    await warp.record("worker_back");
    await untilReady(metrics);
    assert.ok(workerPids(warp).includes(victim));
    process.kill(victim, "SIGSTOP");
    await pause(20_000);
    assert.equal((await warp.record("worker_hung")).worker, worker);
    await untilReady(metrics);
    const pids = workerPids(warp);
    assert.ok(pids.length === 2 && pids.includes(other) && !pids.includes(victim));
    for (let count = 0; count < 20; count++) await sendOne(port, `after-${count}`);
    assert.equal(destination.taken.length, 40);
    assert.equal(await warp.stop(), 0);
  });
});

function limitedTo(test: { after(run: () => void): void }, sessions: number): string {
  return file(test, `limits: { sessions_per_client: ${sessions} }\n`);
}

function spoolIn(test: { after(run: () => void): void }, directory: string): string {
  return file(test, `filter: { spool: ${directory} }\n`);
}

function file(test: { after(run: () => void): void }, text: string): string {
  const path = `${folder(test)}/warp.yaml`;
  writeFileSync(path, text);
  return path;
}

async function untilReady(port: number): Promise<void> {
  const until = performance.now() + 20_000;
  while ((await fetch(`http://127.0.0.1:${port}/readyz`)).status !== 200) {
    if (performance.now() > until) throw new Error("not ready");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function untilGone(pid: number): Promise<void> {
  const until = performance.now() + 20_000;
  while (!isGone(pid)) {
    if (performance.now() > until) throw new Error(`process ${pid} is still there`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}
