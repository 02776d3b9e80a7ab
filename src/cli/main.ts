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
  // Node would open its debugger for it, on a port that asks nobody on this host who he is; to others it means "reopen logs".
  process.on("SIGUSR1", () => {});
  const { settleV8 } = await import("./v8.ts");
  settleV8();
  const { dispatch, exitWith } = await import("./dispatch.ts");
  exitWith(await dispatch(process.argv.slice(2)));
}

export {};
