/**
 * Flags and environment, laid over what the file says. Works on the plain document, before the schema reads it, so
 * that flags are checked by the same rules as the file; `origins` remembers which place was said by which flag.
 */
import { type ParsedOptions, UsageError } from "../cli/options.ts";

type Document = Record<string, unknown>;
export interface Overlay {
  readonly document: Document;
  /** The value at a path of it. */
  get(path: readonly PropertyKey[]): unknown;
  /** What set the value at a path: "--ip", "DSN". The longest path that is a prefix counts. */
  readonly origins: readonly { readonly path: readonly PropertyKey[]; readonly origin: string }[];
  /** Things taken and not used, for the log. */
  readonly notes: readonly string[];
  /** Nobody named an address to listen on. */
  readonly listenIsDefault: boolean;
}
/** What an option of another command than the proxy's says of the file. */
export interface Said {
  readonly path: readonly string[];
  readonly value: unknown;
  readonly origin: string;
}
export type Environment = Readonly<Record<string, string | undefined>>;

export const DEFAULT_PORT = 10025;
const DEFAULT_IPS = ["127.0.0.1", "::1"];
/** Options whose value simply stands at one place of the file. */
const PLACES: readonly (readonly [option: string, path: readonly string[]])[] = [
  ["mode", ["capture", "mode"]],
  ["tls-cert", ["downstream_tls", "cert"]],
  ["tls-key", ["downstream_tls", "key"]],
  ["journal", ["journal", "dir"]],
  ["message-size-limit", ["limits", "message"]],
  ["workers", ["workers"]],
  ["metrics", ["metrics", "listen"]],
  ["log-level", ["log", "level"]],
  ["log-format", ["log", "format"]],
];

/** The option that says the setting at this path alone. */
export function optionOf(path: readonly PropertyKey[]): string | undefined {
  if (isSamePath(path, ["capture", "destination"])) return "--destination";
  const place = PLACES.find(([, steps]) => isSamePath(steps, path));
  return place && `--${place[0]}`;
}

export function isSamePath(one: readonly PropertyKey[], other: readonly PropertyKey[]): boolean {
  return one.length === other.length && one.every((step, index) => step === other[index]);
}

/** `file` isn't changed. Throws UsageError where a flag's form is wrong. */
export function overlay(
  file: Document,
  options: ParsedOptions,
  environment: Environment,
  said: readonly Said[] = [],
): Overlay {
  const layer = new Layer(structuredClone(file));
  for (const [option, path] of PLACES) {
    const value = options.value(option);
    if (value !== undefined) layer.set(path, value, `--${option}`);
  }
  if (options.given("client")) layer.set(["clients"], [...options.list("client")], "--client");
  if (options.given("outbound-ip"))
    layer.set(["outbound_ip"], [...options.list("outbound-ip")], "--outbound-ip");
  if (options.given("verbose")) layer.set(["log", "verbose"], options.flag("verbose"), "--verbose");
  setListen(layer, options);
  setDestination(layer, options);
  setUpstreamTls(layer, options);
  setHooks(layer, options);
  setRedis(layer, options);
  setPlugins(layer, options);
  for (const { path, value, origin } of said) layer.set(path, value, origin);
  setEnvironment(layer, environment);
  return layer;
}

class Layer implements Overlay {
  readonly document: Document;
  readonly origins: { path: readonly PropertyKey[]; origin: string }[] = [];
  readonly notes: string[] = [];
  listenIsDefault: boolean;

  constructor(document: Document) {
    this.document = document;
    this.listenIsDefault = document.listen === undefined || document.listen === null;
  }
  get(path: readonly PropertyKey[]): unknown {
    return path.reduce<unknown>(
      (value, step) => (value as Document | undefined)?.[step as string],
      this.document,
    );
  }
  set(path: readonly PropertyKey[], value: unknown, origin: string): void {
    let section = this.document;
    for (const step of path.slice(0, -1)) {
      const child = section[step as string];
      if (typeof child !== "object" || child === null) section[step as string] = {};
      section = section[step as string] as Document;
    }
    section[path.at(-1) as string] = value;
    this.origins.push({ path, origin });
  }
  /** What the file has there as a list; empty where it has none. */
  list(key: string): unknown[] {
    const value = this.document[key];
    if (value === undefined || value === null) return [];
    return Array.isArray(value) ? value : [value];
  }
}

/** `--ip` replaces the addresses, `--port` the port of each; a port of 0 is the original's "not given". */
function setListen(layer: Layer, options: ParsedOptions): void {
  const port = options.number("port", 0, 65535) || undefined;
  const ips = options.list("ip");
  if (ips.length === 0 && port === undefined) return;
  const listed = layer.list("listen").map(String);
  const ofFile = listed.map((address) => /^(.*):(\d+)$/.exec(address));
  const origin = ips.length > 0 ? "--ip" : "--port";
  const filePort = Number(ofFile[0]?.[2] ?? DEFAULT_PORT);
  const addresses = ips.length > 0 ? ips : ofFile.map((match, index) => match?.[1] ?? listed[index]!);
  // Only the port was said: still the default addresses, of which a missing family is skipped.
  const isDefault = addresses.length === 0;
  const chosen = (isDefault ? DEFAULT_IPS : addresses).map((ip) => joinAddress(ip, port ?? filePort));
  layer.set(["listen"], chosen, origin);
  layer.listenIsDefault = isDefault;
}

