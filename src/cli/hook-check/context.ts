/** What every check is given. */
import type { DescribeResponse } from "../../gen/warp/hook/v1/hook_pb.ts";
import type { HookConnection } from "./connection.ts";
import type { Report } from "./report.ts";

export interface CheckContext {
  readonly report: Report;
  /** The connection that most checks share. */
  readonly connection: HookConnection;
  /** One more, to be closed by who asked for it. */
  readonly connect: () => HookConnection;
  readonly described: DescribeResponse;
  /** How long the server has for each answer. ms. */
  readonly timeoutMs: number;
  /** Size of the large message. */
  readonly largeOctets: number;
}
