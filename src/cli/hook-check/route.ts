/** The promise of `SelectRoute`: an answer within 200 ms that the proxy can use. */
import { isIP } from "node:net";
import { validateReject } from "../../filter/verdict.ts";
import { statusText } from "./connection.ts";
import type { CheckContext } from "./context.ts";
import { Broken } from "./report.ts";
import * as samples from "./samples.ts";

const DEADLINE_MS = 200;
const POOLS = ["shared", "penalty"];

export async function checkSelectRoute({ report, connection }: CheckContext): Promise<void> {
  await report.check("SelectRoute", `answers within ${DEADLINE_MS} ms with something usable`, async () => {
    const request = {
      transactionId: "01JHOOKCHECK00000000000000",
      session: samples.session(),
      mailFrom: { address: "alice@example.org", raw: Buffer.from("<alice@example.org>") },
      recipient: { address: "bob@example.net", raw: Buffer.from("<bob@example.net>") },
      sender: "alice@example.org",
      score: 0.5,
      tier: "neutral",
      pools: POOLS,
    };
    const outcome = await connection.selectRoute(request, DEADLINE_MS);
    if ("error" in outcome) {
      throw new Broken(
        statusText(outcome.error),
        `answer within ${DEADLINE_MS} ms; the rules decide instead`,
      );
    }
    const { route } = outcome.response;
    if (route.case === undefined) return "leaves it to the rules";
    if (route.case === "pool" && !POOLS.includes(route.value)) {
      throw new Broken(
        `pool "${route.value}" is none of ${POOLS.join(", ")}`,
        "choose one of the pools in the request",
      );
    }
    if (route.case === "sourceIp" && isIP(route.value) === 0) {
      throw new Broken(`"${route.value}" is no IP`, "source_ip is an IP that is in a pool of the proxy");
    }
    if (route.case === "refuse") {
      const reply = validateReject(route.value);
      if (typeof reply === "string") throw new Broken(reply, "a refusal follows the rules of Reject");
    }
    return route.case;
  });
}
