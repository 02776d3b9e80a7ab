/**
 * The questions of `warp log`, in SQL, over a database that is only read. Columns that a database of the original lacks
 * are NULL here, and where it has no `recipients` the connections themselves are listed.
 */
import { DatabaseSync, type SQLInputValue } from "node:sqlite";

export interface LogFilter {
  /** An address, `<>`, or `@domain`. */
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** Three digits, or the first one. */
  readonly code: string | undefined;
  readonly class: string | undefined;
  /** In the form of `occurred_at`, UTC; `since` is included, `until` is not. */
  readonly since: string | undefined;
  readonly until: string | undefined;
}

/** One recipient's final answer; of the original's rows: one connection. */
export interface LogEntry {
  readonly occurred_at: string;
  readonly connection_id: string;
  readonly transaction_id: string | null;
  readonly mail_from: string | null;
  readonly rcpt_to: string | null;
  readonly outcome: string | null;
  readonly code: number | null;
  readonly enhanced_code: string | null;
  readonly class: string | null;
  readonly reply: string | null;
  readonly origin: string | null;
  readonly hook: string | null;
  readonly client_ip: string | null;
  readonly source_ip: string | null;
  readonly destination_ip: string | null;
  readonly tls_version: string | null;
  readonly message_octets: number | null;
  readonly message_id: string | null;
  readonly elapse: number | null;
}
export interface DialogueLine {
  readonly occurred_at: string;
  readonly direction: string;
  readonly data: string;
  readonly data_raw: Uint8Array | null;
  readonly leg: number | null;
  readonly tls: number | null;
  readonly redacted: number | null;
  readonly truncated: number | null;
}
export interface Dialogue {
  readonly connection: Readonly<Record<string, unknown>>;
  readonly lines: readonly DialogueLine[];
  readonly entries: readonly LogEntry[];
}

/** How far the tables are filled: rows behind a position came after it. */
export interface Position {
  readonly transactions: number;
  readonly connections: number;
}

/** The original gives a connection no transactions: those rows are entries of their own. */
const entries = `
  SELECT t.rowid AS position, t.occurred_at, t.connection_id, t.transaction_id, t.mail_from,
    r.address AS rcpt_to, r.domain AS rcpt_domain, t.sender_domain, t.outcome, coalesce(r.code, t.code) AS code,
    coalesce(r.enhanced_code, t.enhanced_code) AS enhanced_code, coalesce(r.class, t.class) AS class,
    coalesce(r.reply, t.reply) AS reply, coalesce(r.origin, t.origin) AS origin, coalesce(r.hook, t.hook) AS hook,
    t.client_ip, t.source_ip, t.destination_ip, t.tls_version, t.message_octets, t.message_id, t.elapse
  FROM transactions t LEFT JOIN recipients r ON r.event_id = t.id`;
const bare = (only: string) => `
  SELECT c.rowid AS position, c.occurred_at, c.id AS connection_id, NULL AS transaction_id, c.mail_from,
    c.mail_to AS rcpt_to, lower(substr(c.mail_to, instr(c.mail_to, '@') + 1)) AS rcpt_domain,
    lower(substr(c.mail_from, instr(c.mail_from, '@') + 1)) AS sender_domain, NULL AS outcome, NULL AS code,
    NULL AS enhanced_code, NULL AS class, NULL AS reply, NULL AS origin, NULL AS hook, NULL AS client_ip,
    NULL AS source_ip, NULL AS destination_ip, NULL AS tls_version, NULL AS message_octets, NULL AS message_id, c.elapse
  FROM connections c ${only}`;
const columns = `occurred_at, connection_id, transaction_id, mail_from, rcpt_to, outcome, code, enhanced_code, class, reply,
  origin, hook, client_ip, source_ip, destination_ip, tls_version, message_octets, message_id, elapse`;

export class LogDatabase {
  readonly #database: DatabaseSync;
  readonly #hasOurs: boolean;
  readonly #parts: readonly { readonly sql: string; readonly table: keyof Position }[];

  /** Throws what SQLite says where it is no database with the original's two tables. */
  constructor(path: string) {
    this.#database = new DatabaseSync(path, { readOnly: true, timeout: 5000 });
    const known = this.#database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
      .all()
      .map(({ name }) => name);
    if (!known.includes("connections") || !known.includes("communications")) {
      this.#database.close();
      throw new Error("it has no tables of warp");
    }
    this.#hasOurs = known.includes("recipients");
    this.#parts = this.#hasOurs
      ? [
          { sql: entries, table: "transactions" },
          { sql: bare("WHERE c.event_id IS NULL"), table: "connections" },
        ]
      : [{ sql: bare(""), table: "connections" }];
  }

  close(): void {
    this.#database.close();
  }

