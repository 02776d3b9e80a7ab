/**
 * Where the demo happens: as root a network of its own (two namespaces joined by a cable), in which warp's real capture
 * rules work; else this host's loopback, where nothing can be captured and warp is told its destination.
 */
import { spawnSync } from "node:child_process";
import { createServer } from "node:net";

export interface Network {
  /** Where the mail server listens. */
  readonly address: { readonly ip: string; readonly port: number };
  /** Words before a command that runs where the client and warp are, and where the mail server is. */
  readonly client: readonly string[];
  readonly destination: readonly string[];
  readonly warpFlags: readonly string[];
  readonly captured: boolean;
  readonly explanation: string;
  close(): void;
}

export async function openNetwork(wantsLoopback: boolean): Promise<Network> {
  const missing = wantsLoopback ? "--loopback says so" : missingForCapture();
  if (missing === undefined) {
    try {
      return namespaces();
    } catch (error) {
      return loopback(`namespaces cannot be made here (${(error as Error).message.trim()})`);
    }
  }
  return loopback(missing);
}

function missingForCapture(): string | undefined {
  if (process.platform !== "linux") return "capturing needs Linux";
  if (process.getuid?.() !== 0) return "capturing needs root";
  const absent = ["ip", "nft"].filter(
    (name) => spawnSync(name, ["-V"], { stdio: "ignore" }).error !== undefined,
  );
  return absent.length === 0 ? undefined : `capturing needs ${absent.join(" and ")}`;
}

function namespaces(): Network {
  const [here, there] = [`warp-demo-${process.pid}-a`, `warp-demo-${process.pid}-b`];
  const close = (): void => {
    for (const name of [here, there]) spawnSync("ip", ["netns", "del", name], { stdio: "ignore" });
  };
  try {
    for (const name of [here, there]) ip("netns", "add", name);
    ip("link", "add", "veth0", "netns", here, "type", "veth", "peer", "name", "veth0", "netns", there);
    for (const [name, address] of [
      [here, "192.0.2.1/24"],
      [there, "192.0.2.25/24"],
    ] as const) {
      ip("-n", name, "link", "set", "lo", "up");
      ip("-n", name, "address", "add", address, "dev", "veth0");
      ip("-n", name, "link", "set", "veth0", "up");
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    address: { ip: "192.0.2.25", port: 25 },
    client: ["ip", "netns", "exec", here],
    destination: ["ip", "netns", "exec", there],
    warpFlags: [],
    captured: true,
    explanation:
      "Two hosts in a network of their own: a mail client and warp at 192.0.2.1, a mail server at 192.0.2.25:25.\n" +
      "`warp rules --apply` makes the kernel hand the client's connections to warp; the client is not told.",
    close,
  };
}

async function loopback(why: string): Promise<Network> {
  const [server, proxy] = [await freePort(), await freePort()];
  return {
    address: { ip: "127.0.0.1", port: server },
    client: [],
    destination: [],
    warpFlags: ["--ip", "127.0.0.1", "--port", String(proxy), "--destination", `127.0.0.1:${server}`],
    captured: false,
    explanation:
      `Without capture, since ${why}: warp listens on 127.0.0.1:${proxy} and sends everything\n` +
      `to the mail server on 127.0.0.1:${server} (--destination). As root, with nft, the demo captures for real.`,
    close() {},
  };
}

function ip(...args: string[]): void {
  const done = spawnSync("ip", args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(done.stderr || `ip ${args.join(" ")} failed`);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
