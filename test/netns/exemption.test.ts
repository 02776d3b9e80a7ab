/** What keeps warp's own connections out of the capture, and what happens where nothing does. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Lab, labUnavailable, type Namespace, type Program } from "./lab.ts";
import { makeMessage } from "./message.ts";
import { Warp } from "./warp.ts";

const skip = labUnavailable("swaks", "setpriv");

describe("warp's own connections", { skip }, () => {
  let lab: Lab;
  let host: Namespace;
  let destination: Program;

  before(async () => {
    lab = new Lab();
    host = lab.namespace("host");
    const mx = lab.namespace("mx");
    lab.link(host, "eth0", ["192.0.2.1/24"], mx, "eth0", ["192.0.2.20/24"]);
    const options = { listen: ["192.0.2.20"], port: 25, hostname: "mx.destination.example" };
    destination = mx.startNode("test/netns/programs/destination.ts", JSON.stringify(options));
    await destination.line(/ready/);
  });
  after(() => lab.end());

  /** As an ordinary user, whom no rule exempts. */
  async function send(id: string) {
    const args = [
      "--server",
      "192.0.2.20",
      "--from",
      "a@sender.example",
      "--to",
      "bob@four.example",
      "--data",
      "-",
    ];
    const input = makeMessage(id, 100).octets.subarray(0, -2);
    return host.complete("setpriv", ["--reuid", "65534", "--clear-groups", "swaks", ...args], { input });
  }

  it("pass by their user where warp may not mark them", async () => {
    const withoutRights = ["setpriv", "--bounding-set", "-net_admin,-net_raw"];
    const warp = await Warp.start(lab, host, { under: withoutRights, rules: ["--uid", "0"] });
    const done = await send("by-user");
    const sessions = await warp.sessions();
    await warp.stop();
    assert.equal(done.status, 0, `${done.stdout}${warp.program.lines.join("\n")}`);
    assert.equal(sessions, 1);
    await destination.line(/"id":"by-user","intact":true/);
  });

  it("are refused as a loop where nothing exempts them, and the log names what is missing", async () => {
    const other = "capture: { mark: 0x66 }\n";
    const rulesOf66 = await Warp.start(lab, host, { config: other });
    await rulesOf66.program.stop();
    const warp = await Warp.start(lab, host, { capture: false });
    const done = await send("loop");
    const sessions = await warp.sessions();
    await warp.stop();
    const log = warp.program.lines.join("\n");
    assert.notEqual(done.status, 0);
    assert.match(done.stdout, /<\*\* +421 /);
    assert.ok(sessions <= 2, `${sessions} sessions from one connection`);
    const said = warp.program.lines.filter((line) => /loop/i.test(line)).join("\n");
    assert.match(said, /mark/, log);
    assert.match(said, /uid/, log);
  });
});
