/** An error of warp itself in the course of a session: it ends that session, on both sides without an end of a message. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Log } from "../../../src/telemetry/log.ts";
import { Simulation, settle } from "../../support/simulation.ts";

/** A simulation whose telemetry throws once told to: it is called from everywhere. */
function brittle() {
  const logged: { code: string; fields: object | undefined }[] = [];
  const state = { broken: false };
  const fail = (): void => {
    if (state.broken) throw new TypeError("nobody expected this");
  };
  const simulation = new Simulation({
    telemetry: {
      violation: fail,
      ownReply: fail,
      log: (_level, code, _text, fields) => logged.push({ code, fields }),
    },
  });
  return { simulation, logged, state };
}

/** Both sides were reset, nothing is left over, and the record and the log say what happened. */
async function ended({ simulation, logged }: ReturnType<typeof brittle>): Promise<void> {
  await settle();
  assert.equal(simulation.client.state, "reset");
  assert.equal(simulation.leg.state, "reset");
  assert.equal(simulation.closed, true);
  assert.equal(simulation.clock.pending, 0);
  const [connection] = simulation.connections;
  assert.equal(connection?.closedBy, "warp");
  assert.equal(connection?.closeReason, "defect");
  const defects = logged.filter(({ code }) => code === "defect");
  assert.equal(defects.length, 1);
  assert.match(JSON.stringify(defects[0]?.fields), /nobody expected this.*session\.ts/);
}

test("the line in the log says where, whatever kind of error it is", async () => {
  const lines: string[] = [];
  const log = new Log({ level: "info", format: "json", destination: { write: (line) => lines.push(line) } });
  const simulation = new Simulation({
    telemetry: {
      violation() {
        throw new Error("nobody expected this");
      },
      log: (level, code, text, fields, cause) => log.write(level, code, text, fields, cause),
    },
  });
  await simulation.greet();
  simulation.client.feed("NOOP \n\r\n");
  const line = JSON.parse(lines.at(-1) ?? "{}") as Record<string, unknown>;
  assert.equal(line.code, "defect");
  assert.equal(line.error, "nobody expected this");
  assert.match(String(line.stack), /session\.ts/);
});

test("an error over what the client sent", async () => {
  const setting = brittle();
  await setting.simulation.greet();
  setting.state.broken = true;
  setting.simulation.client.feed("NOOP \n\r\n");
  await ended(setting);
});

test("an error over what the destination sent, in the middle of a message", async () => {
  const setting = brittle();
  const { simulation } = setting;
  await simulation.greet();
  await simulation.data();
  await simulation.say("Subject: half\r\n\r\n");
  setting.state.broken = true;
  simulation.leg.feed("250 early\r\n");
  await ended(setting);
  assert.deepEqual(
    simulation.transactions.map(({ outcome }) => outcome),
    ["abandoned"],
  );
});

test("an error when a deadline has passed", async () => {
  const setting = brittle();
  await setting.simulation.greet();
  setting.state.broken = true;
  await setting.simulation.clock.advance(301_000);
  await ended(setting);
});
