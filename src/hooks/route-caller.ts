/** SelectRoute over gRPC: the first hook in order that says it selects routes and is there. */
import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { RouteAnswer, RouteQuestion, SelectRoute } from "../egress/contract.ts";
import type { Telemetry } from "../events/telemetry.ts";
import { validateReject } from "../filter/verdict.ts";
import {
  Capability,
  type SelectRouteResponse,
  SelectRouteResponseSchema,
} from "../gen/warp/hook/v1/hook_pb.ts";
import { type HookConnection, SERVICE } from "./connection.ts";
import { encodeRouteQuestion, type SourceFacts } from "./event-encoding.ts";
import { type CallFailure, callFailure, printable } from "./failure.ts";
import { WireWriter } from "./wire.ts";

/** Whatever takes longer, or goes wrong, means that the rules decide. */
const SELECT_ROUTE_MS = 200;

export class RouteCaller implements SelectRoute {
  private readonly connections: readonly HookConnection[];
  private readonly source: SourceFacts;
  private readonly telemetry: Pick<Telemetry, "log" | "hookFailure">;

  constructor(
    connections: readonly HookConnection[],
    source: SourceFacts,
    telemetry: Pick<Telemetry, "log" | "hookFailure">,
  ) {
    this.connections = connections;
    this.source = source;
    this.telemetry = telemetry;
  }

  get available(): boolean {
    return this.connections.some(selects);
  }

  async ask(question: RouteQuestion): Promise<RouteAnswer | undefined> {
    const connection = this.connections.find(selects);
    if (connection === undefined) return undefined;
    const hook = connection.settings.name;
    const client = connection.client();
    if (client === undefined) return this.failed(hook, { cause: "absent", detail: "it is not connected" });
    const writer = new WireWriter(2048);
    encodeRouteQuestion(writer, question, this.source);
    const answer = await call(client, Buffer.from(writer.view()));
    if ("cause" in answer) return this.failed(hook, answer);
    const { route } = answer;
    switch (route.case) {
      case "pool":
        return { kind: "pool", hook, pool: route.value };
      case "sourceIp":
        return { kind: "source_ip", hook, sourceIp: route.value };
      case "refuse": {
        const reply = validateReject(route.value);
        if (typeof reply === "string") return this.failed(hook, { cause: "invalid", detail: reply });
        return { kind: "refuse", hook, reply };
      }
      default:
        return undefined;
    }
  }

  private failed(hook: string, failure: CallFailure): undefined {
    this.telemetry.hookFailure(hook, failure.cause, "none");
    this.telemetry.log("warn", "select_route_failed", `${hook}: ${printable(failure.detail)}`, {
      hook,
      cause: failure.cause,
    });
    return undefined;
  }
}

function selects(connection: HookConnection): boolean {
  return connection.description?.capabilities.includes(Capability.SELECT_ROUTE) ?? false;
}

function call(client: grpc.Client, request: Buffer): Promise<SelectRouteResponse | CallFailure> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      `${SERVICE}/SelectRoute`,
      (octets: Buffer) => octets,
      (octets: Buffer) => octets,
      request,
      new grpc.Metadata(),
      { deadline: Date.now() + SELECT_ROUTE_MS },
      (error, octets) => {
        if (error !== null || octets === undefined) {
          resolve(callFailure(error ?? { code: grpc.status.OK, details: "" }, "SelectRoute"));
          return;
        }
        try {
          resolve(fromBinary(SelectRouteResponseSchema, octets));
        } catch (cause) {
          resolve({ cause: "invalid", detail: `the answer is no protobuf: ${(cause as Error).message}` });
        }
      },
    );
  });
}
