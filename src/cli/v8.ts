/** What V8 is told of this program, before any of its code is compiled. */
import { setFlagsFromString } from "node:v8";

export function settleV8(): void {
  // V8 would place what optimized code makes directly among the old objects, where it saw such objects live on (sessions,
  // batches of events): dead ones then keep the young they refer to alive, which are copied, kept, and marked in vain.
  setFlagsFromString("--no-allocation-site-pretenuring");
  // Octets of messages, and TLS, are outside of V8's heap, but count for when it marks and sweeps all of it: with a heap as
  // small as ours that was every 7 MB of mail. Three times what was alive is when it is done now.
  setFlagsFromString("--heap-growing-percent=200");
}
