/**
 * From a plain value (the file as YAML read it, with the flags laid over it) to `Config`, or to the list of everything
 * that is wrong with it. Sections are read one by one, so that a mistake in one hides none in another; checks across
 * sections run where all sections that they need could be read. Pure; nothing here looks at the host.
 */
import { crossChecks } from "./checks.ts";
import { nearest } from "./nearest.ts";
import { everyKey, keysAt } from "./reference.ts";
import {
  type ClientNetworks,
  type Config,
  configSchema,
  type Network,
  type RawConfig,
  type Section,
} from "./schema.ts";

export interface Problem {
  /** Keys as in the file, indices for lists. */
  readonly path: readonly PropertyKey[];
  /** Plain words: what it was, what it should be. Follows the path and a colon or blank. */
  readonly text: string;
  /** The mistake is the key itself, not its value. */
  readonly isKey?: boolean;
  /** Said, but nothing that keeps the program from running. */
  readonly isWarning?: boolean;
}
export type ParseResult =
  | { readonly config: Config; readonly warnings: readonly Problem[] }
  | { readonly config: undefined; readonly problems: readonly Problem[] };
export interface HostFacts {
  /** Default of `proxy`. */
  readonly hostname: string;
  /** Nobody named an address to listen on; default: `listen` is absent. */
  readonly listenIsDefault?: boolean;
}

/** Values of these keys may hold a secret and are never repeated in a message. */
const SECRET_KEYS: ReadonlySet<PropertyKey> = new Set(["password", "token", "dsn", "url"]);
/** Sections with such keys: what stands instead of one is most likely its secret (`redis: redis://:…@host`). */
const SECRET_SECTIONS: ReadonlySet<PropertyKey> = new Set(["redis", "mysql", "slack"]);
/** What stands before an @ behind a colon is a password, wherever it stands. */
const CREDENTIALS = /:.*@/s;
const HIDDEN = "(hidden)";

export function parseConfig(document: unknown, host: HostFacts): ParseResult {
  const root = withoutNulls(document ?? {});
  if (!isRecord(root)) {
    return {
      config: undefined,
      problems: [{ path: [], text: "the file should hold keys and values at its top level" }],
    };
  }
  const problems: Problem[] = [];
  for (const key of Object.keys(root)) {
    if (!Object.hasOwn(configSchema.shape, key)) problems.push(unknownKey([], key));
  }
  const sections: Partial<Record<Section, unknown>> = {};
  for (const [key, schema] of Object.entries(configSchema.shape)) {
    const result = schema.safeParse(root[key], { reportInput: true });
    if (result.success) sections[key as Section] = result.data;
    else for (const issue of result.error.issues) problems.push(...problemsOf(issue as Issue, key, root));
  }
  for (const check of crossChecks) {
    if (!check.needs.every((section) => section in sections)) continue;
    check.run(sections as RawConfig, (problem) => {
      problems.push({ ...problem, path: pathInFile(problem.path, root) });
    });
  }
  const errors = problems.filter((problem) => problem.isWarning !== true);
  if (errors.length > 0) return { config: undefined, problems };
  const config = normalise(sections as RawConfig, host.listenIsDefault ?? root.listen === undefined, host);
  return { config: freeze(config), warnings: problems };
}

/** "hooks[0].on_failure". */
export function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    return text === "" ? String(step) : `${text}.${String(step)}`;
  }, "");
}

// ------------------------------------------------------------------------------------------------- what is wrong

interface Issue {
  readonly code: string;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly input?: unknown;
  readonly keys?: readonly string[];
  readonly values?: readonly unknown[];
  readonly expected?: string;
  readonly issues?: readonly Issue[];
  readonly params?: { readonly whole?: boolean };
}

function problemsOf(issue: Issue, section: string, root: Readonly<Record<string, unknown>>): Problem[] {
  const path = pathInFile([section, ...issue.path], root);
  if (issue.code === "unrecognized_keys") return issue.keys!.map((key) => unknownKey(path, key));
  if (issue.code === "invalid_key") {
    const text = `should be ${issue.issues?.[0]?.message ?? "another name"}`;
    return [{ path, isKey: true, text }];
  }
  if (issue.params?.whole === true) return [{ path, text: issue.message }];
  const wanted = wantedOf(issue);
  if (issue.input === undefined) return [{ path, isKey: true, text: `is missing, should be ${wanted}` }];
  return [{ path, text: `was ${shown(issue.input, path)}, should be ${wanted}${nearestWord(issue)}` }];
}

function wantedOf(issue: Issue): string {
  if (issue.code === "invalid_value") return oneOf(issue.values!.map(String));
  if (issue.code === "custom") return issue.message;
  if (issue.expected === "array") return "a list";
  if (issue.expected === "boolean") return "true or false";
  if (issue.expected === "object" || issue.expected === "record") return "a section with keys of its own";
  return issue.message;
}

function nearestWord(issue: Issue): string {
  if (issue.code !== "invalid_value" || typeof issue.input !== "string") return "";
  const near = nearest(issue.input, issue.values!.map(String));
  return near === undefined ? "" : ` (the nearest is ${near})`;
}

