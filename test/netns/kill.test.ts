/**
 * Killing warp at any instant loses no accepted message: under load it is ended with SIGKILL again and again, at random
 * moments, and every message that a client was told is accepted has to be at the destination, whole.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { makeCertificate } from "./certificate.ts";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import type { Taken } from "./programs/destination.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("openssl");
const rounds = Number(process.env.WARP_KILLS ?? 8);
const seed = Number(process.env.WARP_SEED ?? Date.now() % 1_000_000);

describe(`warp that is killed under load (WARP_SEED=${seed})`, { skip }, () => {
  let lab: Lab;
  let host: Namespace;
  let destination: Program;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    const mx = lab.namespace("mx");
    lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", ["192.0.2.20/24"]);
    const certificate = makeCertificate(lab, "mx.destination.example");
    const options = { listen: ["192.0.2.20"], port: 25, hostname: "mx.destination.example", ...certificate };
    destination = mx.startNode("test/netns/programs/destination.ts", JSON.stringify(options));
    await destination.line(/ready/);
  });
  after(() => lab.end());

  it("loses no accepted message", async () => {
    const random = generator(seed);
    const given = {
      ip: "192.0.2.20",
      port: 25,
      prefix: "kill-",
      sessions: 20,
      octets: 20_000,
      perConnection: 5,
    };
    // The rules stay while warp comes and goes: clients find nobody listening meanwhile.
    let warp = await Warp.start(lab, host);
    const sender = host.startNode("test/netns/programs/sender.ts", JSON.stringify(given));
    const accepted = () => idsOf(sender, "accepted");
    for (let round = 0; round < rounds; round++) {
      const had = accepted().length;
      await sender.until(
        () => (accepted().length > had ? true : undefined),
        "a message accepted since the last kill",
      );
      // The moment is the point of the test; nothing else waits for it.
      await wait(random() * 700);
      await warp.program.stop("SIGKILL");
      warp = await Warp.start(lab, host, { capture: false });
    }
    await sender.stop();
    await warp.stop();

    const taken = destination.lines
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Taken);
    const intact = new Set(taken.filter((message) => message.intact).map(({ id }) => id));
    assert.deepEqual(
      accepted().filter((id) => !intact.has(id)),
      [],
    );
    assert.deepEqual(
      taken.filter((message) => !message.intact),
      [],
      "a piece of a message was taken for a whole one",
    );
    assert.deepEqual(idsOf(sender, "refused"), []);
    assert.ok(accepted().length >= rounds);
  });
});

function idsOf(sender: Program, word: string): string[] {
  return sender.lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.split(" ")[1] ?? "");
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function generator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
