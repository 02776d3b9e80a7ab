/**
 * The MySQL sink (mysql2; MySQL and MariaDB): what is acknowledged together is one transaction of multi-row inserts, by
 * prepared statements, so that no data is ever part of a statement's text. A row whose key is there already is left as it
 * is: a commit whose answer was lost is simply done again. While the database is away nothing is acknowledged: a batch is
 * tried for `retryMs`, then refused, and the proxy sends it again.
 */
import mysql, { type Pool, type PoolConnection, type PoolOptions } from "mysql2/promise";
import { Grouper } from "./grouper.ts";
import { describeTarget, type MysqlTarget, parseMysqlDsn } from "./mysql-dsn.ts";
import { isMigrated, migrateMysql } from "./mysql-schema.ts";
import { pause } from "./pause.ts";
import { type Item, type Rows, rowsOf } from "./rows.ts";
import { type Column, type Table, tables, type Value } from "./schema.ts";
import { type Batch, SettingError, type Sink, type SinkContext, SinkError } from "./sink.ts";
import { cutCharacters, cutOctets } from "./text.ts";
import { sqlTime } from "./words.ts";

/** What may be set; a member that is missing has its default. */
export interface MysqlSettings {
  /** Default: `MYSQL_DSN`, then the original's `DSN`. */
  readonly dsn?: string | undefined;
  /** ms after which rows are deleted; default: never. */
  readonly keepMs?: number | undefined;
  /** How long a batch is tried while the database is away. ms, default 20,000. */
  readonly retryMs?: number | undefined;
}

const groupItems = 2048;
/** Rows per statement. Few sizes, so that few statements are prepared. */
const rowCounts = [256, 32, 4, 1];
/** Of values per statement; far below the smallest `max_allowed_packet`, except for a row that is longer by itself. */
const statementOctets = 512 * 1024;
const deleteRows = 500;
const deleteIdleMs = 60_000;
const deleteBusyMs = 50;
const goodbyeMs = 3000;
/** For a whole transaction; far above the lock wait of the session. ms. */
const answerMs = 15_000;
const backoffMs = { first: 100, last: 2000 };

export class MysqlSink implements Sink {
  readonly name = "mysql";
  readonly durable = true;
  readonly #settings: MysqlSettings;
  readonly #context: SinkContext;
  readonly #target: MysqlTarget;
  readonly #pool: Pool;
  readonly #grouper: Grouper<Item>;
  readonly #stop = new AbortController();
  #migrated = false;
  #away = false;
  #retention: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  /**
   * Connects and brings the tables up to date. A database that is away is no reason not to start: nothing is acknowledged
   * until it is there. A wrong setting is (`SettingError`): user, password, the database's name.
   */
  static async open(settings: MysqlSettings, context: SinkContext): Promise<MysqlSink> {
    const target = targetOf(settings, context);
    const sink = new MysqlSink(settings, context, target, await usableTls(target));
    try {
      await sink.#withConnection(async () => {});
    } catch (error) {
      if (!isAway(error)) {
        await sink.close();
        throw new SettingError(`mysql: ${describeTarget(target)}: ${(error as Error).message}`);
      }
      sink.#nowAway(error);
    }
    if (settings.keepMs !== undefined) sink.#scheduleRetention(0);
    return sink;
  }