function joinAddress(ip: string, port: number): string {
  return ip.includes(":") && !ip.startsWith("[") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Naming a destination implies `fixed`, also where the file says another mode. */
function setDestination(layer: Layer, options: ParsedOptions): void {
  const destination = options.value("destination");
  if (destination !== undefined) {
    layer.set(["capture", "destination"], destination, "--destination");
    if (!options.given("mode")) layer.set(["capture", "mode"], "fixed", "--destination");
  } else if (options.given("mode") && options.value("mode") !== "fixed") {
    delete (layer.document.capture as Document).destination;
  }
}

/** The flags say the rule for what the file has no rule for: its rules with a `match` stay. */
function setUpstreamTls(layer: Layer, options: ParsedOptions): void {
  const policy = options.value("upstream-tls");
  const ca = options.value("upstream-ca");
  if (policy === undefined && ca === undefined) return;
  const rules = layer.list("tls");
  const isGeneral = (rule: unknown): boolean => {
    const match = (rule as Document | null)?.match;
    return match === undefined || match === null || Object.keys(match).length === 0;
  };
  const general = (rules.find(isGeneral) ?? {}) as Document;
  const kept = rules.filter((rule) => !isGeneral(rule));
  const rule: Document = { ...general, policy: policy ?? general.policy ?? "may" };
  if (policy !== undefined && policy !== "verify") delete rule.names;
  if (ca !== undefined) rule.ca = ca;
  layer.document.tls = [...kept, rule];
  const origin = policy === undefined ? "--upstream-ca" : "--upstream-tls";
  layer.origins.push({ path: ["tls", kept.length], origin });
}

const HOOK_ROLES: Readonly<Record<string, readonly string[] | undefined>> = {
  hook: undefined,
  filter: ["filter"],
  observer: ["observe"],
};

/** In the order of the command line; a name that the file has gets the flag's address there, its other keys stay. */
function setHooks(layer: Layer, options: ParsedOptions): void {
  const hooks = layer.list("hooks").map((hook) => ({ ...(hook as Document) }));
  const said = new Map<string, number>();
  for (const { name: option, value } of options.occurrences) {
    if (!Object.hasOwn(HOOK_ROLES, option)) continue;
    const [, name = "", address = ""] = /^([^=]+)=(.+)$/.exec(value) ?? [];
    if (name === "")
      throw new UsageError(
        `--${option} was "${value}", should be NAME=ADDRESS, such as audit=unix:/run/audit.sock`,
      );
    const roles = HOOK_ROLES[option];
    const earlier = said.get(name);
    if (earlier !== undefined && hooks[earlier]!.address !== address) {
      throw new UsageError(
        `--${option} was "${value}", but ${name} is ${String(hooks[earlier]!.address)} already; names have to be unique`,
      );
    }
    let index = earlier ?? hooks.findIndex((hook) => hook.name === name);
    if (index === -1) index = hooks.push({ name }) - 1;
    const hook = hooks[index]!;
    hook.address = address;
    // The same server may be named once as a filter and once as an observer.
    const before = earlier === undefined ? [] : ((hook.roles as string[] | undefined) ?? []);
    if (roles !== undefined) hook.roles = [...new Set([...before, ...roles])];
    said.set(name, index);
    layer.origins.push({ path: ["hooks", index], origin: `--${option} ${name}` });
  }
  if (said.size > 0) layer.document.hooks = hooks;
}

function setRedis(layer: Layer, options: ParsedOptions): void {
  const url = options.value("redis");
  if (url === undefined) return;
  layer.set(["redis", "url"], url, "--redis");
  const section = layer.document.redis as Document;
  for (const key of ["sentinels", "cluster", "master", "username", "password"]) delete section[key];
  // The authority that the file names holds for another server of the same operator too.
  if (!url.startsWith("rediss:")) delete section.tls;
}

/** Comma-separated, blanks around the names allowed, as the original has it. */
function setPlugins(layer: Layer, options: ParsedOptions): void {
  const list = options.value("plugins");
  if (list === undefined) return;
  const names = list.split(",").map((name) => name.trim());
  layer.set(
    ["plugins"],
    names.filter((name) => name !== ""),
    "--plugins",
  );
}

/** The environment fills in what neither a flag nor the file says; DSN serves mysql and sqlite. */
function setEnvironment(layer: Layer, environment: Environment): void {
  const fill = (path: readonly string[], ...variables: string[]): void => {
    if (layer.get(path) !== undefined && layer.get(path) !== null) return;
    const variable = variables.find((name) => (environment[name] ?? "") !== "");
    if (variable !== undefined) layer.set(path, environment[variable], variable);
  };
  fill(["sqlite", "dsn"], "SQLITE_DSN", "DSN");
  fill(["mysql", "dsn"], "MYSQL_DSN", "DSN");
  fill(["file", "path"], "FILE_PATH");
  fill(["slack", "token"], "SLACK_TOKEN");
  fill(["slack", "channel"], "SLACK_CHANNEL");
  if ((environment.PLUGIN_PATH ?? "") !== "") {
    layer.notes.push(
      "PLUGIN_PATH is set and not used: plugins are hook servers, named by --plugins or --hook",
    );
  }
}
