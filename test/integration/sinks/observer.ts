/**
 * A proxy's side of Observe for tests: sends all events of one source in order, keeps what is unacknowledged, reconnects
 * when the stream breaks and sends it again.
 */
import * as grpc from "@grpc/grpc-js";
import { type Event, HookService, type Source } from "../../../src/gen/warp/hook/v1/hook_pb.ts";
import { createClient } from "../../../src/sdk/grpc.ts";

export interface ObserverOptions {
  readonly address: string;
  readonly source: Source;
  readonly batch?: number;
  /** Events in flight without an acknowledgement; 8,192 in the protocol. */
  readonly window?: number;
  /** Told of each acknowledgement: the highest sequence that is stored. */
  readonly onAck?: (acked: bigint) => void;
  /** Told of each stream that broke. */
  readonly onBreak?: (error: Error) => void;
  readonly signal?: AbortSignal;
}

/** Resolves once every event is acknowledged, with the number of streams that it took. */
export async function sendAll(events: readonly Event[], options: ObserverOptions): Promise<number> {
  let from = 0;
  let streams = 0;
  while (from < events.length) {
    options.signal?.throwIfAborted();
    streams += 1;
    from = await oneStream(events, from, options);
    if (from < events.length) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return streams;
}

function oneStream(events: readonly Event[], from: number, options: ObserverOptions): Promise<number> {
  const client = createClient(HookService, options.address, grpc.credentials.createInsecure());
  return new Promise((resolve) => {
    const stream = client.observe();
    let acked = from;
    let sent = from;
    const done = (error?: Error) => {
      if (error !== undefined) options.onBreak?.(error);
      options.signal?.removeEventListener("abort", stop);
      client.close();
      resolve(acked);
    };
    const stop = () => stream.cancel();
    const send = () => {
      while (sent < events.length && sent - acked < (options.window ?? 8192)) {
        const batch = events.slice(sent, sent + (options.batch ?? 256));
        sent += batch.length;
        if (!stream.write({ source: options.source, events: batch })) return;
      }
    };
    options.signal?.addEventListener("abort", stop);
    stream.on("drain", send);
    stream.on("data", ({ ackedSequence }) => {
      while (acked < sent && events[acked]!.sequence <= ackedSequence) acked += 1;
      options.onAck?.(ackedSequence);
      if (acked === events.length) stream.end();
      else send();
    });
    stream.on("error", done);
    stream.on("end", () => done());
    send();
  });
}
