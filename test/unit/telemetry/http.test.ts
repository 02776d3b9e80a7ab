import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, describe, it } from "node:test";
import { serveTelemetry, type TelemetryServer } from "../../../src/telemetry/http.ts";

const servers: TelemetryServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

async function serve(
  notReady: readonly string[] = [],
  metrics = async () => "warp_workers 1\n",
): Promise<string> {
  const server = await serveTelemetry({ ip: "127.0.0.1", port: 0 }, { metrics, notReady: () => notReady });
  servers.push(server);
  return `http://127.0.0.1:${server.address.port}`;
}

describe("the HTTP server of metrics and health", () => {
  it("serves the metrics with the type that Prometheus expects", async () => {
    const response = await fetch(`${await serve()}/metrics`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert.equal(await response.text(), "warp_workers 1\n");
  });

  it("says that it lives and that it is ready", async () => {
    const base = await serve();
    assert.deepEqual(
      [(await fetch(`${base}/healthz`)).status, (await fetch(`${base}/readyz?x`)).status],
      [200, 200],
    );
  });

  it("says why it isn't ready, while it lives", async () => {
    const base = await serve(["stopping", "filter rspamd is down"]);
    const response = await fetch(`${base}/readyz`);
    assert.equal(response.status, 503);
    assert.equal(await response.text(), "stopping\nfilter rspamd is down\n");
    assert.equal((await fetch(`${base}/healthz`)).status, 200);
  });

  it("refuses other paths and methods, and answers HEAD without a body", async () => {
    const base = await serve();
    assert.equal((await fetch(`${base}/`)).status, 404);
    const post = await fetch(`${base}/metrics`, { method: "POST", body: "x" });
    assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET, HEAD"]);
    const head = await fetch(`${base}/metrics`, { method: "HEAD" });
    assert.deepEqual([head.status, await head.text()], [200, ""]);
  });

  it("answers 500 when the metrics can't be had, and lives on", async () => {
    const base = await serve([], () => Promise.reject(new Error("worker 2 did not answer")));
    const response = await fetch(`${base}/metrics`);
    assert.deepEqual([response.status, await response.text()], [500, "worker 2 did not answer\n"]);
    assert.equal((await fetch(`${base}/healthz`)).status, 200);
  });

  it("makes one answer at a time on a connection: thousands of requests in one segment are none", async () => {
    let made = 0;
    const base = await serve([], async () => `${++made}\n`);
    const socket = connect(Number(new URL(base).port), "127.0.0.1");
    socket.on("error", () => {});
    socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000));
    socket.resume();
    await once(socket, "close");
    assert.equal(made, 1);
    for (let i = 0; i < 20; i++) assert.equal((await fetch(`${base}/healthz`)).status, 200);
  });

  it("rejects when the address is taken", async () => {
    const { port } = new URL(await serve());
    const again = serveTelemetry(
      { ip: "127.0.0.1", port: Number(port) },
      { metrics: async () => "", notReady: () => [] },
    );
    await assert.rejects(again, { code: "EADDRINUSE" });
  });
});
