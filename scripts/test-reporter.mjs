/**
 * A reporter for `node --test`: one line per file as it ends, each failure and each skip by its full name, and what a
 * file printed only if it failed. With WARP_TEST_COUNTS it writes the run's counts to that file as JSON, which is how
 * test.mjs adds up the suites.
 */

import { writeFileSync } from "node:fs";
import { relative } from "node:path";

const outputCap = 64 * 1024;

export default async function* report(source) {
  const files = new Map();
  const fileOf = (data) => {
    const name = data.file ?? "";
    if (!files.has(name)) files.set(name, { path: [], problems: [], output: "" });
    return files.get(name);
  };
  for await (const { type, data } of source) {
    if (type === "test:start") {
      const file = fileOf(data);
      file.path.length = data.nesting;
      file.path[data.nesting] = data.name;
    } else if (type === "test:pass" || type === "test:fail") {
      const problem = problemOf(type, data, fileOf(data).path.slice(0, data.nesting));
      if (problem !== undefined) fileOf(data).problems.push(problem);
    } else if (type === "test:stdout" || type === "test:stderr") {
      const file = fileOf(data);
      if (file.output.length < outputCap) file.output += data.message;
    } else if (type === "test:summary" && data.file !== undefined) {
      yield fileReport(data, fileOf(data));
      files.delete(data.file);
    } else if (type === "test:summary") {
      // What is left belongs to files that could not be run at all.
      for (const file of files.values())
        yield [...file.problems, ...outputLines(file)].map((text) => `${text}\n`).join("");
      if (process.env.WARP_TEST_COUNTS)
        writeFileSync(process.env.WARP_TEST_COUNTS, JSON.stringify(data.counts));
    }
  }
}

function problemOf(type, data, parents) {
  const name = [...parents, data.name].join(" › ");
  if (type === "test:pass") {
    if (data.skip === undefined) return undefined;
    return `    - skipped: ${name}${typeof data.skip === "string" && data.skip !== "" ? ` (${data.skip})` : ""}`;
  }
  const error = data.details.error;
  // A suite fails because one of its tests did, which has its own entry.
  if (error?.failureType === "subtestsFailed") return undefined;
  const cause = error?.cause ?? error;
  const text = cause instanceof Error || cause?.stack ? cause.stack : String(cause);
  return `    ✖ ${name}\n${indent(text, 8)}`;
}

function fileReport(data, file) {
  const { passed, skipped, todo, failed, cancelled } = data.counts;
  // Not in the form of npm test's closing line: whoever reads the output must find that one only.
  const counts = [`passed ${passed}`];
  if (failed + cancelled > 0) counts.push(`failed ${failed + cancelled}`);
  if (skipped + todo > 0) counts.push(`skipped ${skipped + todo}`);
  const seconds = (data.duration_ms / 1000).toFixed(1);
  const name = relative(process.cwd(), data.file);
  const lines = [
    `  ${data.success ? "✔" : "✖"} ${name}: ${counts.join(", ")} (${seconds} s)`,
    ...file.problems,
  ];
  if (!data.success) lines.push(...outputLines(file));
  return `${lines.join("\n")}\n`;
}

function outputLines(file) {
  return file.problems.length === 0 || file.output === ""
    ? []
    : ["    output:", indent(file.output.trimEnd(), 8)];
}

function indent(text, columns) {
  return String(text).replace(/^/gm, " ".repeat(columns));
}
