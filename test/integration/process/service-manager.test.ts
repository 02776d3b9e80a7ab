/** What systemd relies on: sd_notify, socket activation; and what a start says that cannot succeed. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { native } from "../../../src/net/native.ts";
import { Client, sendOne } from "./client.ts";
import { Destination } from "./destination.ts";
import { folder, freePort, main, Warp } from "./warp.ts";

const skip = native.unavailable === undefined ? false : native.unavailable;

/** The service manager's end of NOTIFY_SOCKET; Node has no such sockets, python3 has. */
class FakeManager {
  readonly path: string;
  readonly messages: string[] = [];
  private readonly child: ChildProcess;
  private readonly waiting = new Set<() => void>();

  private constructor(path: string, child: ChildProcess) {
    this.path = path;
    this.child = child;
  }

  static async listen(path: string): Promise<FakeManager> {
    const program =
      "import json,socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\n" +
      "print('ready',flush=True)\nwhile True: print(json.dumps(s.recv(4096).decode()),flush=True)\n";
    const child = spawn("python3", ["-c", program, path], { stdio: ["ignore", "pipe", "inherit"] });
    const manager = new FakeManager(path, child);
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    await once(lines, "line");
    lines.on("line", (line) => {
      manager.messages.push(JSON.parse(line) as string);
      for (const look of [...manager.waiting]) look();
    });
    return manager;
  }

  async until(test: (messages: readonly string[]) => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`in vain: ${JSON.stringify(this.messages)}`)), 20_000);
      const look = (): void => {
        if (!test(this.messages)) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
      look();
    });
  }

  close(): void {
    this.child.kill("SIGKILL");
  }
}

async function setUp(test: { after(run: () => unknown): void }) {
  const destination = await Destination.listen();
  test.after(() => destination.close());
  const port = await freePort();
  const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address];
  return { destination, port, flags };
}

describe("sd_notify", { skip, timeout: 60_000 }, () => {
  it("tells of ready, reloading, the watchdog and stopping", async (test) => {
    const manager = await FakeManager.listen(`${folder(test)}/notify`);
    test.after(() => manager.close());
    const { flags } = await setUp(test);
    const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: "200000" };
    const warp = await Warp.start(flags, { env });
    test.after(() => warp.stop("SIGKILL"));
    await manager.until((messages) => messages.some((text) => text.startsWith("READY=1\n")));
    assert.match(
      manager.messages.find((text) => text.startsWith("READY=1")) ?? "",
      new RegExp(`MAINPID=${warp.pid}\n`),
    );
    await manager.until((messages) => messages.filter((text) => text === "WATCHDOG=1").length > 1);
    const from = manager.messages.length;
    warp.signal("SIGHUP");
    await manager.until((messages) => messages.slice(from).some((text) => text.startsWith("READY=1")));
    assert.match(manager.messages.slice(from).join("\n"), /RELOADING=1\nMONOTONIC_USEC=\d+\n[\s\S]*READY=1/);
    assert.equal(await warp.stop(), 0);
    await manager.until((messages) => messages.some((text) => text.startsWith("STOPPING=1")));
  });

  it("names the new main process at a restart, and the old one is silent about its end", async (test) => {
    const manager = await FakeManager.listen(`${folder(test)}/notify`);
    test.after(() => manager.close());
    const { flags } = await setUp(test);
    const before = await Warp.start(flags, { env: { NOTIFY_SOCKET: manager.path } });
    test.after(() => before.stop("SIGKILL"));
    const after = await Warp.start(flags, { env: { NOTIFY_SOCKET: manager.path } });
    test.after(() => after.stop("SIGKILL"));
    assert.equal(await before.closed, 0);
    await manager.until((messages) => messages.some((text) => text.includes(`MAINPID=${after.pid}\n`)));
    const ofAfter = manager.messages.filter((text) => text.includes(`MAINPID=${after.pid}`));
    assert.equal(
      ofAfter[0],
      `MAINPID=${after.pid}`,
      "said before the old one is told, which may end at once",
    );
    assert.ok(!manager.messages.some((text) => text.startsWith("STOPPING")));
    assert.equal(await after.stop(), 0);
  });
});

