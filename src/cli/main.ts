#!/usr/bin/env node
/**
 * The program `warp`. Only a look at the Node that runs it, in words that every Node understands; everything else is
 * imported after that.
 */
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  process.stderr.write(
    `warp: needs Node 24 or later, this is ${process.versions.node} (${process.execPath})\n`,
  );
  process.exitCode = 1;
} else {
  const { settleV8 } = await import("./v8.ts");
  settleV8();
  const { dispatch, exitWith } = await import("./dispatch.ts");
  exitWith(await dispatch(process.argv.slice(2)));
}

export {};
