/** What a reload brings, and what stays until a restart. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { afterReload } from "../../../../src/cli/proxy/reload-check.ts";
import { parseConfig } from "../../../../src/config/parse.ts";
import type { Config } from "../../../../src/config/schema.ts";

function config(document: Record<string, unknown>): Config {
  const result = parseConfig(document, {
    hostname: "host.test",
    listenIsDefault: document.listen === undefined,
  });
  assert.ok(result.config, JSON.stringify(result));
  return result.config;
}

describe("afterReload", () => {
  it("takes everything where nothing fixed has changed", () => {
    const wanted = config({ clients: ["10.0.0.0/8"], limits: { sessions: 7 }, timeouts: { drain: "5s" } });
    assert.deepEqual(afterReload(config({}), wanted), { config: wanted, later: [] });
  });

  it("names each fixed setting by its name in the file, and keeps what runs", () => {
    const running = config({});
    const wanted = config({
      proxy: "other",
      listen: ["127.0.0.1:2525"],
      workers: 3,
      capture: { mode: "tproxy" },
      clients: ["10.0.0.0/8"],
      journal: { dir: "/var/lib/warp/journal" },
      redis: { url: "redis://127.0.0.1/0" },
      reputation: { dwell: "1m", identity: "client" },
      log: { format: "text", level: "debug" },
      metrics: { listen: "127.0.0.1:9625" },
    });
    const { config: result, later } = afterReload(running, wanted);
    assert.deepEqual(later, [
      "proxy",
      "listen",
      "workers",
      "capture.mode",
      "journal",
      "redis",
      "reputation.dwell",
      "log.format",
      "metrics",
    ]);
    assert.equal(result.proxy, running.proxy);
    assert.deepEqual(result.listen, running.listen);
    assert.equal(result.capture.mode, "redirect");
    assert.equal(result.reputation.dwellMs, running.reputation.dwellMs);
    assert.deepEqual(result.reputation.identity, wanted.reputation.identity);
    assert.equal(result.log.level, "debug");
    assert.deepEqual(result.clients, wanted.clients);
  });

  it("keeps mode and destination together, and takes the rest of capture", () => {
    const running = config({ capture: { destination: "127.0.0.1:2500", ports: [25] } });
    const wanted = config({ capture: { mode: "redirect", ports: [25, 26], mark: 5 } });
    const { config: result, later } = afterReload(running, wanted);
    assert.deepEqual(later, ["capture.mode"]);
    assert.deepEqual(result.capture, {
      ...wanted.capture,
      mode: "fixed",
      destination: running.capture.destination,
    });
    const elsewhere = config({ capture: { destination: "127.0.0.1:2501", ports: [25] } });
    assert.deepEqual(afterReload(running, elsewhere), { config: elsewhere, later: [] });
  });

  it("minds a plugin's settings where the plugin runs", () => {
    const file = (path: string, plugins: string[]) => config({ plugins, file: { path } });
    assert.deepEqual(afterReload(file("/a", []), file("/b", [])).later, []);
    assert.deepEqual(afterReload(file("/a", ["file"]), file("/b", ["file"])).later, ["file"]);
  });

  it("names it again at the next reload, as long as it was not restarted", () => {
    const running = config({});
    const wanted = config({ workers: 2 });
    const first = afterReload(running, wanted);
    assert.deepEqual(afterReload(first.config, wanted).later, ["workers"]);
  });
});
