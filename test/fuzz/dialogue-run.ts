/**
 * One fuzzed session: a model client and a model destination with warp between them, octets cut anywhere, legs that break,
 * filters and limits at random; and once more with plain garbage on both sides. Returns what was breached (nothing, if all
 * is well).
 */

import type { Decision, Router } from "../../src/egress/contract.ts";
import {
  GOOD_TLS,
  ipDecision,
  type SimulatedTransport,
  Simulation,
  type SimulationOptions,
  settle,
  tlsRule,
} from "../support/simulation.ts";
import { Balance } from "./balance.ts";
import { ModelClient } from "./model-client.ts";
import { ModelServer, type ServerTemper } from "./model-server.ts";
import { Random } from "./random.ts";

const KEYWORDS = [
  "PIPELINING",
  "8BITMIME",
  "CHUNKING",
  "STARTTLS",
  "SIZE 100000",
  "DSN",
  "SMTPUTF8",
  "AUTH LOGIN",
];
const MAX_MOVES = 60;

export async function fuzzDialogue(seed: number): Promise<string[]> {
  return new DialogueRun(new Random(seed), 0).run();
}

/** The destination often goes on with a transaction that the client means to end. */
export async function fuzzStubborn(seed: number): Promise<string[]> {
  return new DialogueRun(new Random(seed), 0.5).run();
}

export class DialogueRun {
  private readonly random: Random;
  private readonly temper: ServerTemper;
  private readonly simulation: Simulation;
  private readonly balance = new Balance();
  private readonly client: ModelClient;
  private readonly servers: ModelServer[] = [];
  /** Encrypted, as the servers know it. */
  private readonly secured = new WeakSet<ModelServer>();
  /** These answer no more, and stay. */
  private readonly silent = new WeakSet<ModelServer>();
  /** What the peers said and warp did not read yet. */
  private readonly unread = new Map<SimulatedTransport, string[]>();
  /** Chance per round that something happens from outside: time, backpressure, a drain, a peer that goes. */
  private readonly unrest: number;
  /** Messages that the filter let pass; undefined without one. */
  private readonly passed: Passed[] | undefined;

  constructor(random: Random, stubbornness: number) {
    this.random = random;
    const encryptOnly = random.chance(0.1);
    this.temper = {
      refusal: random.pick([0, 0.05, 0.3]),
      departure: random.pick([0, 0, 0.02, 0.1]),
      keywords: KEYWORDS.filter((keyword) => (encryptOnly && keyword === "STARTTLS") || random.chance(0.7)),
      encryptOnly,
      stubbornness,
    };
    this.unrest = random.pick([0, 0, 0.03, 0.15]);
    const filter = random.pick(["none", "none", "relay", "mixed"]);
    if (filter !== "none") this.passed = [];
    this.simulation = new Simulation({
      ...this.options(),
      ...(this.passed === undefined ? {} : { filter: randomFilter(random, filter === "mixed", this.passed) }),
    });
    this.simulation.legTls = random.chance(0.8)
      ? GOOD_TLS
      : random.pick([new Error("no handshake"), "silent"]);
    this.client = new ModelClient(random, { hostile: random.chance(0.7), pipelines: random.chance(0.6) });
  }

  private options(): SimulationOptions {
    const { random } = this;
    return {
      limits: { messageOctets: random.pick([100_000, 2000]) },
      bareNewlines: random.chance(0.2) ? "reject" : "normalize",
      downstreamTls: random.chance(0.3),
      tls: [tlsRule(this.temper.encryptOnly ? "encrypt" : "may")],
      telemetry: this.balance.telemetry,
      router: { ...this.balance.router, ...(random.chance(0.3) ? randomRoutes(random) : {}) },
    };
  }

  async run(): Promise<string[]> {
    const { simulation, client, random } = this;
    await simulation.start();
    for (let move = 0; move < MAX_MOVES && !client.done; move++) {
      const octets = client.move();
      if (octets !== undefined) await this.feed(simulation.client, octets);
      await this.exchange();
      if (client.waiting > 0 && octets === undefined) break;
    }
    const idle = random.chance(0.3);
    await this.end(idle);
    await this.exchange();
    const found = [...client.breaches, ...this.servers.flatMap((server) => server.breaches)];
    found.push(...falseAcceptances(client, this.servers), ...this.unfiltered(), ...this.unrecorded());
    if (!simulation.closed) return [...found, `the session did not end${idle ? " by itself" : ""}`];
    if (simulation.connections.length !== 1)
      found.push(`${simulation.connections.length} records of the connection`);
    return [...found, ...this.balance.breaches(simulation)];
  }

