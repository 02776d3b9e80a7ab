/** SIGHUP: new sessions see the new file; what cannot change is named; a wrong file changes nothing. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { describe, it } from "node:test";
import * as tls from "node:tls";
import { native } from "../../../src/net/native.ts";
import { type HookServer, reject, serveHook } from "../../../src/sdk/index.ts";
import { Client, sendOne } from "./client.ts";
import { Destination } from "./destination.ts";
import { folder, freePort, Warp } from "./warp.ts";

interface Running {
  readonly destination: Destination;
  readonly port: number;
  readonly metrics: number;
  readonly warp: Warp;
  readonly folder: string;
  readonly config: string;
  /** Writes the file and reloads; resolves with the code of the answer. */
  reload(text: string): Promise<"reloaded" | "reload_failed">;
}

async function running(
  test: { after(run: () => unknown): void },
  workers: number,
  text: string,
): Promise<Running> {
  const destination = await Destination.listen();
  const port = await freePort();
  const metrics = await freePort();
  const path = folder(test);
  const config = `${path}/warp.yaml`;
  writeFileSync(config, text);
  const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address];
  const own = ["--workers", `${workers}`, "--metrics", `127.0.0.1:${metrics}`, "--config", config];
  const warp = await Warp.start([...flags, ...own]);
  test.after(async () => {
    await warp.stop("SIGKILL");
    destination.close();
  });
  const reload = async (next: string): Promise<"reloaded" | "reload_failed"> => {
    writeFileSync(config, next);
    const from = warp.lines.length;
    warp.signal("SIGHUP");
    const line = await warp.line(/"code":"(?:reloaded|reload_failed)"/, from);
    return line.includes('"reloaded"') ? "reloaded" : "reload_failed";
  };
  return { destination, port, metrics, warp, folder: path, config, reload };
}

async function greeting(port: number): Promise<string> {
  const client = await Client.connect(port);
  const { text } = await client.reply();
  client.close();
  return text;
}

