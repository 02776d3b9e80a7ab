import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { Health, HealthCheckResponse_ServingStatus } from "../../../src/gen/grpc/health/v1/health_pb.ts";
import { HookService } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { addService, createClient, type HandlersOf, serviceDefinition } from "../../../src/sdk/grpc.ts";

async function pair(t: TestContext, handlers: HandlersOf<(typeof HookService)["method"]>) {
  const server = new grpc.Server();
  addService(server, HookService, handlers);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const client = createClient(HookService, `127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.after(() => {
    client.close();
    server.forceShutdown();
  });
  return client;
}

test("service definition", async (t) => {
  await t.test("has each RPC's path and the direction of its streams", () => {
    const shape = Object.entries(serviceDefinition(HookService)).map(([name, method]) => [
      name,
      method.path,
      method.requestStream,
      method.responseStream,
    ]);
    assert.deepEqual(shape, [
      ["describe", "/warp.hook.v1.HookService/Describe", false, false],
      ["observe", "/warp.hook.v1.HookService/Observe", true, true],
      ["beforeRelay", "/warp.hook.v1.HookService/BeforeRelay", true, false],
      ["selectRoute", "/warp.hook.v1.HookService/SelectRoute", false, false],
    ]);
  });
  await t.test("knows server streams too", () => {
    const { watch } = serviceDefinition(Health) as { watch: grpc.MethodDefinition<unknown, unknown> };
    assert.deepEqual(
      [watch.path, watch.requestStream, watch.responseStream],
      ["/grpc.health.v1.Health/Watch", false, true],
    );
  });
  await t.test("encodes what is given and decodes what comes, octet for octet", () => {
    const { describe } = serviceDefinition(HookService) as {
      describe: grpc.MethodDefinition<object, object>;
    };
    assert.deepEqual(describe.responseSerialize({ name: "ab" }), Buffer.from([0x0a, 2, 0x61, 0x62]));
    const decoded = describe.responseDeserialize(Buffer.from([0x0a, 2, 0x61, 0x62, 0x20, 5])) as {
      name: string;
      maxMessageOctets: bigint;
    };
    assert.deepEqual([decoded.name, decoded.maxMessageOctets], ["ab", 5n]);
    const { check } = serviceDefinition(Health) as { check: grpc.MethodDefinition<object, object> };
    assert.deepEqual(
      check.responseSerialize({ status: HealthCheckResponse_ServingStatus.SERVING }),
      Buffer.from([8, 1]),
    );
  });
});

test("client and server", async (t) => {
  await t.test("carry a unary call, a client stream and a stream both ways", async (t) => {
    const client = await pair(t, {
      describe: (call, done) => done(null, { name: call.request.hookName }),
      beforeRelay: (call, done) => {
        let octets = 0;
        call.on("data", ({ part }) => {
          if (part.case === "chunk") octets += part.value.length;
        });
        call.on("end", () => done(null, { note: String(octets) }));
      },
      observe: (call) => {
        call.on("data", ({ events }) => call.write({ ackedSequence: events[0]!.sequence }));
        call.on("end", () => call.end());
      },
    });
    const described = await new Promise((resolve, reject) =>
      client.describe({ hookName: "n" }, (error, response) =>
        error ? reject(error) : resolve(response!.name),
      ),
    );
    assert.equal(described, "n");
    const note = await new Promise((resolve, reject) => {
      const call = client.beforeRelay((error, response) => (error ? reject(error) : resolve(response!.note)));
      call.write({ part: { case: "chunk", value: Buffer.alloc(65_536) } });
      call.write({ part: { case: "chunk", value: Buffer.alloc(1) } });
      call.end();
    });
    assert.equal(note, "65537");
    const acks = await new Promise<bigint[]>((resolve, reject) => {
      const call = client.observe();
      const seen: bigint[] = [];
      call.on("data", ({ ackedSequence }) => seen.push(ackedSequence));
      call.on("end", () => resolve(seen));
      call.on("error", reject);
      call.write({ events: [{ sequence: 7n }] });
      call.write({ events: [{ sequence: 18_446_744_073_709_551_615n }] });
      call.end();
    });
    assert.deepEqual(acks, [7n, 18_446_744_073_709_551_615n]);
  });
  await t.test("answer UNIMPLEMENTED for a handler that is not there", async (t) => {
    const client = await pair(t, {});
    const code = await new Promise((resolve) => client.selectRoute({}, (error) => resolve(error?.code)));
    assert.equal(code, grpc.status.UNIMPLEMENTED);
  });
  await t.test("refuse what is no protobuf with an error, not a crash", async (t) => {
    const client = await pair(t, { describe: (_call, done) => done(null, {}) });
    const code = await new Promise((resolve) =>
      client.makeUnaryRequest(
        "/warp.hook.v1.HookService/Describe",
        (octets: Buffer) => octets,
        (octets: Buffer) => octets,
        Buffer.from([0xff, 0xff, 0xff]),
        (error) => resolve(error?.code),
      ),
    );
    assert.equal(code, grpc.status.INTERNAL);
  });
});