  position(): Position {
    const last = (table: string) =>
      Number(this.#database.prepare(`SELECT coalesce(max(rowid), 0) AS n FROM ${table}`).get()!.n);
    return { transactions: this.#hasOurs ? last("transactions") : 0, connections: last("connections") };
  }

  /** The last `limit` entries up to a position, oldest first. */
  last(filter: LogFilter, limit: number, until: Position): LogEntry[] {
    const from = { transactions: 0, connections: 0 };
    return this.#ask(filter, from, until, "ORDER BY occurred_at DESC, position DESC LIMIT ?", [limit]).slice(
      -limit,
    );
  }

  /** The entries behind one position, up to another, oldest first. In no order of SQL's: that of time goes through all rows. */
  between(filter: LogFilter, from: Position, until: Position): LogEntry[] {
    if (from.transactions === until.transactions && from.connections === until.connections) return [];
    return this.#ask(filter, from, until, "ORDER BY position DESC", []);
  }

  /** What each part has, in the order `order` (newest first), together in the order of time. */
  #ask(
    filter: LogFilter,
    from: Position,
    until: Position,
    order: string,
    limit: readonly number[],
  ): LogEntry[] {
    const { where, values } = conditions(filter);
    const found = this.#parts.flatMap(({ sql, table }) =>
      this.#all(
        `SELECT ${columns} FROM (${sql}) WHERE ${where.join(" AND ")} AND position > ? AND position <= ? ${order}`,
        [...values, from[table], until[table], ...limit],
      ).reverse(),
    ) as unknown as LogEntry[];
    return found.sort((a, b) => (a.occurred_at < b.occurred_at ? -1 : a.occurred_at > b.occurred_at ? 1 : 0));
  }

  /** Ids that begin with `prefix`, at most ten; an exact one alone. */
  connectionsLike(prefix: string): string[] {
    const among = (column: string, table: string) =>
      `SELECT ${column} AS id FROM ${table} WHERE ${column} >= ?1 AND ${column} < ?1 || char(0x10FFFF)`;
    const parts = [among("id", "connections"), among("connection_id", "communications")];
    if (this.#hasOurs) parts.push(among("connection_id", "transactions"));
    const sql = `SELECT id FROM (${parts.join(" UNION ")}) ORDER BY id LIMIT 10`;
    const ids = this.#all(sql, [prefix]).map(({ id }) => String(id));
    return ids.includes(prefix) ? [prefix] : ids;
  }

  dialogue(id: string): Dialogue {
    const present = new Set(
      this.#all("SELECT name FROM pragma_table_info('communications')", []).map(({ name }) => name),
    );
    const optional = (name: string) => (present.has(name) ? name : `NULL AS ${name}`);
    const lines = this.#all(
      `SELECT occurred_at, direction, data, ${["data_raw", "leg", "tls", "redacted", "truncated", "sequence"]
        .map(optional)
        .join(", ")} FROM communications WHERE connection_id = ? ORDER BY occurred_at, sequence, id`,
      [id],
    ) as unknown as DialogueLine[];
    const [connection = { id }] = this.#all("SELECT * FROM connections WHERE id = ?", [id]);
    const found = this.#hasOurs
      ? this.#all(
          `SELECT ${columns} FROM (${entries}) WHERE connection_id = ? ORDER BY occurred_at, position`,
          [id],
        )
      : [];
    return { connection, lines, entries: found as unknown as LogEntry[] };
  }

  #all(sql: string, values: readonly SQLInputValue[]): Record<string, unknown>[] {
    return this.#database.prepare(sql).all(...values) as Record<string, unknown>[];
  }
}

function conditions(filter: LogFilter): { where: string[]; values: SQLInputValue[] } {
  const where = ["1 = 1"];
  const values: SQLInputValue[] = [];
  const add = (condition: string, value: SQLInputValue | undefined) => {
    if (value === undefined) return;
    where.push(condition);
    values.push(value);
  };
  addAddress("mail_from", "sender_domain", filter.from, add);
  addAddress("rcpt_to", "rcpt_domain", filter.to, add);
  if (filter.code?.length === 1) add("code / 100 = ?", Number(filter.code));
  else add("code = ?", filter.code === undefined ? undefined : Number(filter.code));
  add("class = ?", filter.class);
  add("occurred_at >= ?", filter.since);
  add("occurred_at < ?", filter.until);
  return { where, values };
}

/**
 * Without case: of a domain it means nothing, and a local part that differs in it only is nearly always the same (RFC 5321
 * §2.4); who looks for one wants to see it.
 */
function addAddress(
  address: string,
  domain: string,
  wanted: string | undefined,
  add: (condition: string, value: SQLInputValue | undefined) => void,
): void {
  const at = wanted?.lastIndexOf("@") ?? -1;
  if (wanted === undefined || at < 0) return add(`${address} = ?`, wanted);
  add(`${domain} = ?`, wanted.slice(at + 1).toLowerCase());
  if (at > 0) add(`instr(lower(${address}), lower(?)) = 1`, wanted.slice(0, at + 1));
}
