import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeliveryLog } from "../../../src/telemetry/delivery-log.ts";
import { Log, type LogOptions } from "../../../src/telemetry/log.ts";
import { makeTelemetry } from "../../../src/telemetry/telemetry.ts";
import { address, CONNECTION, conn, Lines, recipient, reply, session, transaction } from "./events.ts";

const NOW = Date.UTC(2026, 2, 1, 12, 34, 56, 123);

function logTo(lines: Lines, options: Partial<LogOptions> = {}): Log {
  return new Log({ level: "info", format: "json", destination: lines, now: () => NOW, ...options });
}
function parsed(lines: Lines): Record<string, unknown>[] {
  return lines.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}
/** What DeliveryLog logs of one transaction. */
function deliveries(parts: Parameters<typeof transaction>[0]): Record<string, unknown>[] {
  const lines = new Lines();
  new DeliveryLog(logTo(lines)).emit(transaction(parts));
  return parsed(lines);
}

describe("the log", () => {
  it("writes JSON with time, level, code, fields and message, and nothing that wasn't said", () => {
    const lines = new Lines();
    logTo(lines).write("warn", "dial_failed", "no answer", {
      conn: CONNECTION,
      dest: "192.0.2.1:25",
      ms: 5,
      leg: undefined,
    });
    assert.equal(
      lines.lines[0],
      `{"level":"warn","time":"2026-03-01T12:34:56.123Z","code":"dial_failed","conn":"${CONNECTION}","dest":"192.0.2.1:25","ms":5,"msg":"no answer"}\n`,
    );
  });

  it("has nothing in JSON that a terminal obeys, and says the same", () => {
    const lines = new Lines();
    const from = "\u009b2J\u202egnp.exe\u2028ü\x1b[2J@example.com";
    new DeliveryLog(logTo(lines)).emit(transaction({ mailFrom: address(from) }));
    logTo(lines).write("info", "a", from);
    for (const line of lines.lines) assert.doesNotMatch(line, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]/);
    assert.deepEqual([parsed(lines)[0]?.from, parsed(lines).at(-1)?.msg], [from, from]);
  });

  it("names the worker where there are several", () => {
    const lines = new Lines();
    logTo(lines, { worker: 3 }).write("info", "a", "b");
    assert.equal(parsed(lines)[0]!.worker, 3);
  });

  it("leaves out what is below its level", () => {
    const lines = new Lines();
    const log = logTo(lines, { level: "warn" });
    log.write("info", "a", "b");
    log.write("error", "c", "d");
    assert.deepEqual(
      parsed(lines).map((line) => line.code),
      ["c"],
    );
    assert.deepEqual([log.enabled("info"), log.enabled("error")], [false, true]);
    logTo(lines, { level: "silent" }).write("error", "e", "f");
    assert.equal(lines.lines.length, 1);
  });

  it("says of an error its message and code, and of a defect where it is", () => {
    const lines = new Lines();
    const log = logTo(lines);
    log.write("warn", "a", "b", {}, Object.assign(new Error("refused"), { code: "ECONNREFUSED" }));
    log.write("error", "a", "b", {}, new TypeError("undefined is not a function"));
    log.write("error", "a", "b", {}, "a text");
    const [refused, defect, text] = parsed(lines);
    assert.deepEqual(
      [refused!.error, refused!.error_code, refused!.stack],
      ["refused", "ECONNREFUSED", undefined],
    );
    assert.match(String(defect!.stack), /log\.test\.ts/);
    assert.equal(text!.error, "a text");
  });

  it("in the readable form keeps one record in one line, whatever is in it", () => {
    const lines = new Lines();
    logTo(lines, { format: "text" }).write("warn", "odd", "two\nlines \x1b[31m", {
      from: 'a b"c',
      to: "x\r\n2026 INFO",
      ms: 5,
    });
    assert.equal(
      lines.lines[0],
      '2026-03-01T12:34:56.123Z WARN  odd two\\nlines \\x1b[31m from="a b\\"c" to="x\\r\\n2026 INFO" ms=5\n',
    );
  });

  it("is what the layers' telemetry logs to", () => {
    const lines = new Lines();
    const telemetry = makeTelemetry(logTo(lines));
    telemetry.log("info", "listening", "warp listens to 127.0.0.1:10025");
    telemetry.sessionOpened();
    assert.equal(parsed(lines)[0]!.code, "listening");
  });
});

