/**
 * The MySQL data source name in Go's form, `user:password@tcp(host:port)/database?params` (the original's), and as a URL,
 * `mysql://user:password@host:port/database?params`. Parameters of Go's driver are understood where they mean something
 * here (`tls`, `timeout`), accepted where they cannot change what is stored, and
 * refused otherwise: a misspelt `tls` must not be a plain connection.
 */
export interface MysqlTarget {
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** Either a socket or host and port. */
  readonly socketPath: string | undefined;
  readonly host: string;
  readonly port: number;
  /** `preferred`: where the server has it, unverified. */
  readonly tls: "off" | "preferred" | "unverified" | "verified";
  readonly connectTimeoutMs: number;
}

/** Go's parameters that are about Go, or that we always have our own way. */
const ignored = new Set([
  "allowAllFiles",
  "allowCleartextPasswords",
  "allowFallbackToPlaintext",
  "allowNativePasswords",
  "allowOldPasswords",
  "charset",
  "checkConnLiveness",
  "clientFoundRows",
  "collation",
  "columnsWithAlias",
  "compress",
  "connectionAttributes",
  "interpolateParams",
  "loc",
  "maxAllowedPacket",
  "multiStatements",
  "parseTime",
  "readTimeout",
  "rejectReadOnly",
  "serverPubKey",
  "sql_mode",
  "timeTruncate",
  "time_zone",
  "writeTimeout",
]);

/** Throws an Error whose message never has the password in it. */
export function parseMysqlDsn(dsn: string): MysqlTarget {
  return /^(mysql|mariadb):\/\//i.test(dsn) ? parseUrl(dsn) : parseGo(dsn);
}

/** For logs: where it is, without user and password. */
export function describeTarget({ socketPath, host, port, database }: MysqlTarget): string {
  const where = socketPath ?? (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
  return `${database} at ${where}`;
}

function parseUrl(dsn: string): MysqlTarget {
  let url: URL;
  try {
    url = new URL(dsn);
  } catch {
    throw new Error("the URL cannot be read: it should be mysql://user:password@host:port/database");
  }
  const parameters = url.searchParams;
  const socketPath = parameters.get("socket") ?? undefined;
  parameters.delete("socket");
  return target(
    {
      user: decode(url.username),
      password: decode(url.password),
      database: decode(url.pathname.slice(1)),
      socketPath,
      host: url.hostname.replace(/^\[|\]$/g, "") || "127.0.0.1",
      port: url.port === "" ? 3306 : Number(url.port),
    },
    parameters,
  );
}

/** `[user[:password]@][net[(address)]]/database[?params]`: the last slash, the last @ before it, the first colon. */
function parseGo(dsn: string): MysqlTarget {
  const slash = dsn.lastIndexOf("/");
  const question = dsn.indexOf("?", Math.max(slash, 0));
  const path = question < 0 ? dsn : dsn.slice(0, question);
  if (slash < 0) throw new Error("it has no /database: it should be user:password@tcp(host:port)/database");
  const left = path.slice(0, slash);
  const at = left.lastIndexOf("@");
  const login = at < 0 ? "" : left.slice(0, at);
  const colon = login.indexOf(":");
  return target(
    {
      user: colon < 0 ? login : login.slice(0, colon),
      password: colon < 0 ? "" : login.slice(colon + 1),
      database: decode(path.slice(slash + 1)),
      ...goAddress(left.slice(at + 1)),
    },
    new URLSearchParams(question < 0 ? "" : dsn.slice(question + 1)),
  );
}

function goAddress(text: string): Pick<MysqlTarget, "socketPath" | "host" | "port"> {
  const match = /^([a-z]*)(?:\((.*)\))?$/i.exec(text);
  if (match === null)
    throw new Error("it has no address: it should be user:password@tcp(host:port)/database, or unix(/path)");
  const [, said = "", address = ""] = match;
  const network = said.toLowerCase();
  if (network === "unix") return { socketPath: address || "/tmp/mysql.sock", host: "", port: 0 };
  if (network !== "tcp" && network !== "tcp6" && network !== "") {
    throw new Error(`"${said}" is no network of this sink: it should be tcp or unix`);
  }
  const parts = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(address);
  const port = parts?.[3] === undefined ? 3306 : Number(parts[3]);
  if (parts === null || port > 65_535 || port === 0) {
    throw new Error(`"${address}" is no address: it should be host:port, IPv6 in brackets`);
  }
  return { socketPath: undefined, host: parts[1] || parts[2] || "127.0.0.1", port };
}

function target(
  base: Omit<MysqlTarget, "tls" | "connectTimeoutMs">,
  parameters: URLSearchParams,
): MysqlTarget {
  if (base.database === "") throw new Error("it names no database: it should end in /database, as in /warp");
  if (base.database.includes("/")) throw new Error("it has a slash in the database's name");
  let tls: MysqlTarget["tls"] = "off";
  let connectTimeoutMs = 10_000;
  for (const [name, value] of parameters) {
    if (name === "tls") tls = tlsOf(value);
    // Go's 0 is no limit; a sink has one.
    else if (name === "timeout") connectTimeoutMs = goDuration(value) || connectTimeoutMs;
    else if (!ignored.has(name)) throw new Error(`"${name}" is no parameter of this sink`);
  }
  return { ...base, tls, connectTimeoutMs };
}

/** Booleans in the forms that Go's driver takes (readBool); the words are matched in any case. */
function tlsOf(value: string): MysqlTarget["tls"] {
  if (/^(?:1|true|TRUE|True)$/.test(value)) return "verified";
  if (/^(?:0|false|FALSE|False|)$/.test(value)) return "off";
  if (/^skip-verify$/i.test(value)) return "unverified";
  if (/^preferred$/i.test(value)) return "preferred";
  throw new Error(`tls is "${value}": it should be true, false, skip-verify or preferred`);
}

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};
/** As Go's time.ParseDuration reads it (`1m30s`, `.5s`, `0`), in ms, rounded up. */
function goDuration(value: string): number {
  const amounts = [...value.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)];
  const length = amounts.reduce((sum, [text]) => sum + text.length, 0);
  if (value !== "0" && (length !== value.length || length === 0))
    throw new Error(`timeout is "${value}": it should be a duration such as 5s`);
  const ms = amounts.reduce((sum, [, amount, unit]) => sum + Number(amount) * units[unit!]!, 0);
  return Math.ceil(ms);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error("it has a % that begins no escape (%25 is a percent sign)");
  }
}
