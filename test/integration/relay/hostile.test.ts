/** Peers that send garbage, floods, or nothing: a defined reply or a closed session, and no growth of memory. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { folder, freePort, Warp } from "../process/warp.ts";
import { greeted, type Listening, lines, listen, RawClient } from "./peers.ts";

const MIB = 1024 * 1024;
/** What the process may grow by, noise of the garbage collector included. */
const GROWTH = 60 * MIB;

const TIMEOUTS =
  "timeouts: { greeting: 2s, command: 2s, data_start: 2s, data_block: 2s, end_of_data: 4s, idle: 3s, drain: 1s }\nfilter: { chain_budget: 1s }";

describe("hostile peers", { timeout: 180_000 }, () => {
  it("a line of many MB without an end: 500 5.5.2, closed", async (test) => {
    const { port, warp } = await proxy(test, plain);
    const client = await greeted(port);
    const before = rss(warp);
    flood(client, "x".repeat(65536), 32 * MIB);
    assert.match(await client.reply(), /^500 5\.5\.2 /);
    await client.untilClosed();
    grown(warp, before);
  });

  it("garbage and NULs are answered line by line, or refused", async (test) => {
    const { port } = await proxy(test, plain);
    const client = await greeted(port);
    assert.match(await client.say("\x01\x7f\xff\xfe"), /^500 what/);
    assert.match(await client.say(`MAIL FROM:<${"\0".repeat(300)}>`), /^500 5\.5\.2 NUL/);
    client.write("NOOP\n");
    assert.match(await client.reply(), /^500 5\.5\.2 /);
  });

  it("a flood of empty lines, pipelined commands and bare newlines keeps memory flat", async (test) => {
    const { port, warp } = await proxy(test, plain);
    for (const text of ["\r\n", "NOOP\r\n", "a\nb\r\n"]) {
      const client = await greeted(port);
      const before = rss(warp);
      client.socket.pause(); // it never reads a reply
      flood(client, text.repeat(8192), 24 * MIB);
      await pause(1500);
      grown(warp, before);
      client.socket.destroy();
    }
  });

  it("a reply that never ends: the leg is given up, 421 4.4.2", async (test) => {
    for (const piece of ["250-more\r\n", "x"]) {
      const { port, warp } = await proxy(test, (socket) => {
        socket.write("220 mx\r\n");
        lines(socket, () => {
          socket.write("250-");
          const again = (): void => {
            while (socket.writable && socket.write(piece.repeat(4096)));
          };
          socket.on("drain", again);
          again();
        });
      });
      const before = rss(warp);
      const client = new RawClient(port);
      await client.reply();
      assert.match(await client.say("EHLO c"), /^421 4\.4\.2 /);
      grown(warp, before);
    }
  });

  it("a destination that says nothing: closed after the greeting's time", async (test) => {
    const { port } = await proxy(test, () => {});
    const client = new RawClient(port);
    assert.match(await client.reply(), /^421 4\.4\.2 /);
  });

  it("a destination that never reads: the client is stopped, memory stays flat, 421 4.4.2", async (test) => {
    const { port, warp } = await proxy(
      test,
      (socket) => {
        plain(socket, () => socket.pause());
      },
      "limits: { message: 1GiB }",
    );
    const client = await greeted(port);
    await client.say("MAIL FROM:<a@b>");
    await client.say("RCPT TO:<a@b>");
    await client.say("DATA");
    const before = rss(warp);
    const stop = flood(client, `${"x".repeat(70)}\r\n`.repeat(1000), 200 * MIB);
    await pause(1000);
    grown(warp, before);
    await pause(2500);
    stop();
    client.write("\r\n.\r\n");
    assert.match(await client.reply(), /^421 4\.4\.2 /);
    await client.untilClosed();
  });

  it("a client that stops within DATA: its leg is reset, 421, closed", async (test) => {
    let reset: unknown;
    const { port } = await proxy(test, (socket) => {
      socket.on("error", (error) => {
        reset = (error as NodeJS.ErrnoException).code;
      });
      plain(socket);
    });
    const client = await greeted(port);
    await client.say("MAIL FROM:<a@b>");
    await client.say("RCPT TO:<a@b>");
    await client.say("DATA");
    client.write("half a line");
    assert.match(await client.reply(), /^421 4\.4\.2 /);
    await client.untilClosed();
    assert.equal(reset, "ECONNRESET");
  });

  it("a message of 300 MB is streamed: the process does not grow with it", async (test) => {
    const { port, warp } = await proxy(test, plain, "limits: { message: 1GiB }");
    const client = await greeted(port);
    await client.say("MAIL FROM:<a@b>");
    await client.say("RCPT TO:<a@b>");
    await client.say("DATA");
    // What the garbage collector lets stand is there after the first part.
    let before = rss(warp);
    const line = Buffer.from(`${"x".repeat(76)}\r\n`.repeat(840));
    for (let sent = 0; sent < 300 * MIB; sent += line.length) {
      if (sent < 100 * MIB) before = rss(warp);
      if (!client.socket.write(line)) await new Promise((resolve) => client.socket.once("drain", resolve));
    }
    client.write(".\r\n");
    assert.match(await client.reply(60_000), /^250 taken/);
    grown(warp, before);
  });

  it("a client that sends one octet at a time is answered like any other, and idles out", async (test) => {
    const { port } = await proxy(test, plain);
    const client = await greeted(port);
    for (const octet of "NOOP\r\n") {
      client.write(octet);
      await pause(5);
    }
    assert.match(await client.reply(), /^250 ok/);
    assert.match(await client.reply(), /^421 4\.4\.2 /);
  });

  it("sessions beyond the limit are told 421 4.3.2, per client and in all", async (test) => {
    const { port } = await proxy(test, plain, "limits: { sessions: 3, sessions_per_client: 2 }");
    const first = await greeted(port);
    await greeted(port);
    const third = new RawClient(port);
    assert.match(await third.reply(), /^421 4\.3\.2 /);
    await third.untilClosed();
    await first.say("QUIT");
    await first.untilClosed();
    assert.match(await new RawClient(port).reply(), /^220 /);
  });
});