  private constructor(
    settings: MysqlSettings,
    context: SinkContext,
    target: MysqlTarget,
    options: PoolOptions,
  ) {
    this.#settings = settings;
    this.#context = context;
    this.#target = target;
    this.#pool = mysql.createPool({
      ...options,
      connectionLimit: 4,
      queueLimit: 64,
      maxPreparedStatements: 64,
    });
    this.#grouper = new Grouper((items) => this.#write(items), groupItems);
  }

  async store(batch: Batch): Promise<void> {
    if (this.#closed !== undefined) throw new SinkError("mysql: closed");
    const receivedMs = this.#context.now();
    await this.#grouper.add(batch.events.map((event) => ({ event, source: batch.source, receivedMs })));
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  /** Tries until the group is stored, or `retryMs` are over. */
  async #write(items: readonly Item[]): Promise<void> {
    const rows = rowsOf(items);
    const until = this.#context.now() + (this.#settings.retryMs ?? 20_000);
    for (let wait = backoffMs.first; ; wait = Math.min(wait * 2, backoffMs.last)) {
      try {
        await this.#withConnection((connection) => insertRows(connection, rows));
        this.#nowHere();
        return;
      } catch (error) {
        if (isAway(error)) this.#nowAway(error);
        const again = (isAway(error) || isConflict(error)) && !this.#stop.signal.aborted;
        if (!again || this.#context.now() + wait > until) throw new SinkError(this.#plainError(error));
        // Two servers that met in a deadlock must not meet again.
        await pause(wait * (0.5 + Math.random() / 2), this.#stop.signal);
      }
    }
  }

  /** Runs `work` on a connection with our session settings and tables. One that fails is not used again. */
  async #withConnection<T>(work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    const connection = await this.#pool.getConnection();
    try {
      if (!prepared.has(connection.connection)) {
        await inTime(connection.query(sessionSettings));
        prepared.add(connection.connection);
      }
      if (!this.#migrated) {
        // Columns for years of rows take as long as they take; the question whether they are there does not.
        if (!(await inTime(isMigrated(connection)))) await migrateMysql(connection);
        this.#migrated = true;
      }
      const result = await inTime(work(connection));
      connection.release();
      return result;
    } catch (error) {
      if (isConflict(error)) await rollBack(connection);
      else connection.destroy();
      throw error;
    }
  }

  #nowAway(error: unknown): void {
    if (!this.#away)
      this.#context.log(`mysql: ${this.#plainError(error)}; nothing is acknowledged until it is back`);
    this.#away = true;
    // It may come back as another one, restored or empty.
    this.#migrated = false;
  }
  #nowHere(): void {
    if (this.#away) this.#context.log(`mysql: ${describeTarget(this.#target)} is back`);
    this.#away = false;
  }
  #plainError(error: unknown): string {
    const { message, code } = error as Error & { code?: string };
    return `${describeTarget(this.#target)}: ${message || code}`;
  }

  #scheduleRetention(ms: number): void {
    if (this.#stop.signal.aborted) return;
    this.#retention = setTimeout(() => void this.#retain(), ms);
    this.#retention.unref();
  }

  /** One small bite, on a connection of its own beside the writes; soon again while there is more. */
  async #retain(): Promise<void> {
    const before = sqlTime(Math.floor(this.#context.now() - this.#settings.keepMs!) * 1000);
    let deleted = 0;
    try {
      deleted = await this.#withConnection((connection) => deleteOld(connection, before));
    } catch (error) {
      if (!isAway(error) && !isConflict(error)) {
        this.#context.log(`mysql: old rows were not deleted: ${this.#plainError(error)}`);
      }
    }
    this.#scheduleRetention(deleted > 0 ? deleteBusyMs : deleteIdleMs);
  }

  async #end(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#retention);
    await this.#grouper.idle();
    const late = new AbortController();
    // A server that does not answer is no reason to stay.
    await Promise.race([this.#pool.end(), pause(goodbyeMs, late.signal)]);
    late.abort();
  }
}

/** `warp hook mysql --init`: makes the database where it is missing, and its tables. Returns where, for the user. */
export async function initMysql(settings: MysqlSettings, context: SinkContext): Promise<string> {
  const target = targetOf(settings, context);
  let connection: mysql.Connection | undefined;
  try {
    const { database, ...withoutDatabase } = await usableTls(target);
    connection = await mysql.createConnection(withoutDatabase);
    const name = target.database.replaceAll("`", "``");
    await connection.query(`CREATE DATABASE IF NOT EXISTS \`${name}\` DEFAULT CHARACTER SET utf8mb4`);
    await connection.changeUser({ database: target.database });
    await connection.query(sessionSettings);
    await migrateMysql(connection);
    return describeTarget(target);
  } catch (error) {
    throw new SettingError(`mysql: ${describeTarget(target)}: ${(error as Error).message}`);
  } finally {
    await connection?.end();
  }
}

/** Connections that have had `sessionSettings`. */
const prepared = new WeakSet<object>();
/** Times are UTC; a value that doesn't fit is an error, never cut in silence; a lost peer is noticed. */
const sessionSettings =
  "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', " +
  "innodb_lock_wait_timeout = 5, autocommit = 1";

function targetOf(settings: MysqlSettings, context: SinkContext): MysqlTarget {
  const dsn = settings.dsn || context.env.MYSQL_DSN || context.env.DSN || "";
  if (dsn === "") throw new SettingError("missing dsn for mysql, please set `DSN`");
  try {
    return parseMysqlDsn(dsn);
  } catch (error) {
    throw new SettingError(`the dsn for mysql is wrong: ${(error as Error).message}`);
  }
}

/** mysql2's options; for `tls=preferred` after asking the server once whether it has TLS. */
async function usableTls(target: MysqlTarget): Promise<PoolOptions> {
  const options: PoolOptions = {
    user: target.user,
    password: target.password,
    database: target.database,
    charset: "utf8mb4",
    timezone: "Z",
    supportBigNumbers: true,
    connectTimeout: target.connectTimeoutMs,
    enableKeepAlive: true,
    ...(target.socketPath === undefined
      ? { host: target.host, port: target.port }
      : { socketPath: target.socketPath }),
  };
  if (target.tls === "off") return options;
  const encrypted = { ...options, ssl: { rejectUnauthorized: target.tls === "verified" } };
  if (target.tls !== "preferred") return encrypted;
  try {
    await (await mysql.createConnection(encrypted)).end();
    return encrypted;
  } catch (error) {
    return (error as { code?: string }).code === "HANDSHAKE_NO_SSL_SUPPORT" ? options : encrypted;
  }
}

async function insertRows(connection: PoolConnection, rows: Rows): Promise<void> {
  await connection.beginTransaction();
  for (const table of tables) {
    const list = rows.get(table.name as Parameters<Rows["get"]>[0]) ?? [];
    for (let at = 0; at < list.length; ) {
      const fitting = list.slice(at, at + rowCounts[0]!).map((row) => cutToColumns(table, row));
      const count = rowsThatFit(fitting);
      await connection.execute(insert(table, count), fitting.slice(0, count).flat());
      at += count;
    }
  }
  await connection.commit();
}

/** The largest of `rowCounts` whose values are no more than `statementOctets`; 1 at least. */
function rowsThatFit(rows: readonly Value[][]): number {
  let octets = 0;
  let fitting = 0;
  for (const row of rows) {
    for (const value of row) {
      if (typeof value === "string") octets += value.length * 3;
      else octets += value instanceof Uint8Array ? value.length : 8;
    }
    if (octets > statementOctets && fitting > 0) break;
    fitting += 1;
  }
  return rowCounts.find((count) => count <= fitting) ?? 1;
}

const statements = new Map<string, string>();
function insert({ name, columns, primaryKey }: Table, count: number): string {
  const key = `${name} ${count}`;
  let sql = statements.get(key);
  if (sql === undefined) {
    const list = columns.map((column) => `\`${column.name}\``).join(", ");
    const marks = `(${columns.map(() => "?").join(", ")})`;
    // Not INSERT IGNORE, which would also swallow what does not fit.
    const same = `\`${primaryKey[0]}\` = \`${primaryKey[0]}\``;
    sql = `INSERT INTO \`${name}\` (${list}) VALUES ${Array(count).fill(marks).join(", ")} ON DUPLICATE KEY UPDATE ${same}`;
    statements.set(key, sql);
  }
  return sql;
}

/** What is longer than its column is cut at a character; `data_raw` and its like keep the whole. */
function cutToColumns(table: Table, row: readonly Value[]): Value[] {
  return row.map((value, index) => fit(table.columns[index]!, value));
}
const earliest = "1970-01-01T00:00:01.000000";
const latest = "2038-01-19T03:14:07.000000";
function fit(column: Column, value: Value): Value {
  if (value instanceof Uint8Array) return Buffer.isBuffer(value) ? value : Buffer.from(value);
  if (typeof value !== "string") return value;
  if (column.characters !== undefined) return cutCharacters(value, column.characters);
  if (column.octets !== undefined) return cutOctets(value, column.octets);
  // A timestamp has these years only.
  return value < earliest ? earliest : value > latest ? latest : value;
}

async function deleteOld(connection: PoolConnection, before: string): Promise<number> {
  let deleted = 0;
  for (const table of tables) {
    if (deleted >= deleteRows) break;
    const sql = `DELETE FROM \`${table.name}\` WHERE \`occurred_at\` < ? ORDER BY \`occurred_at\` LIMIT ${deleteRows - deleted}`;
    const [result] = await connection.query<mysql.ResultSetHeader>(sql, [before]);
    deleted += result.affectedRows;
  }
  return deleted;
}

async function rollBack(connection: PoolConnection): Promise<void> {
  try {
    await connection.rollback();
    connection.release();
  } catch {
    // Then it is gone with the connection.
    connection.destroy();
  }
}

/** A server that takes statements and answers none is away too: its connection is given up. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(Object.assign(new Error(`no answer within ${answerMs} ms`), { code: "ETIMEDOUT" }));
    }, answerMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Deadlock and lock wait: the transaction was fine, and is done again. */
function isConflict(error: unknown): boolean {
  const { errno } = error as { errno?: number };
  return errno === 1213 || errno === 1205;
}

/** The connection or the server is not there (now): any error that is no answer of the server, and its own goodbyes. */
function isAway(error: unknown): boolean {
  const { errno, code, sqlState } = error as { errno?: number; code?: string; sqlState?: string };
  // Shutting down, killed, out of connections, read-only while failing over, disk full.
  if ([1053, 1077, 1079, 1927, 3168, 1040, 1203, 1290, 1836, 1021, 1114].includes(errno ?? 0)) return true;
  if (sqlState?.startsWith("08") === true) return true;
  if (sqlState !== undefined) return false;
  return (
    typeof code === "string" &&
    (code.startsWith("E") || code.startsWith("PROTOCOL_")) &&
    !code.startsWith("ER_")
  );
}
