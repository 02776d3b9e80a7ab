/**
 * A lock on a directory that two processes never hold at once and that a killed process does not keep: the kernel's own
 * record lock on a file in it, taken through SQLite, which is the one way to such a lock that Node brings along. It holds
 * across containers that share the directory, where process ids mean nothing.
 */
import { closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

export const LOCK_FILE = "lock";

/** Undefined: another process has it. The result gives it back. Throws where the file cannot be made. */
export function lockDirectory(directory: string): (() => void) | undefined {
  const path = join(directory, LOCK_FILE);
  // Never opened again where it is there: closing any descriptor of it would end the lock that this process may hold.
  if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600));
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    // SQLITE_BUSY
    if ((error as { errcode?: number }).errcode === 5) return undefined;
    throw error;
  }
  return () => database.close();
}