  /** Octets of a peer, cut anywhere; kept back while warp doesn't read. */
  private async feed(to: SimulatedTransport, octets: string): Promise<void> {
    const { random } = this;
    const waiting = this.unread.get(to) ?? [];
    this.unread.set(to, waiting);
    let rest = octets;
    while (rest !== "") {
      const length = random.chance(0.5) ? rest.length : 1 + random.below(Math.min(rest.length, 40));
      waiting.push(rest.slice(0, length));
      rest = rest.slice(length);
      if (random.chance(0.2)) await settle();
      this.read(to);
    }
  }

  private read(to: SimulatedTransport): boolean {
    const waiting = this.unread.get(to) ?? [];
    const before = waiting.length;
    while (!to.paused && waiting.length > 0) to.feed(waiting.shift() as string);
    return waiting.length < before;
  }

  /** Carries octets to and fro until nothing moves any more. */
  private async exchange(): Promise<void> {
    const { simulation, client } = this;
    for (let quiet = 0; quiet < 2; ) {
      await settle();
      if (this.unrest > 0 && this.random.chance(this.unrest)) await this.disturb();
      let moved = this.read(simulation.client);
      for (const [index, leg] of simulation.legs.entries()) {
        if (await this.serve(index, leg)) moved = true;
      }
      const text = simulation.client.take();
      if (text !== "") moved = true;
      if (!client.done) client.receive(text);
      for (const transport of [simulation.client, ...simulation.legs]) {
        if (transport.room || (moved && this.random.chance(0.5))) continue;
        transport.drain();
        moved = true;
      }
      quiet = moved ? 0 : quiet + 1;
    }
  }

  private async serve(index: number, leg: SimulatedTransport): Promise<boolean> {
    let server = this.servers[index];
    let moved = this.read(leg);
    if (server === undefined) {
      server = new ModelServer(this.random, this.temper);
      server.greet();
      this.servers.push(server);
      moved = true;
    }
    const octets = leg.take();
    if (leg.encrypted && !this.secured.has(server)) {
      this.secured.add(server);
      server.secured();
    }
    if (octets !== "") moved = true;
    server.receive(octets);
    const reply = server.takeOutput();
    if (reply !== "" && !this.silent.has(server)) {
      moved = true;
      await this.feed(leg, reply);
    }
    if (leg.paused || this.silent.has(server)) return moved;
    if (server.gone === "fin") leg.fin();
    else if (server.gone === "rst") leg.rst();
    return moved;
  }

  /** Something from outside. */
  private async disturb(): Promise<void> {
    const { random, simulation } = this;
    const server = random.pick(this.servers);
    const leg = simulation.legs.at(-1);
    switch (random.below(9)) {
      case 0:
      case 1:
        if (leg !== undefined) leg.room = false;
        return;
      case 2:
        simulation.client.room = false;
        return;
      case 3:
        if (server !== undefined) this.silent.add(server);
        return;
      case 4:
        return simulation.clock.advance(random.pick([10, 1000, 40_000, 200_000, 600_000]));
      case 5:
        return simulation.session.drain();
      case 6:
        if (leg !== undefined) random.chance(0.5) ? leg.fin() : leg.rst();
        return;
      case 7:
        if (random.chance(0.5)) return;
        this.client.leave();
        return simulation.client.rst();
      default:
        if (random.chance(0.8)) return;
        this.client.leave();
        simulation.session.kill();
    }
  }

  /** `idle`: the client stays, and every wait of warp's has to end by itself. */
  private async end(idle: boolean): Promise<void> {
    const { simulation, random } = this;
    if (!idle && random.chance(0.5)) simulation.client.fin();
    else if (!idle) simulation.client.rst();
    await settle();
    // Whatever it still waits for has a deadline; none of them is longer than this.
    await simulation.clock.advance(3_600_000);
    if (!idle) simulation.client.rst();
    await settle();
  }

  /** Law 7: each message that the destination took went through the filter, from whom and for whom it was. */
  private unfiltered(): string[] {
    if (this.passed === undefined) return [];
    const passed = new Set(
      this.passed.flatMap(({ content, envelope }) =>
        [content, `${content}\r\n`].map((text) => envelope + text),
      ),
    );
    return this.servers
      .flatMap((server) => server.accepted)
      .filter((taken) => !passed.has(envelopeText(taken.mailFrom, taken.recipients) + taken.content))
      .map((taken) => `not filtered: ${JSON.stringify(taken).slice(0, 300)}`);
  }

  /** Each message that the destination took is on record, from whom and for whom it was; and no other as accepted. */
  private unrecorded(): string[] {
    const records = this.simulation.transactions.map((tx) => ({
      outcome: tx.outcome,
      reply: tx.finalReply?.text.toString("latin1") ?? "",
      envelope: envelopeText(
        tx.mailFrom.address,
        tx.recipients.flatMap(({ address, rcptReply }) =>
          (rcptReply?.code ?? 500) < 300 ? [address.address] : [],
        ),
      ),
    }));
    const breaches: string[] = [];
    for (const taken of this.servers.flatMap((server) => server.accepted)) {
      const envelope = envelopeText(taken.mailFrom, taken.recipients);
      const index = records.findIndex(
        (record) =>
          record.envelope === envelope &&
          (record.outcome === "unknown" ||
            (record.outcome === "accepted" && record.reply.endsWith(taken.reply.slice(4)))),
      );
      if (index < 0) breaches.push(`not on record: ${JSON.stringify(taken).slice(0, 300)}`);
      else records.splice(index, 1);
    }
    for (const { outcome, envelope } of records)
      if (outcome === "accepted")
        breaches.push(`on record as accepted, and not at the destination: ${envelope}`);
    return breaches;
  }
}