describe("socket activation", { skip, timeout: 60_000 }, () => {
  for (const workers of [1, 2]) {
    it(`serves from the sockets that it is given, with ${workers} ${workers === 1 ? "process" : "workers"}`, async (test) => {
      const destination = await Destination.listen();
      test.after(() => destination.close());
      const fd = native.createListener({ ip: "127.0.0.1", port: 0 });
      test.after(() => native.closeFd(fd));
      const { port } = native.listeningAddress(fd);
      // LISTEN_PID is the process that is started: only a shell that becomes it knows the number.
      const shell = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh"];
      const flags = ["--destination", destination.address, "--workers", `${workers}`];
      const start = () => Warp.start(flags, { fds: [fd], under: shell });
      const first = await start();
      test.after(() => first.stop("SIGKILL"));
      assert.ok(first.lines.includes(`warp listens to 127.0.0.1:${port}`));
      await sendOne(port, "one");
      assert.equal(await first.stop(), 0);
      // The service manager still has the socket: who connects now waits for the next process.
      const waiting = await Client.connect(port);
      const second = await start();
      test.after(() => second.stop("SIGKILL"));
      assert.equal((await waiting.reply()).code, 220);
      waiting.close();
      // A restart from within has the socket from the one before it, and leaves it to the service manager in the end.
      second.signal("SIGUSR2");
      const pid = Number(/process (\d+)/.exec(String((await second.record("restarting")).msg))?.[1]);
      test.after(() => endProcess(pid));
      await second.record("superseded");
      await second.listensAgain();
      await sendOne(port, "two");
      process.kill(pid, "SIGTERM");
      assert.equal(await second.closed, 0);
      const late = await Client.connect(port);
      late.close();
      assert.deepEqual(destination.subjects, ["one", "two"]);
    });
  }
});

describe("socket activation beside --port", { skip, timeout: 60_000 }, () => {
  it("says that the sockets count, and not another port", async (test) => {
    const fd = native.createListener({ ip: "127.0.0.1", port: 0 });
    test.after(() => native.closeFd(fd));
    const { port } = native.listeningAddress(fd);
    const shell = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh"];
    for (const [said, warnings] of [
      [await freePort(), 1],
      [port, 0],
    ] as const) {
      const flags = ["--destination", "127.0.0.1:9", "--port", `${said}`];
      const warp = await Warp.start(flags, { fds: [fd], under: shell });
      test.after(() => warp.stop("SIGKILL"));
      await warp.line(new RegExp(`^warp listens to 127\\.0\\.0\\.1:${port}$`));
      assert.equal(await warp.stop(), 0);
      const records = warp.records("port_not_used");
      assert.equal(records.length, warnings);
      const text = `port ${said} is not used: the service manager gave us 127.0.0.1:${port}`;
      if (warnings > 0) assert.equal(records[0]?.msg, text);
    }
  });
});

function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended
  }
}