/** "a, b or c". */
export function oneOf(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/** The nearest key of the same section, else one of the same name elsewhere, else all that the section knows. */
function unknownKey(path: readonly PropertyKey[], key: string): Problem {
  const known = keysAt(path);
  const prefix = pathText(path.filter((step) => typeof step !== "number"));
  const near = nearest(key, known);
  const elsewhere = near === key ? undefined : everyKey().find((other) => other.split(".").at(-1) === key);
  let hint = `known here: ${known.join(", ")}`;
  if (elsewhere !== undefined) hint = `there is ${elsewhere}`;
  else if (near !== undefined) hint = `the nearest is ${prefix === "" ? near : `${prefix}.${near}`}`;
  return { path: [...path, key], isKey: true, text: `is no known key; ${hint}` };
}

/** A value as a person would recognise it, secrets hidden, at most 80 characters. */
export function shown(value: unknown, path: readonly PropertyKey[]): string {
  const isSecret = (step: PropertyKey) => SECRET_KEYS.has(step);
  if (path.some(isSecret) || (path.length === 1 && SECRET_SECTIONS.has(path[0]!))) return HIDDEN;
  const inner = (key: string, part: unknown) => (isSecret(key) ? HIDDEN : part);
  const text = typeof value === "string" ? `"${value}"` : (JSON.stringify(value, inner) ?? String(value));
  if (CREDENTIALS.test(text)) return HIDDEN;
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** One value may stand for a list of one: then its index isn't in the file. */
function pathInFile(path: readonly PropertyKey[], root: unknown): PropertyKey[] {
  const found: PropertyKey[] = [];
  let value = root;
  for (const step of path) {
    if (typeof step === "number" && value !== undefined && !Array.isArray(value)) continue;
    found.push(step);
    value =
      isRecord(value) || Array.isArray(value) ? (value as Record<PropertyKey, unknown>)[step] : undefined;
  }
  return found;
}

// --------------------------------------------------------------------------------------------- what comes out of it

function normalise(raw: RawConfig, listenIsDefault: boolean, host: HostFacts): Config {
  const mayFilter = raw.hooks.some((hook) => hook.roles === undefined || hook.roles.includes("filter"));
  const outbound = raw.outbound_ip.filter((ip) => ip !== "0.0.0.0" && ip !== "::");
  return {
    proxy: raw.proxy ?? host.hostname,
    listen: raw.listen,
    listenIsDefault,
    workers: raw.workers,
    capture: normaliseCapture(raw.capture, mayFilter),
    clients: clientNetworks(raw.clients),
    destinations: raw.destinations,
    outboundIp: {
      ipv4: outbound.find((ip) => !ip.includes(":")),
      ipv6: outbound.find((ip) => ip.includes(":")),
    },
    downstreamTls: raw.downstream_tls,
    tls: normaliseTls(raw),
    hooks: raw.hooks.map((hook) => ({
      ...hook,
      when: { ...hook.when, client: hook.when.client && clientNetworks(hook.when.client) },
    })),
    mayFilter,
    filter: raw.filter,
    journal: raw.journal,
    redis: raw.redis,
    plugins: raw.plugins,
    sqlite: raw.sqlite,
    file: raw.file,
    mysql: raw.mysql,
    slack: raw.slack,
    reputation: raw.reputation,
    pools: raw.pools,
    rules: raw.rules.map((rule, index) => ({
      name: rule.name ?? `rule-${index + 1}`,
      match: { ...rule.match, client: rule.match.client && clientNetworks(rule.match.client) },
      action: rule.action,
    })),
    limits: raw.limits,
    timeouts: raw.timeouts,
    bareNewlines: raw.bare_newlines,
    log: raw.log,
    metrics: raw.metrics,
  };
}

const SUBMISSIONS_PORT = 465;

function normaliseCapture(raw: RawConfig["capture"], mayFilter: boolean): Config["capture"] {
  const word = raw.opaquePorts ?? (mayFilter ? "refuse" : "relay");
  const relay = Array.isArray(word) ? word : word === "relay" ? [SUBMISSIONS_PORT] : [];
  const refuse = relay.includes(SUBMISSIONS_PORT) ? [] : [SUBMISSIONS_PORT];
  // A list names ports that would otherwise be closed; the bare words only say what happens where `ports` opens 465.
  const ports = Array.isArray(word) ? [...new Set([...raw.ports, ...word])] : raw.ports;
  const destination = raw.mode === "fixed" ? raw.destination : undefined;
  return { mode: raw.mode, destination, mark: raw.mark, ports, opaque: { relay, refuse } };
}

function normaliseTls(raw: RawConfig): Config["tls"] {
  const host = raw.capture.mode === "fixed" ? raw.capture.destination?.host : undefined;
  const rules = raw.tls.map((rule) => {
    const takesHost = rule.policy === "verify" && rule.names.length === 0 && host !== undefined;
    return takesHost ? { ...rule, names: [host] } : rule;
  });
  const match = { destination: undefined, recipientDomain: undefined };
  const last = { match, policy: "may" as const, names: [], ca: undefined };
  const matchesAll = rules.some((rule) => !rule.match.destination && !rule.match.recipientDomain);
  return matchesAll ? rules : [...rules, last];
}

function clientNetworks(list: readonly (Network | "self")[]): ClientNetworks {
  return { self: list.includes("self"), networks: list.filter((item) => item !== "self") };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * A key without a value has none: what remains when a section's keys are commented out. The key itself stays, so that one that
 * nobody knows is still found (`ports: 25,587` in braces is a key 587).
 */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, child === null ? undefined : withoutNulls(child)]),
  );
}

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    for (const child of Object.values(value)) freeze(child);
    Object.freeze(value);
  }
  return value;
}
