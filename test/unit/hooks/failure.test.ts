import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { callFailure, printable } from "../../../src/hooks/failure.ts";

for (const [code, details, cause] of [
  [status.OK, "", "closed"],
  [status.DEADLINE_EXCEEDED, "Deadline exceeded", "deadline"],
  [status.UNIMPLEMENTED, "no such method", "refused"],
  [status.PERMISSION_DENIED, "go away", "refused"],
  [status.RESOURCE_EXHAUSTED, "too many calls", "refused"],
  [status.RESOURCE_EXHAUSTED, "Received message larger than max (22000000 vs 21000000)", "invalid"],
  [status.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (6000000 vs. 4194304)", "refused"],
  [status.RESOURCE_EXHAUSTED, "grpc: received message larger than max (6000000 vs. 4194304)", "refused"],
  [status.UNAVAILABLE, "No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1", "absent"],
  [status.UNAVAILABLE, "Name resolution failed for target dns:hook.example:1", "absent"],
  [status.UNAVAILABLE, "Connection dropped", "closed"],
  [status.CANCELLED, "Call cancelled", "closed"],
  [status.INTERNAL, "Received RST_STREAM with code 2 (Internal server error)", "closed"],
  [status.INTERNAL, "Response message parsing error: x", "invalid"],
  [status.INTERNAL, "exception in the filter", "refused"],
] as const) {
  test(`${status[code]} "${details}" is ${cause}`, () => {
    assert.equal(callFailure({ code, details }, "BeforeRelay").cause, cause);
  });
}

test("a call that grpc-js ends without a status had an answer that cannot be read", () => {
  assert.equal(callFailure({}, "BeforeRelay").cause, "invalid");
});

for (const [details, reason] of [
  ["No connection established. Last error: Error: connect ENOENT /x. Resolution note: ", "connect ENOENT /x"],
  [
    "No connection established. Last error: Error [ERR_TLS_CERT_ALTNAME_INVALID]: not in the cert's list: . Resolution note: ",
    "not in the cert's list:",
  ],
  [
    "No connection established. Last error: Failed to connect (2026-11-25T16:21:40.518Z). Resolution note: ",
    "Failed to connect",
  ],
] as const) {
  test(`"${reason}" is all that is told of a connection that cannot be had, and no time of day`, () => {
    assert.deepEqual(callFailure({ code: status.UNAVAILABLE, details }, "Describe"), {
      cause: "absent",
      detail: reason,
    });
  });
}

test("what a server says becomes one line of bounded length", () => {
  assert.equal(printable("a\r\n250 ok\0\x1b[31m b"), "a 250 ok [31m b");
  assert.equal(printable("x".repeat(5000)).length, 301);
});

test("an UNIMPLEMENTED Describe is said in plain words", () => {
  assert.match(
    callFailure({ code: status.UNIMPLEMENTED, details: "" }, "Describe").detail,
    /no warp hook at this address/,
  );
});
