/** The promises of `Observe`. */
import type { HookConnection } from "./connection.ts";
import type { CheckContext } from "./context.ts";
import * as samples from "./samples.ts";
import { StreamUnderTest } from "./stream.ts";

const ABOUT = "Observe";

export async function checkObserve(context: CheckContext): Promise<void> {
  const { report } = context;
  const batch = await report.check(ABOUT, "a batch is acknowledged with its last sequence", () =>
    onStream(context, async (stream) => {
      stream.send(samples.events(1, 8));
      await stream.allAcknowledged("a batch of 8 events");
      return "8 events acknowledged";
    }),
  );
  if (!batch) return;
  await report.check(ABOUT, "heartbeats are answered, before and after events", () => heartbeats(context));
  await report.check(ABOUT, "batches sent ahead are all acknowledged, in order", () => ahead(context));
  await report.check(ABOUT, "the largest batch (512 events) and 64 KiB of data are taken", () =>
    largest(context),
  );
  await report.check(ABOUT, "gaps, notices and kinds of a later version are acknowledged", () =>
    onStream(context, async (stream) => {
      stream.send([samples.gap(1), samples.notice(2), samples.unknownKind(3)]);
      await stream.allAcknowledged("a gap, a notice and an unknown kind");
      return "all acknowledged";
    }),
  );
  await report.check(ABOUT, "after half-close everything is acknowledged and the end is clean", () =>
    onStream(context, async (stream) => {
      stream.send(samples.events(1, 20));
      stream.halfClose();
      await stream.allAcknowledged("20 events before the half-close");
      await stream.cleanEnd();
      return "ended with OK";
    }),
  );
  await report.check(ABOUT, "events sent again after a broken connection are acknowledged", () =>
    replayed(context),
  );
  await report.check(ABOUT, "16 streams at once are all served", () => manyStreams(context));
}

/** A fresh stream, cancelled at the end whatever happens. */
async function onStream(
  { connection, timeoutMs }: CheckContext,
  body: (stream: StreamUnderTest) => Promise<string>,
): Promise<string> {
  const stream = new StreamUnderTest(connection, timeoutMs);
  try {
    return await body(stream);
  } finally {
    await stream.cancel();
  }
}

function heartbeats(context: CheckContext): Promise<string> {
  return onStream(context, async (stream) => {
    stream.send([]);
    await stream.answers("a heartbeat before any event", 1);
    stream.send(samples.events(1, 4));
    await stream.allAcknowledged("a batch of 4 events");
    const before = stream.acks.length;
    stream.send([]);
    await stream.answers("a heartbeat after 4 events", before + 1);
    return "both answered";
  });
}

function ahead(context: CheckContext): Promise<string> {
  return onStream(context, async (stream) => {
    for (let batch = 0; batch < 32; batch++) stream.send(samples.events(1 + batch * 16, 16));
    await stream.allAcknowledged("32 batches of 16 events, sent at once");
    return `512 events, ${stream.acks.length} acknowledgements`;
  });
}

function largest(context: CheckContext): Promise<string> {
  return onStream(context, async (stream) => {
    stream.send(samples.events(1, 512));
    stream.send(Array.from({ length: 15 }, (_, index) => samples.largeComm(513 + index)));
    await stream.allAcknowledged("512 events, then 15 of 64 KiB");
    return "527 events acknowledged";
  });
}

/** The connection breaks before the acknowledgement is there; the same events, ids and all, come again on a new one. */
async function replayed(context: CheckContext): Promise<string> {
  const events = samples.events(1, 50);
  const first: HookConnection = context.connect();
  const broken = new StreamUnderTest(first, context.timeoutMs);
  broken.send(events);
  await broken.cancel();
  first.close();
  const second = context.connect();
  try {
    const stream = new StreamUnderTest(second, context.timeoutMs);
    Object.assign(stream.source, broken.source);
    stream.send(events.slice(0, 25));
    stream.send(events.slice(25));
    await stream.allAcknowledged("the same 50 events on a new connection");
    stream.send(events); // and once more on the same one: an observer that keeps ids takes no harm
    await stream.answered("the same 50 events again", () => stream.acks.length >= 3);
    await stream.cancel();
    return "acknowledged again";
  } finally {
    second.close();
  }
}

async function manyStreams(context: CheckContext): Promise<string> {
  const streams = Array.from(
    { length: 16 },
    () => new StreamUnderTest(context.connection, context.timeoutMs),
  );
  try {
    for (const stream of streams) stream.send(samples.events(1, 5));
    await Promise.all(streams.map((stream, index) => stream.allAcknowledged(`stream ${index + 1} of 16`)));
    return "16 streams acknowledged";
  } finally {
    await Promise.all(streams.map((stream) => stream.cancel()));
  }
}
