/**
 * Dialogues as text. Each line is one of
 *
 *   C: MAIL FROM:<a@b>      the client sends it, CRLF behind it        s: …   the destination must have got it
 *   S: 250 ok               the destination sends it                   c: …   the client must have got it
 *   C! fin | rst            the client's half-close, or its reset      S! …   the destination's
 *   T+ 1000                 the clock moves on by so many ms
 *   ! filter relay          how the proxy is set up, at the top
 *
 * Lines of one party in a row are one segment; an empty line cuts it. A `\` at a line's end: no CRLF. \r \n \0 \xHH stand
 * for octets. `#` begins a comment.
 */
import assert from "node:assert/strict";
import { Simulation, type SimulationOptions, settle } from "../support/simulation.ts";

export interface Step {
  readonly kind: "C" | "S" | "c" | "s" | "C!" | "S!" | "T+";
  readonly octets: Buffer;
  readonly line: number;
}

export interface Transcript {
  readonly steps: readonly Step[];
  readonly settings: readonly string[];
}

export function parseTranscript(text: string): Transcript {
  const steps: Step[] = [];
  const settings: string[] = [];
  let joined = false;
  for (const [index, raw] of text.split("\n").entries()) {
    if (raw.startsWith("#")) continue;
    if (raw.trim() === "") {
      joined = false;
      continue;
    }
    if (raw.startsWith("! ")) {
      settings.push(raw.slice(2));
      continue;
    }
    const match = /^(C!|S!|T\+|[CScs]:) ?(.*)$/.exec(raw);
    if (match === null) throw new Error(`line ${index + 1}: ${raw}`);
    const kind = (match[1] as string).replace(":", "") as Step["kind"];
    const octets = kind.length === 1 ? octetsOf(match[2] as string) : Buffer.from(match[2] as string);
    const last = steps.at(-1);
    if (joined && last?.kind === kind && kind.length === 1) {
      steps[steps.length - 1] = { ...last, octets: Buffer.concat([last.octets, octets]) };
    } else steps.push({ kind, octets, line: index + 1 });
    joined = true;
  }
  return { steps, settings };
}

function octetsOf(text: string): Buffer {
  const cut = text.endsWith("\\") && !text.endsWith("\\\\");
  const body = cut ? text.slice(0, -1) : text;
  const octets = body.replace(/\\(r|n|0|\\|x[0-9a-fA-F]{2})/g, (_all, code: string) => {
    if (code === "r") return "\r";
    if (code === "n") return "\n";
    if (code === "0") return "\0";
    if (code === "\\") return "\\";
    return String.fromCharCode(Number.parseInt(code.slice(1), 16));
  });
  return Buffer.from(cut ? octets : `${octets}\r\n`, "latin1");
}

/** Cuts a segment of a party into what arrives at once. */
export type Slicer = (octets: Buffer, step: number) => Buffer[];

export const whole: Slicer = (octets) => [octets];
export const octetByOctet: Slicer = (octets) => Array.from(octets, (_octet, i) => octets.subarray(i, i + 1));

/** What came of a run; equal for every slicer. */
export interface Outcome {
  readonly client: string;
  readonly legs: readonly string[];
  readonly events: readonly string[];
}

/** Runs the transcript. `check`: what is expected after each step is compared. */
export async function play(
  transcript: Transcript,
  options: SimulationOptions,
  slicer: Slicer,
  check: boolean,
): Promise<Outcome> {
  const simulation = new Simulation(options);
  await simulation.start();
  const client: string[] = [];
  const legs: string[] = [];
  const seen = { c: "", s: "" };
  const collect = (): void => {
    const text = simulation.client.take();
    client.push(text);
    seen.c += text;
    for (const [index, leg] of simulation.legs.entries()) {
      const octets = leg.take();
      legs[index] = (legs[index] ?? "") + octets;
      seen.s += octets;
    }
  };
  for (const [index, step] of transcript.steps.entries()) {
    await perform(simulation, step, (octets) => slicer(octets, index));
    collect();
    if (!check || (step.kind !== "c" && step.kind !== "s")) continue;
    const expected = step.octets.toString("latin1");
    const got = seen[step.kind];
    assert.equal(
      got.slice(0, Math.max(expected.length, matchLength(got, expected))),
      expected,
      `line ${step.line}`,
    );
    seen[step.kind] = got.slice(expected.length);
  }
  if (check) assert.deepEqual(seen, { c: "", s: "" }, "nothing else was sent at the end");
  return { client: client.join(""), legs, events: simulation.events.map(eventText) };
}

/** How much of `got` to show beside `expected`: its whole next lines. */
function matchLength(got: string, expected: string): number {
  return expected === "" ? got.length : expected.length;
}

async function perform(
  simulation: Simulation,
  step: Step,
  slice: (octets: Buffer) => Buffer[],
): Promise<void> {
  const peer = step.kind.startsWith("C") ? simulation.client : simulation.legs.at(-1);
  switch (step.kind) {
    case "C":
    case "S":
      for (const piece of slice(step.octets)) {
        peer?.feed(piece);
        await settle();
      }
      break;
    case "C!":
    case "S!":
      if (step.octets.toString() === "fin") peer?.fin();
      else peer?.rst();
      await settle();
      break;
    case "T+":
      await simulation.clock.advance(Number(step.octets.toString()));
      break;
  }
}

function eventText(event: Simulation["events"][number]): string {
  switch (event.kind) {
    case "after_comm":
      return `${event.direction} ${event.data.toString("latin1")} leg=${event.leg} tx=${event.transactionId} ${event.redacted}`;
    case "after_transaction":
      return JSON.stringify({
        outcome: event.outcome,
        from: event.mailFrom.address,
        to: event.recipients.map(({ address, finalReply }) => [address.address, finalReply?.code]),
        octets: event.messageOctets,
        id: event.messageId.toString("latin1"),
        bdat: event.bdat,
      });
    case "after_conn":
      return JSON.stringify({
        transactions: event.transactions,
        legs: event.legs,
        in: event.octetsIn,
        out: event.octetsOut,
        by: event.closedBy,
      });
    case "notice":
      return event.code;
  }
}

/** The set-up that the lines with `!` name. */
export function optionsOf(transcript: Transcript): SimulationOptions {
  const options: SimulationOptions = {};
  for (const setting of transcript.settings) {
    const [word, value] = setting.split(" ");
    if (word === "filter") options.filter = FILTERS[value ?? ""] as NonNullable<SimulationOptions["filter"]>;
    else if (word === "message") options.limits = { messageOctets: Number(value) };
    else if (word === "bare_newlines") options.bareNewlines = value as "reject";
    else if (word === "downstream_tls") options.downstreamTls = true;
    else throw new Error(`no such setting: ${setting}`);
  }
  return options;
}

const FILTERS: Record<string, SimulationOptions["filter"]> = {
  relay: () => undefined as never,
  reject: () => ({
    kind: "reject",
    reply: { code: 550, enhancedCode: "5.7.1", text: "no" },
    hook: "f",
    origin: "hook",
    outcomes: [],
  }),
};