describe("a start that cannot succeed says why in one plain line, with status 1", { timeout: 60_000 }, () => {
  async function failure(flags: readonly string[], under: readonly string[] = []): Promise<string> {
    const warp = Warp.launch(flags, { under });
    const status = await warp.closed;
    assert.equal(status, 1, warp.lines.join("\n"));
    assert.ok(!warp.lines.some((line) => line.startsWith("warp listens")));
    const plain = warp.lines.filter((line) => line.startsWith("warp: "));
    assert.equal(plain.length, 1, warp.lines.join("\n"));
    return plain[0] as string;
  }
  const fixed = ["--destination", "127.0.0.1:9", "--ip", "127.0.0.1"];

  it("another program listens there", async (test) => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    test.after(() => server.close());
    const { port } = server.address() as { port: number };
    for (const workers of skip === false ? ["1", "2"] : ["1"]) {
      const line = await failure([...fixed, "--port", `${port}`, "--workers", workers]);
      assert.match(line, new RegExp(`^warp: listen: cannot listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`));
    }
  });

  it("this host does not have the address", async () => {
    const line = await failure(["--destination", "127.0.0.1:9", "--ip", "192.0.2.1", "--port", "10025"]);
    assert.match(line, /^warp: listen: cannot listen on 192\.0\.2\.1:10025: .*EADDRNOTAVAIL/);
  });

  it("the certificate cannot be read", async () => {
    const line = await failure([...fixed, "--tls-cert", "/nowhere/tls.crt", "--tls-key", main]);
    assert.match(line, /tls-cert.*\/nowhere\/tls\.crt/);
  });

  it("the spool or the journal cannot be written", async (test) => {
    const path = folder(test);
    writeFileSync(`${path}/warp.yaml`, `filter: { spool: ${path}/warp.yaml/spool }\n`);
    chmodSync(path, 0o755);
    assert.match(
      await failure([...fixed, "--filter", "a=unix:/x.sock", "--config", `${path}/warp.yaml`]),
      /filter\.spool/,
    );
    assert.match(
      await failure([...fixed, "--observer", "a=unix:/x.sock", "--journal", `${path}/warp.yaml/journal`]),
      /journal/,
    );
    if (process.platform !== "linux") return;
    assert.match(
      await failure([...fixed, "--observer", "a=unix:/x.sock", "--journal", "/proc/warp/journal"]),
      /journal.*\/proc\/warp/,
    );
  });

  it("a plugin's file cannot be opened", async () => {
    const warp = Warp.launch([...fixed, "--port", `${await freePort()}`, "--plugins", "file"], {
      env: { FILE_PATH: "/nowhere/warp.log" },
    });
    assert.equal(await warp.closed, 1);
    assert.match(warp.lines.at(-1) ?? "", /\/nowhere\/warp\.log/);
  });

  it("redirect has no right to mark: it runs, and says so", {
    skip: process.getuid?.() !== 0 || skip,
  }, async (test) => {
    const flags = ["--ip", "127.0.0.1", "--port", `${await freePort()}`];
    const warp = await Warp.start(flags, { under: ["setpriv", "--bounding-set=-net_admin,-net_raw"] });
    test.after(() => warp.stop("SIGKILL"));
    assert.match(String((await warp.record("no_mark")).msg), /CAP_NET_ADMIN/);
    assert.equal(await warp.stop(), 0);
  });

  it("too few descriptors: it serves whom it can, says so, and tells the others 421", {
    skip: process.platform !== "linux",
  }, async (test) => {
    const destination = await Destination.listen();
    test.after(() => destination.close());
    const port = await freePort();
    const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address];
    const warp = await Warp.start(flags, { under: ["sh", "-c", 'ulimit -n 120; exec "$@"', "sh"] });
    test.after(() => warp.stop("SIGKILL"));
    assert.match(String((await warp.record("few_descriptors")).msg), /limits\.sessions: was 5000.* 120 desc/);
    const codes: number[] = [];
    const clients: Client[] = [];
    for (let count = 0; count < 40; count++) {
      const client = await Client.connect(port);
      clients.push(client);
      codes.push((await client.reply()).code);
    }
    const served = codes.filter((code) => code === 220).length;
    assert.ok(served >= 10 && served < 40, `${served} served`);
    assert.deepEqual(codes, [...Array<number>(served).fill(220), ...Array<number>(40 - served).fill(421)]);
    for (const client of clients) client.close();
    assert.equal(await warp.stop(), 0);
  });

  it("tproxy has no right to listen for others' addresses", {
    skip: process.getuid?.() !== 0 || skip,
  }, async () => {
    const line = await failure(
      ["--mode", "tproxy", "--ip", "127.0.0.1", "--port", `${await freePort()}`],
      ["setpriv", "--bounding-set=-net_admin,-net_raw"],
    );
    assert.match(line, /capture\.mode tproxy needs CAP_NET_ADMIN/);
  });
});