/** An SMTP destination without extensions; `inData` runs at the 354. */
function plain(socket: Socket, inData?: () => void): void {
  let data = false;
  socket.write("220 mx\r\n");
  lines(socket, (line) => {
    if (data) {
      if (line === ".") {
        data = false;
        socket.write("250 taken\r\n");
      }
      return;
    }
    const verb = line.slice(0, 4).toUpperCase();
    if (verb === "DATA") {
      data = true;
      socket.write("354 go\r\n");
      inData?.();
    } else if (["EHLO", "MAIL", "RCPT", "NOOP", "RSET"].includes(verb)) socket.write("250 ok\r\n");
    else if (verb === "QUIT") socket.end("221 bye\r\n");
    else socket.write("500 what\r\n");
  });
}

async function proxy(
  test: { after(run: () => unknown): void },
  serve: (socket: Socket) => void,
  more = "",
): Promise<{ warp: Warp; port: number; destination: Listening }> {
  const destination = await listen(serve);
  test.after(() => destination.close());
  const port = await freePort();
  const config = join(folder(test), "warp.yaml");
  const capture = `capture: { mode: fixed, destination: "127.0.0.1:${destination.port}" }`;
  writeFileSync(config, [`listen: ["127.0.0.1:${port}"]`, capture, TIMEOUTS, more, ""].join("\n"));
  const warp = await Warp.start(["--config", config]);
  test.after(() => warp.stop("SIGKILL"));
  return { warp, port, destination };
}

/** Writes without waiting for anything but the socket, up to so many octets. Gives what stops it. */
function flood(client: RawClient, text: string, octets: number): () => void {
  const chunk = Buffer.from(text, "latin1");
  let sent = 0;
  let stopped = false;
  const more = (): void => {
    while (!stopped && sent < octets && client.socket.writable) {
      sent += chunk.length;
      if (!client.socket.write(chunk)) return;
    }
  };
  client.socket.on("drain", more);
  more();
  return () => {
    stopped = true;
  };
}

function rss(warp: Warp): number {
  return 1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${warp.pid}/status`, "utf8"))?.[1]);
}

function grown(warp: Warp, before: number): void {
  const by = rss(warp) - before;
  assert.ok(by < GROWTH, `the process grew by ${Math.round(by / MIB)} MiB`);
}
