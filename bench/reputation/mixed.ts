/** Two pools, and senders of both on one connection: how often a leg is replaced, or made for nothing. */
import { RunningProxy } from "./proxy.ts";
import { send } from "./smtp.ts";
import { POOLS } from "./throughput.ts";

const METRICS = ["warp_transactions_total", "warp_legs_unused_total"] as const;

/** Nine of ten connections have good senders only; in the others one message of four is of a sender of the penalty pool. */
export async function mixed(folder: string, upstream: number): Promise<void> {
  const proxy = await RunningProxy.start(folder, upstream, POOLS);
  try {
    // First the bad ones earn their tier.
    await send(proxy.port, { connections: 4, each: 40, sender: () => "bad@sender.example" });
    const before = await Promise.all(METRICS.map((name) => proxy.metric(name)));
    const replacedBefore = await proxy.metric("warp_legs_total", /reason="route"/);
    let n = 0;
    const sender = () => {
      n += 1;
      const isMixed = Math.floor(n / 200) % 10 === 0;
      return isMixed && n % 4 === 0 ? "bad@sender.example" : `user${n % 500}@sender.example`;
    };
    await send(proxy.port, { connections: 50, each: 20, sender });
    const after = await Promise.all(METRICS.map((name) => proxy.metric(name)));
    const replaced = (await proxy.metric("warp_legs_total", /reason="route"/)) - replacedBefore;
    const [transactions, unused] = after.map((value, i) => value - (before[i] ?? 0)) as [number, number];
    const share = (value: number) => `${((100 * value) / transactions).toFixed(2)} %`;
    console.log(`\nmixed load over two pools: ${transactions} transactions`);
    console.log(`legs replaced for another source IP          ${share(replaced)} of transactions`);
    console.log(`legs that ended without a transaction        ${share(unused)} of transactions`);
  } finally {
    await proxy.stop();
  }
}
