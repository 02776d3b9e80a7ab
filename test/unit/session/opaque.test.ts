/** Opaque connections leave by the same choice of the source IP as dialogues, and count for it alike. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Decision, Router } from "../../../src/egress/contract.ts";
import type { WarpEvent } from "../../../src/events/events.ts";
import { noTelemetry } from "../../../src/events/telemetry.ts";
import { DialError } from "../../../src/net/dial.ts";
import { OpaqueSession } from "../../../src/session/opaque.ts";
import { OwnLegs } from "../../../src/session/own-legs.ts";
import type { SessionEnvironment } from "../../../src/session/settings.ts";
import { ipDecision, SimulatedClock, SimulatedTransport, settle } from "../../support/simulation.ts";

const destination = { ip: "198.51.100.25", port: 465 };

/** An opaque session whose host lacks the addresses `missing`. */
async function opaque(decision: Decision, missing: readonly string[] = []) {
  const calls: string[] = [];
  const events: WarpEvent[] = [];
  const client = new SimulatedTransport({ ip: "127.0.0.1", port: 10025 }, { ip: "192.0.2.1", port: 40000 });
  const legs: SimulatedTransport[] = [];
  const ownLegs = new OwnLegs();
  const router: Partial<Router> = {
    atConnect: () => decision,
    unusable: (ip) => calls.push(`unusable ${ip}`),
    legOpened: (ip) => calls.push(`opened ${ip}`),
    legClosed: (ip) => calls.push(`closed ${ip}`),
    failed: (client) => calls.push(`failed ${client.ip}`),
    provider: () => "",
  };
  const env = {
    clock: new SimulatedClock(),
    sinks: [{ wants: () => true, emit: (event: WarpEvent) => events.push(event) }],
    telemetry: noTelemetry,
    newId: () => "ID",
    settings: { timeouts: { dialMs: 25_000, idleMs: 300_000 } },
    router,
    ownLegs,
    dialer: {
      dial: async (
        to: typeof destination,
        { sourceIp = "", bound }: Parameters<SessionEnvironment["dialer"]["dial"]>[1],
      ) => {
        if (missing.includes(sourceIp)) throw new DialError("not_local", "not here");
        const leg = new SimulatedTransport({ ip: sourceIp, port: 50_000 }, to);
        bound?.(leg.local, to);
        legs.push(leg);
        return leg;
      },
    },
  } as unknown as SessionEnvironment;
  let closed = 0;
  const session = new OpaqueSession(env, {
    transport: client,
    destination,
    clientSource: undefined,
    closed: () => closed++,
  });
  await session.run();
  return { client, legs, calls, events, ownLegs, closed: () => closed };
}

test("the next candidate is tried where this host lacks the first", async () => {
  const { client, legs, calls } = await opaque(ipDecision("203.0.113.1", "203.0.113.2"), ["203.0.113.1"]);
  assert.deepEqual(
    legs.map(({ local }) => local.ip),
    ["203.0.113.2"],
  );
  assert.deepEqual(calls, [
    "opened 203.0.113.1",
    "closed 203.0.113.1",
    "unusable 203.0.113.1",
    "opened 203.0.113.2",
  ]);
  client.feed("secret");
  assert.equal(legs[0]?.take(), "secret");
});

test("a connection counts for its IP until it is gone, once", async () => {
  const { client, legs, calls, ownLegs, closed, events } = await opaque(ipDecision("203.0.113.1"));
  assert.equal(ownLegs.size, 1);
  client.rst();
  await settle();
  assert.deepEqual(calls, ["opened 203.0.113.1", "closed 203.0.113.1"]);
  assert.equal(legs[0]?.state, "reset");
  assert.equal(ownLegs.size, 0);
  assert.equal(closed(), 1);
  assert.equal(events.filter(({ kind }) => kind === "after_conn").length, 1);
});

test("no usable IP: the client is reset", async () => {
  const { client, calls, closed } = await opaque(ipDecision("203.0.113.1"), ["203.0.113.1"]);
  assert.deepEqual(calls, [
    "opened 203.0.113.1",
    "closed 203.0.113.1",
    "unusable 203.0.113.1",
    "failed 192.0.2.1",
  ]);
  assert.equal(client.state, "reset");
  assert.equal(closed(), 1);
});
