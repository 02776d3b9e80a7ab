/**
 * The SQLite sink (node:sqlite): write-ahead log, one transaction for what is acknowledged together, the tables of
 * schema.ts. A row whose key is there already is left as it is, so what is sent again changes nothing. Readers (`warp log`,
 * any sqlite3) never block it and are never blocked. Rows older than `keep` are deleted in small transactions between the
 * others.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { Grouper } from "./grouper.ts";
import { type Item, rowsOf } from "./rows.ts";
import { type Table, tables } from "./schema.ts";
import { type Batch, SettingError, type Sink, type SinkContext, SinkError } from "./sink.ts";
import { migrateSqlite } from "./sqlite-schema.ts";
import { sqlTime } from "./words.ts";

/** What may be set; a member that is missing has its default. */
export interface SqliteSettings {
  /** A path, `:memory:`, or a `file:` URI. Default: `SQLITE_DSN`, then the original's `DSN`. */
  readonly dsn?: string | undefined;
  /** ms after which rows are deleted; default: never. */
  readonly keepMs?: number | undefined;
  /**
   * `full` (default): on the disk before each acknowledgement. `normal`: safe against the death of the process, not of the
   * machine.
   */
  readonly synchronous?: "full" | "normal" | undefined;
}

const groupItems = 2048;
/** How long a write waits for another process that is writing; nothing else runs meanwhile. ms. */
const busyMs = 2000;
const deleteRows = 500;
const deleteIdleMs = 60_000;
const deleteBusyMs = 20;

export class SqliteSink implements Sink {
  readonly name = "sqlite";
  readonly durable = true;
  readonly #settings: SqliteSettings;
  readonly #dsn: string;
  readonly #context: SinkContext;
  readonly #database: DatabaseSync;
  readonly #inserts: ReadonlyMap<string, StatementSync>;
  readonly #grouper: Grouper<Item>;
  #retention: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;

  /** Opens or makes the database and brings its tables up to date. Throws a `SettingError` when it can't. */
  static open(settings: SqliteSettings, context: SinkContext): SqliteSink {
    const dsn = settings.dsn || context.env.SQLITE_DSN || context.env.DSN || "";
    if (dsn === "") throw new SettingError("missing dsn for sqlite, please set `DSN`");
    if (/@(tcp|unix)\(|^(mysql|mariadb):/.test(dsn)) {
      throw new SettingError(
        "the dsn for sqlite is one of MySQL, please set `SQLITE_DSN` beside `DSN` or `MYSQL_DSN`",
      );
    }
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(dsn, { timeout: busyMs });
      // Both only matter for a database that is new; an old one keeps its own.
      database.exec("PRAGMA auto_vacuum = INCREMENTAL");
      database.exec("PRAGMA journal_mode = WAL");
      database.exec(`PRAGMA synchronous = ${settings.synchronous ?? "full"}`);
      // 16 MiB of log between checkpoints: a page that is written again and again is copied once.
      database.exec("PRAGMA wal_autocheckpoint = 4000");
      database.exec("PRAGMA journal_size_limit = 67108864");
      migrateSqlite(database);
      return new SqliteSink(settings, dsn, context, database);
    } catch (error) {
      if (database?.isOpen) database.close();
      throw new SettingError(`sqlite: ${dsn}: ${(error as Error).message}`);
    }
  }

  private constructor(settings: SqliteSettings, dsn: string, context: SinkContext, database: DatabaseSync) {
    this.#settings = settings;
    this.#dsn = dsn;
    this.#context = context;
    this.#database = database;
    this.#inserts = new Map(tables.map((table) => [table.name, database.prepare(insert(table))]));
    this.#grouper = new Grouper((items) => this.#write(items), groupItems);
    if (settings.keepMs !== undefined) this.#scheduleRetention(0);
  }

  async store(batch: Batch): Promise<void> {
    if (this.#closed !== undefined) throw new SinkError("sqlite: closed");
    const receivedMs = this.#context.now();
    await this.#grouper.add(batch.events.map((event) => ({ event, source: batch.source, receivedMs })));
  }

  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #write(items: readonly Item[]): Promise<void> {
    const database = this.#database;
    try {
      database.exec("BEGIN IMMEDIATE");
      for (const [table, rows] of rowsOf(items)) {
        const statement = this.#inserts.get(table)!;
        for (const row of rows) statement.run(...row);
      }
      database.exec("COMMIT");
    } catch (error) {
      this.#rollBack();
      throw new SinkError(this.#plainError(error as Error));
    }
  }

  /** SQLite rolls back by itself on some errors (a full disk), on others not. */
  #rollBack(): void {
    try {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
    } catch (error) {
      this.#context.log(`sqlite: ${this.#dsn}: rolling back failed: ${(error as Error).message}`);
    }
  }

  #plainError(error: Error & { errcode?: number }): string {
    const dsn = this.#dsn;
    // SQLITE_FULL, and SQLITE_IOERR_WRITE, which a full disk is where the log cannot grow.
    if (error.errcode === 13)
      return `the disk of ${dsn} is full; nothing is acknowledged until there is room`;
    return `cannot write ${dsn}: ${error.message}`;
  }

  #scheduleRetention(ms: number): void {
    this.#retention = setTimeout(() => void this.#retain(), ms);
    this.#retention.unref();
  }

  /** One small bite; soon again while there is more. */
  async #retain(): Promise<void> {
    const before = sqlTime(Math.floor(this.#context.now() - this.#settings.keepMs!) * 1000);
    let deleted = 0;
    try {
      await this.#grouper.exclusively(() => {
        deleted = deleteOld(this.#database, before);
      });
    } catch (error) {
      this.#rollBack();
      this.#context.log(`sqlite: old rows were not deleted: ${this.#plainError(error as Error)}`);
    }
    if (this.#closed === undefined) this.#scheduleRetention(deleted > 0 ? deleteBusyMs : deleteIdleMs);
  }

  async #end(): Promise<void> {
    clearTimeout(this.#retention);
    await this.#grouper.idle();
    this.#database.close();
  }
}

function insert({ name, columns, primaryKey }: Table): string {
  const names = columns.map((column) => `"${column.name}"`).join(", ");
  const marks = columns.map(() => "?").join(", ");
  const key = primaryKey.map((column) => `"${column}"`).join(", ");
  return `INSERT INTO "${name}" (${names}) VALUES (${marks}) ON CONFLICT (${key}) DO NOTHING`;
}

/** Rows of each table that are older than `before`, at most `deleteRows` in all; how many went. */
function deleteOld(database: DatabaseSync, before: string): number {
  let deleted = 0;
  for (const table of tables) {
    if (deleted >= deleteRows) break;
    const sql = `DELETE FROM "${table.name}" WHERE rowid IN
      (SELECT rowid FROM "${table.name}" WHERE occurred_at < ? ORDER BY occurred_at LIMIT ?)`;
    deleted += Number(database.prepare(sql).run(before, deleteRows - deleted).changes);
  }
  if (deleted > 0) database.exec("PRAGMA incremental_vacuum(200)");
  return deleted;
}
