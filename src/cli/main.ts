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
  // V8 would place what optimized code makes directly among the old objects, where it saw such objects live on (sessions,
  // batches of events): dead ones then keep the young they refer to alive, which are copied, kept, and marked in vain.
  const { setFlagsFromString } = await import("node:v8");
  setFlagsFromString("--no-allocation-site-pretenuring");
  // Octets of messages are outside of V8's heap, but count for when it marks and sweeps all of it: with a heap as small as
  // ours that was every 7 MB of mail. Three times what was alive is when it is done now.
  setFlagsFromString("--heap-growing-percent=200");
  const { dispatch, exitWith } = await import("./dispatch.ts");
  exitWith(await dispatch(process.argv.slice(2)));
}

export {};
