/** A destination by name (`fixed`): the resolver has no deadline of its own, the dial has. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { GivingUp, NodeDialer } from "../../../src/net/dial.ts";

const never = new NodeDialer({ mark: 0, transparent: false, lookup: () => new Promise(() => {}) });
const options = { sourceIp: undefined, bound: undefined };

test("a resolver that does not answer is a timeout", async () => {
  const dial = never.dial(
    { ip: "mx.example", port: 25 },
    { ...options, timeoutMs: 30, givingUp: new GivingUp() },
  );
  await assert.rejects(dial, { name: "DialError", kind: "timeout" });
});

test("who has left does not wait for the resolver", async () => {
  const givingUp = new GivingUp();
  const dial = never.dial({ ip: "mx.example", port: 25 }, { ...options, timeoutMs: 60_000, givingUp });
  givingUp.giveUp();
  await assert.rejects(dial, { kind: "aborted" });
});

test("a name without an address is unreachable", async () => {
  const none = new NodeDialer({
    mark: 0,
    transparent: false,
    lookup: () => Promise.reject(new Error("ENOTFOUND")),
  });
  const dial = none.dial(
    { ip: "mx.example", port: 25 },
    { ...options, timeoutMs: 1000, givingUp: new GivingUp() },
  );
  await assert.rejects(dial, { kind: "unreachable" });
});

test("however many wait for a name, the resolver is asked once, and again behind its answer", async () => {
  let asked = 0;
  let answer = (_addresses: readonly { readonly address: string }[]): void => {};
  const lookup = () => {
    asked++;
    return new Promise<readonly { readonly address: string }[]>((resolve) => {
      answer = resolve;
    });
  };
  const dialer = new NodeDialer({ mark: 0, transparent: false, lookup });
  const dial = (timeoutMs: number) =>
    dialer.dial({ ip: "mx.example", port: 25 }, { ...options, timeoutMs, givingUp: new GivingUp() });
  await Promise.all(Array.from({ length: 20 }, () => assert.rejects(dial(20), { kind: "timeout" })));
  const late = dial(5000);
  assert.equal(asked, 1);
  answer([]);
  await assert.rejects(late, { kind: "unreachable" });
  await assert.rejects(dial(20), { kind: "timeout" });
  assert.equal(asked, 2);
});
