/** The promises of the connection, of `Describe` and of the health service, and that Describe and the RPCs agree. */
import * as grpc from "@grpc/grpc-js";
import { Capability, type DescribeResponse } from "../../gen/warp/hook/v1/hook_pb.ts";
import { type HookConnection, statusText } from "./connection.ts";
import type { CheckContext } from "./context.ts";
import { Broken, type Report, Worth } from "./report.ts";
import * as samples from "./samples.ts";
import { StreamUnderTest } from "./stream.ts";

const NAMES = new Map<number, string>(Object.entries(Capability).map(([name, value]) => [value, name]));

export const observes = (described: DescribeResponse): boolean =>
  described.capabilities.some(
    (each) =>
      each === Capability.AFTER_COMM ||
      each === Capability.AFTER_CONN ||
      each === Capability.AFTER_TRANSACTION,
  );
export const filters = (described: DescribeResponse): boolean =>
  described.capabilities.includes(Capability.BEFORE_RELAY);
export const routes = (described: DescribeResponse): boolean =>
  described.capabilities.includes(Capability.SELECT_ROUTE);

/** Connects and asks for the description; undefined where there is no going on. */
export async function checkDescribe(
  report: Report,
  connect: () => HookConnection,
): Promise<{ connection: HookConnection; described: DescribeResponse } | undefined> {
  const connection = connect();
  let described: DescribeResponse | undefined;
  const connected = await report.check("connection", "the address accepts a gRPC connection", async () => {
    try {
      await connection.ready();
    } catch (error) {
      throw new Broken(
        `no connection: ${(error as Error).message}`,
        "is the server running, at this address, with or without TLS as asked for here (--ca)?",
      );
    }
    return "connected";
  });
  if (connected) {
    await report.check("Describe", "says what the hook is", async () => {
      described = await description(connection);
      const capabilities = described.capabilities
        .map((each) => NAMES.get(each) ?? `unknown (${each})`)
        .join(", ");
      return `${described.name || "(no name)"} ${described.version}: ${capabilities || "nothing"}`;
    });
  }
  if (described === undefined) {
    connection.close();
    return undefined;
  }
  const known = described;
  await report.check("Describe", "names capabilities that there are, at least one", () =>
    capabilities(known),
  );
  await report.check("Describe", "says the same after a reconnect", () => again(connect, known));
  await report.check("health", "the standard health service says SERVING", () => health(connection));
  return { connection, described: known };
}

async function description(connection: HookConnection): Promise<DescribeResponse> {
  const outcome = await connection.describe();
  if (!("error" in outcome)) return outcome.response;
  const unimplemented = outcome.error.code === grpc.status.UNIMPLEMENTED;
  throw new Broken(
    statusText(outcome.error),
    unimplemented
      ? "no warp hook at this address: every hook server implements warp.hook.v1.HookService/Describe"
      : "Describe is called at each connect, before anything else, and has to answer within 10 s",
  );
}

async function capabilities(described: DescribeResponse): Promise<string> {
  const unknown = described.capabilities.filter((each) => each === 0 || !NAMES.has(each));
  if (described.capabilities.length === 0) {
    throw new Broken(
      "no capability is named",
      "without one warp calls nothing of this hook: name what it implements",
    );
  }
  if (unknown.length > 0) {
    throw new Worth(`unknown capabilities: ${unknown.join(", ")}`, "warp ignores what it does not know");
  }
  if (described.name === "") throw new Worth("the name is empty", "logs name the hook by it");
  return `${described.capabilities.length}`;
}

async function again(connect: () => HookConnection, first: DescribeResponse): Promise<string> {
  const connection = connect();
  try {
    const second = await description(connection);
    const shape = (each: DescribeResponse) =>
      JSON.stringify([
        each.name,
        [...each.capabilities].sort(),
        String(each.maxMessageOctets),
        each.headerOnly,
      ]);
    if (shape(first) !== shape(second)) {
      throw new Worth(
        `${shape(first)}, then ${shape(second)}`,
        "a filter that no longer names BEFORE_RELAY stays one until the proxy reloads",
      );
    }
    return "the same";
  } finally {
    connection.close();
  }
}

async function health(connection: HookConnection): Promise<string> {
  const outcome = await connection.health("");
  if ("error" in outcome) {
    throw new Worth(
      statusText(outcome.error),
      "optional: grpc.health.v1.Health lets supervisors and load balancers ask",
    );
  }
  if (outcome.response !== "SERVING") {
    throw new Worth(
      `it says ${outcome.response}`,
      "warp does not ask it, but supervisors will restart this server",
    );
  }
  return "SERVING";
}

/** What Describe does not name is not called by warp; an implementation that nobody calls is most likely a mistake. */
export async function checkUnnamed(context: CheckContext): Promise<void> {
  const { report, described } = context;
  if (!observes(described)) {
    await report.check("Describe", "names Observe's events if Observe is implemented", () =>
      unnamedObserve(context),
    );
  }
  if (!filters(described)) {
    await report.check("Describe", "names BEFORE_RELAY if BeforeRelay is implemented", () =>
      unnamedFilter(context),
    );
  }
}

const UNNAMED_TIMEOUT_MS = 2000;

async function unnamedObserve({ connection, timeoutMs }: CheckContext): Promise<string> {
  const stream = new StreamUnderTest(connection, Math.min(timeoutMs, UNNAMED_TIMEOUT_MS));
  try {
    stream.send([]);
    await stream.answers("a heartbeat", 1);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    return "neither";
  } finally {
    await stream.cancel();
  }
  throw new Worth("Observe answers, but no AFTER_ capability is named", "warp will send it no events");
}

async function unnamedFilter({ connection, timeoutMs }: CheckContext): Promise<string> {
  const limit = Math.min(timeoutMs, UNNAMED_TIMEOUT_MS);
  const { outcome } = await connection.ask(samples.envelope(samples.SMALL), samples.SMALL, limit);
  if ("error" in outcome) return "neither";
  throw new Worth(
    "BeforeRelay answers, but BEFORE_RELAY is not named",
    "warp will not ask it, unless the configuration makes it a filter",
  );
}