interface Passed {
  readonly content: string;
  readonly envelope: string;
}

function envelopeText(mailFrom: string, recipients: readonly string[]): string {
  return JSON.stringify([mailFrom, ...[...recipients].sort()]);
}

/** `passed` gets what it lets through. */
function randomFilter(
  random: Random,
  mixed: boolean,
  passed: Passed[],
): NonNullable<SimulationOptions["filter"]> {
  return async (message, { mailFrom, recipients }) => {
    if (random.chance(0.3)) await settle();
    if (!mixed || random.chance(0.5)) {
      const accepted = recipients.map(({ address }) => address);
      passed.push({
        content: message.toString("latin1"),
        envelope: envelopeText(mailFrom.address, accepted),
      });
      return undefined as never;
    }
    const reply = { code: random.pick([451, 550]), enhancedCode: "", text: "filtered" };
    return { kind: "reject", reply, hook: "f", origin: random.pick(["hook", "warp"] as const), outcomes: [] };
  };
}

/** Several source IPs, chosen by sender or by the first recipient, at once or after a while. */
function randomRoutes(random: Random): Partial<Router> {
  const byRecipient = random.chance(0.4);
  const decide = (address: string): Decision =>
    ipDecision(`203.0.113.${1 + ((address.length + address.charCodeAt(1)) % 3)}`);
  return {
    needs: { sender: !byRecipient, recipient: byRecipient },
    atConnect: () => ipDecision("203.0.113.1"),
    forTransaction: async ({ mailFrom, recipient }) => {
      if (random.chance(0.3)) await settle();
      return decide((byRecipient ? recipient : mailFrom)?.address ?? "");
    },
  };
}

/** Law 1: each 2xx for a message has a message of those very octets at the destination. */
function falseAcceptances(client: ModelClient, servers: readonly ModelServer[]): string[] {
  const there = servers.flatMap((server) => server.accepted.map(({ content }) => content));
  const breaches: string[] = [];
  for (const content of client.acceptedContents) {
    // A held message by BDAT whose last line has no CRLF gets one where it has to go on by DATA.
    const index = [content, `${content}\r\n`].map((text) => there.indexOf(text)).find((at) => at >= 0) ?? -1;
    if (index < 0)
      breaches.push(`accepted, and not at the destination: ${JSON.stringify(content.slice(0, 200))}`);
    else there.splice(index, 1);
  }
  return breaches;
}

/** Garbage on both sides: nothing is promised but that it ends, stays bounded and leaves no bare newline. */
export async function fuzzGarbage(seed: number): Promise<string[]> {
  const random = new Random(seed);
  const balance = new Balance();
  const simulation = new Simulation({
    telemetry: balance.telemetry,
    router: balance.router,
    ...(random.chance(0.3) ? { filter: randomFilter(random, true, []) } : {}),
  });
  await simulation.start();
  const words = [
    "220 x\r\n",
    "250 x\r\n",
    "250-",
    "354 go\r\n",
    "334 x\r\n",
    "421 x\r\n",
    "\r\n",
    "\n",
    "\r",
    ".",
    "\0",
    "EHLO x\r\n",
    "MAIL FROM:<a@b>\r\n",
    "RCPT TO:<a@b>\r\n",
    "DATA\r\n",
    "BDAT 3\r\n",
    "AUTH X\r\n",
    "STARTTLS\r\n",
    "QUIT\r\n",
    "x".repeat(20000),
    "\xff\xfe",
  ];
  for (let i = 0; i < 60; i++) {
    const peer = random.chance(0.5) ? simulation.client : simulation.legs.at(-1);
    peer?.feed(random.pick(words));
    if (random.chance(0.3)) await settle();
    if (random.chance(0.02)) peer?.fin();
  }
  if (random.chance(0.5)) simulation.client.fin();
  else simulation.client.rst();
  await settle();
  await simulation.clock.advance(3_600_000);
  simulation.client.rst();
  await settle();
  const breaches: string[] = balance.breaches(simulation);
  for (const leg of simulation.legs) {
    if (/(?<!\r)\n|\r(?!\n|$)/.test(leg.take()))
      breaches.push("a bare CR or LF left towards the destination");
  }
  if (!simulation.closed) breaches.push("the session did not end");
  return breaches;
}
