/** A hook server for the benchmarks, by the package's own SDK: a filter that relays all, or an observer that stores nothing. */
import { relay, serveHook } from "../src/sdk/index.ts";

const [kind, listen = ""] = process.argv.slice(2);
await serveHook({
  name: `bench-${kind}`,
  listen,
  ...(kind === "relay"
    ? {
        // Reads all of it, as a filter that looks at everything.
        beforeRelay: async (_envelope, message) => {
          await message.bytes();
          return relay();
        },
      }
    : { observe: () => {} }),
});
console.log("ready");