for (const workers of native.unavailable === undefined ? [1, 2] : [1]) {
  describe(`reload with ${workers === 1 ? "one process" : `${workers} workers`}`, { timeout: 60_000 }, () => {
    it("gives new sessions the new file, and leaves running ones with theirs", async (test) => {
      const { port, metrics, reload } = await running(test, workers, "clients: [127.0.0.0/8]\n");
      const old = await Client.connect(port);
      assert.equal((await old.reply()).code, 220);
      assert.equal(await reload("clients: [192.0.2.0/24]\n"), "reloaded");
      assert.match(await greeting(port), /^421 4\.7\.1 /);
      assert.equal((await old.say("EHLO client.test")).code, 250);
      old.close();
      assert.equal(await reload("clients: [127.0.0.0/8]\n"), "reloaded");
      assert.match(await greeting(port), /^220 /);
      const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
      assert.match(text, /^warp_config_reloads_total\{result="ok"\} 2$/m);
    });

    it("changes nothing with a wrong file, and says what is wrong", async (test) => {
      const { port, metrics, warp, config, reload } = await running(
        test,
        workers,
        "limits: { sessions: 100 }\n",
      );
      assert.equal(await reload("clients: [192.0.2.0/24]\nlimits: { sesions: 5 }\n"), "reload_failed");
      const [record] = warp.records("reload_failed");
      assert.match(String(record?.msg), new RegExp(`^nothing was changed: ${config}:2: limits\\.sesions`));
      assert.match(await greeting(port), /^220 /);
      const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
      assert.match(text, /^warp_config_reloads_total\{result="failed"\} 1$/m);
    });

    it("names what needs a restart, and takes the rest", async (test) => {
      const { port, warp, reload } = await running(test, workers, "proxy: one\n");
      const next = "proxy: two\nlog: { format: text }\nclients: [192.0.2.0/24]\n";
      assert.equal(await reload(next), "reloaded");
      const named = warp.records("reload_needs_restart").map(({ setting }) => setting);
      assert.deepEqual(named, ["proxy", "log.format"]);
      assert.match(await greeting(port), /^421 4\.7\.1 /);
    });

    it("adds, changes and removes a filter; no message goes around it", async (test) => {
      const { destination, port, warp, folder: path, reload } = await running(test, workers, "# no hooks");
      const filter = await rejecting(test, `unix:${path}/filter.sock`, "550 5.7.1 no");
      const hooks = `hooks: [{ name: f, address: "unix:${path}/filter.sock", roles: [filter] }]\n`;
      await sendOne(port, "unfiltered");
      const old = await Client.connect(port);
      await old.begin();
      assert.equal(await reload(hooks), "reloaded");
      await assert.rejects(sendOne(port, "refused"), { code: "550" });
      // The session that was there before keeps its (empty) chain.
      assert.equal((await old.say("DATA")).code, 354);
      assert.equal((await old.say("Subject: old\r\n\r\nx\r\n.")).code, 250);
      old.close();
      await filter.close(0);
      // A filter that is gone is no reason to let mail pass.
      assert.equal(await reload(hooks.replace("name: f,", "name: f, deadline: 2s,")), "reloaded");
      await assert.rejects(sendOne(port, "deferred"), { code: "451" });
      assert.equal(await reload("# no hooks"), "reloaded");
      await sendOne(port, "unfiltered again");
      assert.deepEqual(destination.subjects, ["unfiltered", "old", "unfiltered again"]);
      assert.equal(await warp.stop(), 0);
    });

    it("lets nobody in whose session would begin behind a stop that came meanwhile", async (test) => {
      const { port, warp, config } = await running(test, workers, "timeouts: { drain: 20s }\n");
      const old = await Client.connect(port);
      await old.begin();
      assert.equal((await old.say("DATA")).code, 354);
      // It answers nothing, so that the reload waits for it.
      const silent = createServer().listen(0, "127.0.0.1");
      test.after(() => silent.close());
      await once(silent, "listening");
      const { port: hookPort } = silent.address() as AddressInfo;
      let asked = 0;
      const allAsk = new Promise<void>((resolve) => {
        silent.on("connection", () => {
          asked++;
          if (asked === workers) resolve();
        });
      });
      writeFileSync(
        config,
        `timeouts: { drain: 20s }\nhooks: [{ name: f, address: "127.0.0.1:${hookPort}", roles: [filter] }]\n`,
      );
      warp.signal("SIGHUP");
      await allAsk;
      warp.signal("SIGTERM");
      await warp.line(/"code":"(?:reloaded|reload_failed)"/);
      assert.match(await greeting(port), /^421 4\.3\.2 /);
      assert.equal((await old.say("Subject: old\r\n\r\nx\r\n.")).code, 250);
      assert.equal(await warp.closed, 0);
    });
  });
}

describe("downstream certificate", { timeout: 60_000 }, () => {
  it("is read again when its file changes, without a signal", async (test) => {
    const path = folder(test);
    certificate(path, "one.test");
    const text = `downstream_tls: { cert: ${path}/tls.crt, key: ${path}/tls.key }\n`;
    const { port } = await running(test, 1, text);
    assert.equal(await shownName(port), "one.test");
    certificate(path, "two.test");
    const until = performance.now() + 15_000;
    while ((await shownName(port)) !== "two.test") {
      assert.ok(performance.now() < until, "still the old certificate");
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  });
});

/** A filter that refuses everything. */
async function rejecting(
  test: { after(run: () => unknown): void },
  address: string,
  reply: string,
): Promise<HookServer> {
  const server = await serveHook({ name: "rejecting", listen: address, beforeRelay: () => reject(reply) });
  test.after(() => server.close(0));
  return server;
}

function certificate(path: string, name: string): void {
  const kind = [
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "30",
  ];
  const files = ["-keyout", `${path}/new.key`, "-out", `${path}/new.crt`];
  execFileSync("openssl", ["req", ...kind, "-subj", `/CN=${name}`, ...files], { stdio: "pipe" });
  renameSync(`${path}/new.key`, `${path}/tls.key`);
  renameSync(`${path}/new.crt`, `${path}/tls.crt`);
}

/** CN of the certificate that STARTTLS shows. */
async function shownName(port: number): Promise<string> {
  const client = await Client.connect(port);
  await client.reply();
  await client.say("EHLO client.test");
  assert.equal((await client.say("STARTTLS")).code, 220);
  client.socket.removeAllListeners("data");
  const secure = tls.connect({ socket: client.socket, rejectUnauthorized: false });
  await new Promise((resolve, reject) => secure.once("secureConnect", resolve).once("error", reject));
  const name = String(secure.getPeerCertificate().subject.CN);
  secure.destroy();
  client.close();
  return name;
}
