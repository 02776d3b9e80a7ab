/** The promises of `BeforeRelay`: every message gets a verdict that the proxy accepts, whatever happens around it. */
import { type VerdictRules, validateVerdict } from "../../filter/verdict.ts";
import type { DescribeResponse } from "../../gen/warp/hook/v1/hook_pb.ts";
import { ANSWERED_TWICE, type Asked, CHUNK_OCTETS, statusText } from "./connection.ts";
import type { CheckContext } from "./context.ts";
import { Broken } from "./report.ts";
import * as samples from "./samples.ts";
import { StreamUnderTest } from "./stream.ts";

const ABOUT = "BeforeRelay";

export async function checkBeforeRelay(context: CheckContext): Promise<void> {
  const { report, connection } = context;
  const judge = (message: Buffer, more: samples.EnvelopeFields = {}) => verdictFor(context, message, more);
  if (!(await report.check(ABOUT, "a small message gets a verdict", () => judge(samples.SMALL)))) return;
  await report.check(ABOUT, "an empty message gets a verdict", () => judge(samples.EMPTY));
  await report.check(ABOUT, "8-bit octets, long lines and lone dots get a verdict", () => judge(samples.ODD));
  await report.check(ABOUT, "a message without a body gets a verdict", () => judge(samples.HEADER_ONLY));
  await report.check(ABOUT, "the null sender, no recipient, and SMTPUTF8 get a verdict", async () => {
    await judge(samples.SMALL, { mailFrom: { address: "", raw: Buffer.from("<>") } });
    await judge(samples.SMALL, { recipients: [] });
    return judge(samples.SMALL, { smtputf8: true, mailFrom: { address: "jürgen@bücher.example" } });
  });
  await report.check(
    ABOUT,
    `a message of ${megabytes(context.largeOctets)} in chunks of 64 KiB gets a verdict`,
    () => judge(samples.large(context.largeOctets)),
  );
  await report.check(ABOUT, "a cut message (truncated) gets a verdict that is not replace", () =>
    judge(samples.large(context.largeOctets).subarray(0, 100_000), {
      truncated: true,
      messageOctets: BigInt(context.largeOctets),
    }),
  );
  await report.check(ABOUT, "a header section alone (header_only) gets a verdict that is not replace", () =>
    judge(samples.SMALL.subarray(0, samples.SMALL.indexOf("\r\n\r\n") + 4), {
      headerOnly: true,
      messageOctets: BigInt(samples.SMALL.length),
    }),
  );
  await report.check(ABOUT, "a call cancelled in the middle does no harm to the next", async () => {
    for (let round = 0; round < 5; round++) {
      const { envelope, sent } = asDescribed(context.described, samples.large(300_000));
      await connection.cancelledAsk(envelope, sent.subarray(0, CHUNK_OCTETS));
    }
    return judge(samples.SMALL);
  });
  await report.check(ABOUT, "20 messages at once each get a verdict", async () => {
    const seen = await Promise.all(Array.from({ length: 20 }, () => judge(samples.SMALL)));
    return seen[0]!;
  });
  await report.check(ABOUT, "a verdict comes while 16 Observe streams are open", () =>
    withOpenStreams(context),
  );
}

/** Asks for one verdict and judges it as the proxy does. */
async function verdictFor(
  { described, connection, timeoutMs }: CheckContext,
  message: Buffer,
  more: samples.EnvelopeFields,
): Promise<string> {
  const { envelope, sent } = asDescribed(described, message, more);
  return judged(await connection.ask(envelope, sent), envelope, sent.length, timeoutMs);
}

/** What the proxy would send of this message: no more than Describe asked for. */
export function asDescribed(
  described: DescribeResponse,
  message: Buffer,
  more: samples.EnvelopeFields = {},
): { envelope: samples.EnvelopeFields; sent: Buffer } {
  const limit = Number(described.maxMessageOctets);
  let sent = message;
  let envelope = samples.envelope(message, more);
  if (described.headerOnly && envelope.headerOnly !== true) {
    const end = message.indexOf("\r\n\r\n");
    sent = end === -1 ? message : message.subarray(0, end + 4);
    envelope = { ...envelope, headerOnly: true };
  }
  if (limit > 0 && sent.length > limit) {
    sent = sent.subarray(0, limit);
    envelope = { ...envelope, truncated: true };
  }
  return { envelope, sent };
}

function judged(asked: Asked, envelope: samples.EnvelopeFields, octets: number, timeoutMs: number): string {
  if ("error" in asked.outcome)
    throw new Broken(statusText(asked.outcome.error), adviceFor(asked, timeoutMs));
  const { response } = asked.outcome;
  const rules: VerdictRules = {
    smtputf8: envelope.smtputf8 ?? false,
    eightBit: envelope.eightBit ?? false,
    maxOctets: undefined,
    discardAllowed: envelope.discardAllowed ?? false,
    sawWhole: envelope.truncated !== true && envelope.headerOnly !== true,
  };
  const result = validateVerdict(response, rules);
  if (!result.ok) {
    throw new Broken(
      `the verdict is invalid: ${result.problem}`,
      "an invalid verdict counts as the hook's failure, and on_failure decides over the mail",
    );
  }
  const early = asked.octetsSent < octets ? `, after ${asked.octetsSent} of ${octets} octets` : "";
  return `${result.verdict.kind}${early}`;
}

function adviceFor(asked: Asked, timeoutMs: number): string {
  const { outcome } = asked;
  const details = "error" in outcome ? statusText(outcome.error) : "";
  if (details === ANSWERED_TWICE) return "answer each call once: warp takes two answers for none";
  if (details.startsWith("UNIMPLEMENTED"))
    return "Describe names BEFORE_RELAY: implement it, or do not name it";
  if (details.startsWith("DEADLINE_EXCEEDED")) {
    return `answer within the deadline (here ${timeoutMs} ms, --timeout); a synchronous server's threads may be eaten by open streams`;
  }
  if (details.startsWith("RESOURCE_EXHAUSTED"))
    return "no message of the protocol exceeds gRPC's default limit: do not lower it";
  return "answer every call with a verdict; an error is the hook's failure, and on_failure decides over the mail";
}

async function withOpenStreams(context: CheckContext): Promise<string> {
  const { connection, timeoutMs } = context;
  const streams = Array.from({ length: 16 }, () => new StreamUnderTest(connection, timeoutMs));
  try {
    for (const stream of streams) stream.send(samples.events(1, 2));
    // A hook that only filters may refuse the streams; the verdict has to come all the same.
    return await verdictFor(context, samples.SMALL, {});
  } finally {
    await Promise.all(streams.map((stream) => stream.cancel()));
  }
}

function megabytes(octets: number): string {
  return octets >= 1_000_000 ? `${Math.round(octets / 1_000_000)} MB` : `${octets} octets`;
}
