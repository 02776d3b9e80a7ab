/**
 * `warp hook KIND[,KIND…]`: runs bundled hook servers until SIGTERM or SIGINT. SIGHUP opens files anew. A setting that is
 * missing or wrong is one line on stderr and exit status 1.
 *
 * Started by the proxy (`--plugins`, src/hooks/plugins.ts) it is told its settings by the environment, says by IPC that it
 * listens or why it can't, and stops when the proxy says so or is gone: not by a signal that a service manager sends to
 * all processes at once, since the proxy still has events to hand over then.
 */
import { rmdir, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { Said } from "../config/overlay.ts";
import { rspamd } from "../config/sections/plugins.ts";
import { kindNames } from "../hookservers/registry.ts";
import { type RunningServer, serveKinds } from "../hookservers/server.ts";
import { SettingError, type SinkContext } from "../hookservers/sink.ts";
import type { SettingsOf } from "./commands.ts";
import { type CommandSpec, type ParsedOptions, runCommand, UsageError } from "./options.ts";
import { version } from "./version.ts";

export const spec: CommandSpec = {
  name: "hook",
  summary: "Run bundled hook servers",
  description: [
    "Several kinds run in one server: a batch of events is acknowledged when every sink has stored it (slack is best " +
      "effort and never waited for). Settings come from the options, the file that --config names (sections file, " +
      "sqlite, mysql, slack), and the environment: FILE_PATH, DSN, SQLITE_DSN, MYSQL_DSN, SLACK_TOKEN, SLACK_CHANNEL, RSPAMD_PASSWORD.",
  ],
  operands: [{ name: "KIND[,KIND…]", help: "file, sqlite, mysql, slack, rspamd" }],
  options: [
    { name: "listen", value: "ADDRESS", help: "unix:/path or host:port" },
    { name: "config", value: "FILE", help: "The configuration", completes: "file" },
    { name: "file-path", value: "FILE", help: "file: where lines go", completes: "file" },
    { name: "fsync", value: "WHEN", help: "file: sync to disk", choices: ["always", "interval", "never"] },
    { name: "rotate-size", value: "SIZE", help: "file: put it aside beyond this size" },
    { name: "rotate-age", value: "DURATION", help: "file: put it aside after this time" },
    { name: "rotate-keep", value: "N", help: "file: how many put aside are kept; 0: all" },
    { name: "sqlite-dsn", value: "PATH", help: "sqlite: a path, :memory: or file: URI", completes: "file" },
    { name: "mysql-dsn", value: "DSN", help: "mysql: user:password@tcp(host:port)/database, or a URL" },
    { name: "keep", value: "DURATION", help: "sqlite, mysql: delete rows that are older" },
    { name: "init", help: "mysql: make database and tables, then exit" },
    { name: "slack-channel", value: "CHANNEL", help: "slack: where messages go" },
    { name: "slack-url", value: "URL", help: "slack: base address of its API" },
    { name: "url", value: "URL", help: "rspamd: where it listens, as in http://127.0.0.1:11333" },
    {
      name: "greylist",
      value: "WHAT",
      help: "rspamd: what its action greylist does; relay where its own module defers",
      choices: ["tempfail", "relay"],
    },
    { name: "timeout", value: "DURATION", help: "rspamd: how long it has for a message" },
    { name: "set", value: "KIND.KEY=VALUE", help: "Any setting, by its name in the file", repeatable: true },
    { name: "cert", value: "FILE", help: "TLS on TCP: certificate chain (PEM)", completes: "file" },
    { name: "key", value: "FILE", help: "TLS on TCP: its key", completes: "file" },
    {
      name: "client-ca",
      value: "FILE",
      help: "TLS on TCP: who signs the proxies' certificates",
      completes: "file",
    },
    { name: "insecure", help: "TCP beyond loopback without TLS, where the network is trusted" },
    { name: "supervised", help: "Started by the proxy", hidden: true },
  ],
  examples: [
    ["warp hook file --listen unix:/run/warp/file.sock --file-path /var/log/warp.json", "One sink."],
    [
      "DSN=/var/lib/warp/warp.db warp hook sqlite,file --listen 127.0.0.1:7070 --file-path f.json",
      "Two in one server.",
    ],
    [
      "warp hook rspamd --url http://127.0.0.1:11333 --listen unix:/run/warp/rspamd.sock",
      "Rspamd as a filter.",
    ],
    ["warp hook mysql --init --mysql-dsn 'warp:secret@tcp(db:3306)/warp'", "Make the tables."],
  ],
};

type Sections = Record<string, Record<string, unknown>>;
/** How long sinks may take to finish what they have when the server stops. ms. */
const graceMs = 10_000;

export async function hookCommand(argv: readonly string[], settingsOf: SettingsOf): Promise<number> {
  return runCommand(spec, argv, async (options) => {
    const kinds = kindsOf(options);
    const isSupervised = options.flag("supervised") && process.send !== undefined;
    const signals = listenToSignals(isSupervised);
    const context: SinkContext = { env: process.env, now: Date.now, log };
    try {
      const settings = isSupervised ? settingsFromProxy() : settingsFrom(options, kinds, settingsOf);
      // What takes long (columns for years of rows) can be interrupted; the next start goes on with it.
      const interrupted = signals.stop.then(() => undefined);
      if (options.flag("init"))
        return (await Promise.race([init(kinds, settings, context), interrupted])) ?? 1;
      const server = await Promise.race([start(kinds, settings, options, context), interrupted]);
      if (server === undefined) return 0;
      signals.reopen = () => server.reopen();
      if (isSupervised) process.send!({ ready: server.address });
      else process.stdout.write(`warp hook ${kinds.join(",")} listens to ${server.address}\n`);
      await signals.stop;
      await server.close(graceMs);
      if (isSupervised && !process.connected) await removeFolder(server.address);
      return 0;
    } catch (error) {
      if (!(error instanceof SettingError)) throw error;
      if (isSupervised) await told({ failed: error.message });
      else process.stderr.write(`${error.message}\n`);
      return 1;
    }
  });
}

function log(line: string): void {
  process.stderr.write(`warp hook: ${line}\n`);
}

function kindsOf(options: ParsedOptions): string[] {
  const kinds = options.operands[0]!.split(",").map((kind) => kind.trim());
  for (const [index, kind] of kinds.entries()) {
    if (!kindNames().includes(kind)) {
      throw new UsageError(`"${kind}" is no hook server; there are: ${kindNames().join(", ")}`);
    }
    if (kinds.indexOf(kind) !== index) throw new UsageError(`${kind} is named twice`);
  }
  return kinds;
}

function start(
  kinds: readonly string[],
  settings: Sections,
  options: ParsedOptions,
  context: SinkContext,
): Promise<RunningServer> {
  const listen = options.value("listen");
  if (listen === undefined)
    throw new UsageError("--listen is missing: --listen unix:/path or --listen host:port");
  const [cert, key, clientCa] = [options.value("cert"), options.value("key"), options.value("client-ca")];
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key go together");
  return serveKinds({
    kinds,
    listen,
    settings,
    context,
    version: version().version,
    insecure: options.flag("insecure"),
    ...(cert !== undefined && key !== undefined && { tls: { cert, key, ...(clientCa && { clientCa }) } }),
  });
}

async function init(kinds: readonly string[], settings: Sections, context: SinkContext): Promise<number> {
  if (kinds.join() !== "mysql") throw new UsageError("--init is for mysql alone");
  const { initMysql } = await import("../hookservers/mysql.ts");
  process.stdout.write(`the tables are ready: ${await initMysql(settings.mysql ?? {}, context)}\n`);
  return 0;
}

/** Options whose value stands at these places of the file, or of what the file has no section for. */
const places: readonly (readonly [option: string, ...paths: string[]])[] = [
  ["file-path", "file.path"],
  ["fsync", "file.fsync"],
  ["rotate-size", "file.rotate_size"],
  ["rotate-age", "file.rotate_age"],
  ["rotate-keep", "file.rotate_keep"],
  ["sqlite-dsn", "sqlite.dsn"],
  ["mysql-dsn", "mysql.dsn"],
  ["keep", "sqlite.keep", "mysql.keep"],
  ["slack-channel", "slack.channel"],
  ["slack-url", "slack.url"],
  ["url", "rspamd.url"],
  ["greylist", "rspamd.greylist"],
  ["timeout", "rspamd.timeout"],
];
const sectionNames = ["file", "sqlite", "mysql", "slack"];

/** The configuration's sections with what the options say above them, checked as the file is. */
function settingsFrom(options: ParsedOptions, kinds: readonly string[], settingsOf: SettingsOf): Sections {
  const said = [...placed(options, kinds), ...options.list("set").map(setting)];
  const { file, sqlite, mysql, slack } = settingsOf(
    options,
    said.filter(({ path }) => sectionNames.includes(path[0]!)),
  );
  return {
    file,
    sqlite,
    mysql,
    slack,
    rspamd: rspamdSettings(said.filter(({ path }) => path[0] === "rspamd")),
  };
}

function placed(options: ParsedOptions, kinds: readonly string[]): Said[] {
  return places.flatMap(([option, ...paths]) => {
    const value = options.value(option);
    if (value === undefined) return [];
    // One for several kinds is of those that run.
    const concerned = paths.filter((path) => paths.length === 1 || kinds.includes(path.split(".")[0]!));
    return concerned.map((path) => ({ path: path.split("."), value, origin: `--${option}` }));
  });
}

/** `KIND.KEY=VALUE`, in the file's words. */
function setting(text: string): Said {
  const [, kind, key, value] = /^([a-z0-9_-]+)\.([A-Za-z0-9_.]+)=(.*)$/s.exec(text) ?? [];
  if (kind === undefined || key === undefined || value === undefined) {
    throw new UsageError(`--set was "${text}", should be KIND.KEY=VALUE`);
  }
  if (!kindNames().includes(kind)) {
    throw new UsageError(
      `--set ${kind}.${key}: "${kind}" is no hook server; there are: ${kindNames().join(", ")}`,
    );
  }
  const isYesNo = value === "true" || value === "false";
  return { path: [kind, ...key.split(".")], value: isYesNo ? value === "true" : value, origin: "--set" };
}

function rspamdSettings(options: readonly Said[]): Record<string, unknown> {
  const { RSPAMD_PASSWORD: value } = process.env;
  const origin = "RSPAMD_PASSWORD";
  const said = value ? [{ path: ["rspamd", "password"], value, origin }, ...options] : options;
  const result = rspamd.safeParse(
    Object.fromEntries(said.map(({ path, value }) => [path.slice(1).join("."), value])),
  );
  if (result.success) return given(result.data);
  const [issue] = result.error.issues;
  const key = issue?.code === "unrecognized_keys" ? issue.keys[0] : issue?.path[0];
  const { origin: who } = said.find(({ path }) => path.slice(1).join(".") === key)!;
  const known = Object.keys(rspamd.in.shape).join(", ");
  const wrong =
    issue?.code === "unrecognized_keys"
      ? `is no known key; known here: ${known}`
      : `should be ${issue?.message}`;
  throw new UsageError(`${who}: rspamd.${String(key)} ${wrong}`);
}

/** Without what is undefined. */
function given(settings: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/** By the environment, since tokens and passwords must not be seen in the list of processes. */
function settingsFromProxy(): Sections {
  const text = process.env.WARP_HOOK_SETTINGS ?? "{}";
  delete process.env.WARP_HOOK_SETTINGS;
  return JSON.parse(text) as Sections;
}

interface Signals {
  /** Resolves when it is time to stop. */
  readonly stop: Promise<void>;
  /** What SIGHUP does; before there is a server, nothing. */
  reopen: (() => Promise<void>) | undefined;
}

/** Listens from the very start: a signal without a listener would end the process. */
function listenToSignals(isSupervised: boolean): Signals {
  const { promise, resolve } = Promise.withResolvers<void>();
  const signals: Signals = { stop: promise, reopen: undefined };
  process.on("SIGHUP", () => {
    signals.reopen?.().catch((error: Error) => log(`opening files anew failed: ${error.message}`));
  });
  const parent = process.ppid;
  const asked = () => {
    if (!isSupervised || process.ppid !== parent) resolve();
  };
  process.on("SIGTERM", asked);
  process.on("SIGINT", asked);
  if (isSupervised) {
    process.on("disconnect", resolve);
    process.on("message", (message) => {
      if (message === "stop") resolve();
    });
  }
  return signals;
}

/** The proxy was killed and can't remove the folder that it made for our socket. Only an empty one goes. */
async function removeFolder(address: string): Promise<void> {
  const socket = address.replace(/^unix:/, "");
  await unlink(socket).catch(() => {});
  await rmdir(dirname(socket)).catch(() => {});
}

function told(message: object): Promise<void> {
  return new Promise((resolve) => process.send!(message, () => resolve()));
}
