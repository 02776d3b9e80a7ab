/** SIGTERM: idle clients are told, transactions finish, what is left at the deadline is reset on both sides. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, writeFileSync, writeSync } from "node:fs";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { native } from "../../../src/net/native.ts";
import { Client } from "./client.ts";
import { Destination } from "./destination.ts";
import { folder, freePort, Warp } from "./warp.ts";

for (const workers of native.unavailable === undefined ? [1, 2] : [1]) {
  describe(`drain with ${workers === 1 ? "one process" : `${workers} workers`}`, { timeout: 60_000 }, () => {
    async function running(test: { after(run: () => unknown): void }, drain: string) {
      const destination = await Destination.listen();
      const port = await freePort();
      const config = `${folder(test)}/warp.yaml`;
      writeFileSync(config, `timeouts: { drain: ${drain} }\nworkers: ${workers}\n`);
      const flags = ["--ip", "127.0.0.1", "--port", `${port}`, "--destination", destination.address];
      const warp = await Warp.start([...flags, "--config", config]);
      test.after(async () => {
        await warp.stop("SIGKILL");
        destination.close();
      });
      return { destination, port, warp };
    }

    it("tells idle clients 421 4.3.2, and ends with status 0", async (test) => {
      const { destination, port, warp } = await running(test, "30s");
      const idle = await Client.connect(port);
      await idle.begin();
      assert.equal((await idle.say("RSET")).code, 250);
      warp.signal("SIGTERM");
      assert.match((await idle.reply()).text, /^421 4\.3\.2 /);
      assert.equal(await idle.ended, "closed");
      assert.equal(await warp.closed, 0);
      assert.deepEqual(destination.taken, []);
    });

    it("ends in time where nobody reads its log", async (test) => {
      const pipe = `${folder(test)}/log`;
      execFileSync("mkfifo", [pipe]);
      const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
      test.after(() => closeSync(fd));
      assert.throws(() => {
        for (;;) writeSync(fd, Buffer.alloc(4096));
      }, /EAGAIN/);
      const destination = await Destination.listen();
      test.after(() => destination.close());
      const port = await freePort();
      const flags = ["--port", `${port}`, "--destination", destination.address, "--workers", `${workers}`];
      const warp = await Warp.start(["--ip", "127.0.0.1", ...flags], { stderr: fd });
      test.after(() => warp.stop("SIGKILL"));
      const since = performance.now();
      assert.equal(await warp.stop(), 0);
      assert.ok(performance.now() - since < 10_000);
    });

    it("lets a transaction finish, and tells whoever comes meanwhile 421 4.3.2", async (test) => {
      const { destination, port, warp } = await running(test, "30s");
      const busy = await Client.connect(port);
      await busy.begin();
      assert.equal((await busy.say("DATA")).code, 354);
      busy.write("Subject: half\r\n\r\nhello\r\n");
      warp.signal("SIGTERM");
      await warp.record("stopping");
      const late = await Client.connect(port);
      assert.match((await late.reply()).text, /^421 4\.3\.2 /);
      assert.equal((await busy.say(".")).code, 250);
      assert.match((await busy.reply()).text, /^421 4\.3\.2 /);
      assert.equal(await warp.closed, 0);
      assert.deepEqual(destination.subjects, ["half"]);
    });

    it("waits for the destination's answer to a message that went out whole", async (test) => {
      const { destination, port, warp } = await running(test, "30s");
      let answer = (): void => {};
      destination.hold = () =>
        new Promise((resolve) => {
          answer = resolve;
        });
      const busy = await Client.connect(port);
      await busy.begin();
      await busy.say("DATA");
      busy.write("Subject: slow\r\n\r\nhello\r\n.\r\n");
      await destination.until(() => destination.taken.length === 1);
      warp.signal("SIGTERM");
      await warp.record("stopping");
      answer();
      assert.equal((await busy.reply()).code, 250);
      assert.equal(await warp.closed, 0);
    });

    it("resets what is unfinished at the deadline: no end of data that the client did not send", async (test) => {
      const { destination, port, warp } = await running(test, "500ms");
      const stuck = await Client.connect(port);
      await stuck.begin();
      await stuck.say("DATA");
      stuck.write("Subject: never\r\n\r\nhalf a mess");
      warp.signal("SIGTERM");
      assert.equal(await stuck.ended, "ECONNRESET");
      assert.equal(await warp.closed, 0);
      await destination.until(() => destination.ends.length === 1);
      assert.deepEqual(destination.ends, ["ECONNRESET"]);
      assert.deepEqual(destination.taken, []);
    });

    it("ends at once at the second signal", async (test) => {
      const { port, warp } = await running(test, "30s");
      const stuck = await Client.connect(port);
      await stuck.begin();
      await stuck.say("DATA");
      warp.signal("SIGTERM");
      await warp.record("stopping");
      warp.signal("SIGTERM"); // right behind the first it is the same one, as a process group passes it on
      await pause(700);
      assert.equal(warp.child.exitCode, null);
      warp.signal("SIGTERM");
      assert.equal(await warp.closed, 1);
      await stuck.ended;
    });
  });
}
