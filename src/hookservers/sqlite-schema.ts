/**
 * The tables of schema.ts in a SQLite database: made where they are missing, and added to where the original (or an older
 * version of ours) made them. The version is `user_version`; what is there is never dropped or rewritten.
 */
import type { DatabaseSync } from "node:sqlite";
import { schemaVersion, type Table, tables } from "./schema.ts";

/**
 * Brings the database to `schemaVersion`, in one transaction. Throws where a newer version made it, since we would not
 * know what its columns mean.
 */
export function migrateSqlite(database: DatabaseSync): void {
  const version = userVersion(database);
  if (version === schemaVersion) return;
  if (version > schemaVersion) {
    throw new Error(
      `has schema version ${version}, made by a newer warp; this one knows up to ${schemaVersion}`,
    );
  }
  database.exec("BEGIN IMMEDIATE");
  try {
    // Somebody else may have done it while we waited for the lock.
    if (userVersion(database) < schemaVersion) {
      for (const table of tables) ensureTable(database, table);
      database.exec(`PRAGMA user_version = ${schemaVersion}`);
    }
    database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

export function userVersion(database: DatabaseSync): number {
  return (database.prepare("PRAGMA user_version").get() as { user_version: number }).user_version;
}

/** Names of the columns that a table has; none: it is not there. */
export function columnsOf(database: DatabaseSync, table: string): Set<string> {
  const rows = database.prepare("SELECT name FROM pragma_table_info(?)").all(table) as { name: string }[];
  return new Set(rows.map(({ name }) => name));
}

/** Columns that a new table has come in order of the original, then ours; an old one gets the missing ones behind its own. */
function ensureTable(database: DatabaseSync, table: Table): void {
  const present = columnsOf(database, table.name);
  if (present.size === 0) database.exec(createTable(table));
  else {
    for (const column of table.columns) {
      if (present.has(column.name)) continue;
      database.exec(`ALTER TABLE "${table.name}" ADD COLUMN "${column.name}" ${column.sqlite}`);
    }
  }
  for (const index of table.indexes) {
    const columns = index.columns.map((name) => `"${name}"`).join(", ");
    database.exec(`CREATE INDEX IF NOT EXISTS "${index.name}" ON "${table.name}" (${columns})`);
  }
}

function createTable(table: Table): string {
  const single = table.primaryKey.length === 1 ? table.primaryKey[0] : undefined;
  const columns = table.columns.map(
    ({ name, sqlite }) => `"${name}" ${sqlite}${name === single ? " primary key" : ""}`,
  );
  if (single === undefined)
    columns.push(`primary key (${table.primaryKey.map((name) => `"${name}"`).join(", ")})`);
  return `CREATE TABLE "${table.name}" (${columns.join(", ")})`;
}
