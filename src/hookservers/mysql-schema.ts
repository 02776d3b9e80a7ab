/**
 * The tables of schema.ts in a MySQL or MariaDB database: made where they are missing; where the original (or an older
 * version of ours) made them, the missing columns and indexes are added behind theirs. Nothing is dropped or rewritten,
 * and no collation is named, since none is known to both servers: new tables get the server's own for utf8mb4.
 */
import type { Connection, RowDataPacket } from "mysql2/promise";
import { schemaVersion, type Table, tables } from "./schema.ts";

/** How long to wait for another server that migrates the same database. s. */
const lockSeconds = 120;
/** Longest part of a text in an index: 4 octets a character have to fit the 767 of the older row formats. */
const indexedCharacters = 191;

/** Brings the database of `connection` to `schemaVersion`. Idempotent; also mends what an interrupted run left. */
export async function migrateMysql(connection: Connection): Promise<void> {
  // A lock's name has at most 64 characters in MySQL, as a database's.
  const lock = "CONCAT('warp.', MD5(DATABASE()))";
  const [[got]] = await connection.query<RowDataPacket[]>(`SELECT GET_LOCK(${lock}, ${lockSeconds}) AS got`);
  if (got?.got !== 1) throw new Error(`another server has been migrating for ${lockSeconds} s`);
  try {
    const version = await versionOf(connection);
    if (version > schemaVersion) {
      throw new Error(
        `has schema version ${version}, made by a newer warp; this one knows up to ${schemaVersion}`,
      );
    }
    if (version === schemaVersion) return;
    for (const table of tables) await ensureTable(connection, table);
    await connection.query("REPLACE INTO `warp_schema` (`id`, `version`) VALUES (1, ?)", [schemaVersion]);
  } finally {
    await connection.query(`SELECT RELEASE_LOCK(${lock})`);
  }
}

/** True where nothing is to be done: one quick question. */
export async function isMigrated(connection: Connection): Promise<boolean> {
  try {
    const [[row]] = await connection.query<RowDataPacket[]>(
      "SELECT `version` FROM `warp_schema` WHERE `id` = 1",
    );
    return Number(row?.version) === schemaVersion;
  } catch (error) {
    // ER_NO_SUCH_TABLE: a database of the original, or an empty one.
    if ((error as { errno?: number }).errno === 1146) return false;
    throw error;
  }
}

async function versionOf(connection: Connection): Promise<number> {
  await connection.query(
    "CREATE TABLE IF NOT EXISTS `warp_schema` (`id` tinyint NOT NULL PRIMARY KEY, `version` int NOT NULL) ENGINE=InnoDB",
  );
  const [[row]] = await connection.query<RowDataPacket[]>(
    "SELECT `version` FROM `warp_schema` WHERE `id` = 1",
  );
  return row === undefined ? 0 : Number(row.version);
}

async function ensureTable(connection: Connection, table: Table): Promise<void> {
  const present = await names(
    connection,
    "SELECT LOWER(column_name) AS name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?",
    table.name,
  );
  if (present.size === 0) {
    await connection.query(createTable(table));
    return;
  }
  const missing = table.columns.filter((column) => !present.has(column.name));
  if (missing.length > 0) {
    const added = missing.map(({ name, mysql }) => `ADD COLUMN \`${name}\` ${mysql}`);
    await connection.query(`ALTER TABLE \`${table.name}\` ${added.join(", ")}`);
  }
  const indexes = await names(
    connection,
    "SELECT DISTINCT LOWER(index_name) AS name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ?",
    table.name,
  );
  const wanted = indexParts(table).filter(({ name }) => !indexes.has(name));
  // One statement: the table is gone through once, and stays writable meanwhile (InnoDB does it online).
  if (wanted.length > 0) {
    await connection.query(
      `ALTER TABLE \`${table.name}\` ${wanted.map(({ sql }) => `ADD ${sql}`).join(", ")}`,
    );
  }
}

function createTable(table: Table): string {
  const parts = table.columns.map(({ name, mysql }) => `\`${name}\` ${mysql}`);
  parts.push(`PRIMARY KEY (${table.primaryKey.map((name) => `\`${name}\``).join(", ")})`);
  parts.push(...indexParts(table).map(({ sql }) => sql));
  return `CREATE TABLE \`${table.name}\` (${parts.join(", ")}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC`;
}

function indexParts(table: Table): { name: string; sql: string }[] {
  return table.indexes.map(({ name, columns }) => {
    const parts = columns.map((column) => {
      const characters = table.columns.find((each) => each.name === column)!.characters ?? 0;
      return characters > indexedCharacters ? `\`${column}\`(${indexedCharacters})` : `\`${column}\``;
    });
    return { name, sql: `INDEX \`${name}\` (${parts.join(", ")})` };
  });
}

async function names(connection: Connection, sql: string, table: string): Promise<Set<string>> {
  const [rows] = await connection.query<RowDataPacket[]>(sql, [table]);
  return new Set(rows.map((row) => String(row.name)));
}
