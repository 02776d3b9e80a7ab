/** One Observe stream under test: what was sent, what was acknowledged, how it ended; each can be awaited with a deadline. */
import type * as grpc from "@grpc/grpc-js";
import { type HookConnection, type ObserveCall, statusText } from "./connection.ts";
import { Broken } from "./report.ts";
import { type EventInit, source } from "./samples.ts";

export class StreamUnderTest {
  readonly acks: bigint[] = [];
  readonly source = source();
  readonly #call: ObserveCall;
  readonly #timeoutMs: number;
  #highestSent = 0n;
  #ended: grpc.ServiceError | "clean" | undefined;
  #wake: () => void = () => undefined;
  /** The first acknowledgement that cannot be right, in words. */
  #wrong: string | undefined;

  constructor(connection: HookConnection, timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#call = connection.observe();
    this.#call.on("data", ({ ackedSequence }) => this.#acknowledged(ackedSequence));
    this.#call.on("error", (error) => this.#end(error as grpc.ServiceError));
    this.#call.on("end", () => this.#end("clean"));
  }

  send(events: readonly EventInit[]): void {
    for (const { sequence } of events) if (sequence! > this.#highestSent) this.#highestSent = sequence!;
    this.#call.write({ source: this.source, events: [...events] });
  }

  halfClose(): void {
    this.#call.end();
  }

  /** Cancels, and waits until that is done. */
  async cancel(): Promise<void> {
    this.#call.cancel();
    await this.#until(() => this.#ended !== undefined);
  }

  /** Waits until everything that was sent is acknowledged. Throws Broken where that does not happen, or is done wrong. */
  async allAcknowledged(what: string): Promise<void> {
    await this.answered(what, () => (this.acks.at(-1) ?? 0n) >= this.#highestSent);
  }

  /** Waits for a number of acknowledgements in all. */
  async answers(what: string, count: number): Promise<void> {
    await this.answered(what, () => this.acks.length >= count);
  }

  async answered(what: string, enough: () => boolean): Promise<void> {
    await this.#until(() => enough() || this.#wrong !== undefined || this.#ended !== undefined);
    if (this.#wrong !== undefined)
      throw new Broken(this.#wrong, "acknowledge the highest sequence that is stored, as it came");
    if (enough()) return;
    if (this.#ended === undefined) {
      throw new Broken(
        `${what}: not acknowledged within ${this.#timeoutMs} ms (sent up to ${this.#highestSent}, acknowledged ${this.acks.at(-1) ?? "nothing"})`,
        "answer each request once it is stored, heartbeats too; the proxy sends no more than 8,192 events ahead and then stops",
      );
    }
    throw new Broken(
      this.#ended === "clean"
        ? `${what}: the server ended the stream`
        : `${what}: ${statusText(this.#ended)}`,
      "keep the stream open as long as the proxy does; an error means that the batch could not be stored",
    );
  }

  /** Waits for the server's end after ours. */
  async cleanEnd(): Promise<void> {
    await this.#until(() => this.#ended !== undefined);
    if (this.#ended === undefined) {
      throw new Broken(
        `the server did not end its side within ${this.#timeoutMs} ms after ours`,
        "when the proxy half-closes, acknowledge what is stored and return from Observe",
      );
    }
    if (this.#ended !== "clean") {
      throw new Broken(
        `after the proxy's half-close: ${statusText(this.#ended)}`,
        "return from Observe with status OK",
      );
    }
  }

  #acknowledged(sequence: bigint): void {
    if (sequence > this.#highestSent) {
      this.#wrong ??= `acknowledged ${sequence}, which was never sent (highest: ${this.#highestSent})`;
    }
    const before = this.acks.at(-1) ?? 0n;
    if (sequence < before)
      this.#wrong ??= `acknowledged ${sequence} after ${before}: acknowledgements must not go back`;
    this.acks.push(sequence);
    this.#wake();
  }

  #end(how: grpc.ServiceError | "clean"): void {
    this.#ended ??= how;
    this.#wake();
  }

  /** Until the condition holds, or the time is over. */
  async #until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + this.#timeoutMs;
    while (!condition()) {
      const left = deadline - Date.now();
      if (left <= 0) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}