describe("the delivery line", () => {
  it("says who, where, how, and what was answered", () => {
    const [line] = deliveries({
      session: session({
        provider: "example.org",
        route: { sourceIp: "203.0.113.10", pool: "shared", rule: "default", tier: "", pinned: false },
        upstreamTls: {
          encrypted: true,
          version: "TLSv1.3",
          cipher: "x",
          peerName: "mx",
          verified: true,
          reason: "",
          policy: "verify",
        },
      }),
      recipients: [recipient("bob@example.org", reply("250 2.0.0 queued", { replyClass: "accepted" }))],
    });
    assert.deepEqual(line, {
      level: "info",
      time: "2026-03-01T12:34:56.123Z",
      code: "delivery",
      conn: CONNECTION,
      tx: "01HZXW8Q4N6T5V3K2M1R0P9J7H",
      client: "192.0.2.7",
      dest: "198.51.100.25:25",
      source_ip: "203.0.113.10",
      pool: "shared",
      rule: "default",
      provider: "example.org",
      from: "alice@example.net",
      tls: "TLSv1.3 verified",
      octets: 1000,
      message_id: "<1@example.net>",
      to: "bob@example.org",
      reply: "250 2.0.0 queued",
      reply_code: 250,
      class: "accepted",
      origin: "upstream",
      ms: 12,
      msg: "accepted",
    });
  });

  it("is one per recipient, each with its own answer", () => {
    const lines = deliveries({
      recipients: [
        recipient("bob@example.org", reply("250 2.0.0 queued")),
        recipient("carol@example.org", reply("550 5.1.1 no such user"), reply("550 5.1.1 no such user")),
      ],
    });
    assert.deepEqual(
      lines.map((line) => [line.to, line.reply_code]),
      [
        ["bob@example.org", 250],
        ["carol@example.org", 550],
      ],
    );
  });

  it("is there without a reply where none came", () => {
    const [line] = deliveries({
      recipients: [recipient("bob@example.org", undefined)],
      finalReply: undefined,
      outcome: "unknown",
    });
    assert.deepEqual([line!.msg, line!.to, line!.reply], ["unknown", "bob@example.org", undefined]);
  });

  it("is there for a sender that was refused before any recipient", () => {
    const parts = {
      recipients: [],
      dataReply: undefined,
      finalReply: undefined,
      outcome: "refused" as const,
    };
    const [line] = deliveries({ ...parts, mailReply: reply("550 5.7.1 no") });
    assert.deepEqual([line!.reply, line!.to], ["550 5.7.1 no", undefined]);
    assert.deepEqual(deliveries({ ...parts, outcome: "abandoned" }), []);
  });

  it("writes <> for the null sender, none without TLS, and brackets around IPv6", () => {
    const [line] = deliveries({
      mailFrom: address(""),
      session: session({ destination: { ip: "2001:db8::25", port: 25 } }),
    });
    assert.deepEqual([line!.from, line!.tls, line!.dest], ["<>", "none", "[2001:db8::25]:25"]);
  });

  it("joins the lines of a reply, escapes what could do harm, and bounds it", () => {
    const text = `550-5.7.1 blocked\r\n550 5.7.1 \x1b[31m${"x".repeat(5000)}`;
    const [line] = deliveries({ recipients: [recipient("bob@example.org", reply(text))] });
    assert.match(String(line!.reply), /^550-5\.7\.1 blocked 550 5\.7\.1 \\x1b\[31mx+…$/);
    assert.ok(String(line!.reply).length <= 1001);
  });

  it("says of each recipient what became of the message for him", () => {
    const parts = [
      recipient("a@example.org", reply("250 2.0.0 queued")),
      recipient("b@example.org", reply("550 5.1.1 who")),
      recipient("c@example.org", reply("450 4.2.2 full")),
    ];
    assert.deepEqual(
      deliveries({ outcome: "accepted", recipients: parts }).map(({ msg }) => msg),
      ["accepted", "refused", "deferred"],
    );
    const discarded = deliveries({ outcome: "discarded", recipients: parts.slice(0, 1) });
    assert.equal(discarded[0]?.msg, "discarded");
  });

  it("counts recipients that the event doesn't hold", () => {
    const [rcptReply, finalReply] = [reply("550 5.1.1 who"), reply("550 5.1.1 who")];
    const lines = deliveries({
      outcome: "accepted",
      recipientsOmitted: 7,
      omittedAnswers: [
        { count: 5, rcptReply, finalReply },
        { count: 2, rcptReply: undefined, finalReply: undefined },
      ],
    });
    assert.deepEqual(
      lines.slice(1).map(({ msg, reply_code, recipients_omitted }) => [msg, reply_code, recipients_omitted]),
      [
        ["refused", 550, 5],
        ["accepted", undefined, 2],
      ],
    );
  });

  it("says of a recipient whom warp itself refused that he got nothing, whatever others got", () => {
    const deferred = reply("451 4.7.4 Encryption required for this recipient", { origin: "warp" });
    const taken = reply("250 queued");
    const lines = deliveries({
      recipients: [recipient("a@b", deferred, deferred), recipient("c@d", taken)],
      finalReply: taken,
      outcome: "accepted",
    });
    assert.deepEqual(
      lines.map(({ to, msg }) => [to, msg]),
      [
        ["a@b", "deferred"],
        ["c@d", "accepted"],
      ],
    );
  });

  it("isn't even made where info isn't logged", () => {
    const lines = new Lines();
    const quiet = new DeliveryLog(logTo(lines, { level: "warn" }));
    assert.equal(quiet.wants("after_transaction"), false);
    const log = new DeliveryLog(logTo(lines));
    assert.deepEqual([log.wants("after_transaction"), log.wants("after_comm")], [true, false]);
    log.emit(conn());
    assert.deepEqual(lines.lines, []);
  });
});
