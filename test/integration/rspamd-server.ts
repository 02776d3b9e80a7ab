/** A real Rspamd on a free loopback port, with a few rules of its own, no maps, and no way to ask the DNS. */
import { spawn, spawnSync } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function hasRspamd(): boolean {
  return spawnSync("rspamd", ["--version"]).error === undefined;
}

export interface Rspamd {
  readonly url: string;
  stop(): Promise<void>;
}

/** Resolves once it answers. */
export async function startRspamd(): Promise<Rspamd> {
  const folder = await mkdtemp(join(tmpdir(), "warp-rspamd-"));
  const port = await freePort();
  await writeFile(join(folder, "rules.lua"), RULES);
  await writeFile(join(folder, "rspamd.conf"), configuration(folder, port));
  const asRoot = process.getuid?.() === 0;
  if (asRoot) spawnSync("chown", ["-R", "_rspamd", folder]);
  await chmod(folder, 0o755);
  const user = asRoot ? ["-i", "-u", "_rspamd", "-g", "_rspamd"] : [];
  const child = spawn("rspamd", ["-f", ...user, "-c", join(folder, "rspamd.conf")], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => (log += text));
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const kill = setTimeout(() => child.kill("SIGKILL"), 5000);
    await exited;
    clearTimeout(kill);
    await rm(folder, { recursive: true, force: true });
  };
  const url = `http://127.0.0.1:${port}`;
  for (const deadline = Date.now() + 60_000; ; ) {
    if (await pings(url)) return { url, stop };
    if (Date.now() > deadline || child.exitCode !== null) {
      await stop();
      throw new Error(`rspamd did not start:\n${log.slice(-4000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function pings(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/ping`)).ok;
  } catch {
    return false;
  }
}

function configuration(folder: string, port: number): string {
  return `
options {
  pidfile = "${folder}/rspamd.pid"; tempdir = "${folder}"; hs_cache_dir = "${folder}"; filters = "";
  url_tld = "/usr/share/rspamd/effective_tld_names.dat";
  dns { nameserver = "127.0.0.1:9"; timeout = 0.1s; retransmits = 1; sockets = 1; }
}
logging { type = "console"; level = "warning"; color = false; }
worker "normal" { bind_socket = "127.0.0.1:${port}"; count = 1; task_timeout = 5s; }
actions { reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; discard { flags = ["no_threshold"]; } subject = "***SPAM*** %s"; }
lua = "${folder}/rules.lua";
`;
}

/** What a message says in X-Test-… is done: a score, a result that settles it, milter headers, the envelope as seen. */
const RULES = `
rspamd_config:register_symbol({
  name = 'TEST_SCORE', type = 'normal', score = 1.0,
  callback = function(task)
    local score = task:get_header('X-Test-Score')
    if score then return true, tonumber(score) end
    return false
  end })
rspamd_config:register_symbol({
  name = 'TEST_PRE_RESULT', type = 'prefilter',
  callback = function(task)
    local action = task:get_header('X-Test-Action')
    if action then task:set_pre_result(action, 'Said by a rule', 'test') end
  end })
rspamd_config:register_symbol({
  name = 'TEST_MILTER', type = 'idempotent', flags = 'explicit_disable,ignore_passthrough',
  callback = function(task)
    if not task:get_header('X-Test-Milter') then return end
    local rcpts = {}
    for _, r in ipairs(task:get_recipients('smtp') or {}) do table.insert(rcpts, r.addr) end
    local from = (task:get_from('smtp') or {})[1]
    local seen = table.concat({ tostring(task:get_from_ip()), task:get_helo() or '', task:get_user() or '',
      from and from.addr or '<>', table.concat(rcpts, '+'), task:get_queue_id() or '', tostring(task:get_size()) }, '|')
    task:set_milter_reply({
      add_headers = { ['X-Seen'] = { value = seen, order = 1 }, ['X-Last'] = 'end' },
      remove_headers = { ['X-Test-Milter'] = 0 },
    })
  end })
`;

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
