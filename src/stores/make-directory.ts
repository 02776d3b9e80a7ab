/**
 * `mkdir -p`, for this user alone, level by level: Node's own (`recursive`) never returns where a file system says ENOENT
 * although the parent is there, as /proc does. Throws the system's error.
 */
import { existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";

export function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (!existsSync(parent)) makeDirectory(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process of ours was first.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
