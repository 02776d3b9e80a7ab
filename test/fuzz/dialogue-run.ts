/**
 * One fuzzed session: a model client and a model destination with warp between them, octets cut anywhere, legs that break,
 * filters and limits at random; and once more with plain garbage on both sides. Returns what was breached (nothing, if all
 * is well).
 */
import { GOOD_TLS, Simulation, type SimulationOptions, settle } from "../support/simulation.ts";
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
  const random = new Random(seed);
  const breaches: string[] = [];
  const temper: ServerTemper = {
    refusal: random.pick([0, 0.05, 0.3]),
    departure: random.pick([0, 0, 0.02, 0.1]),
    keywords: KEYWORDS.filter(() => random.chance(0.7)),
  };
  const options: SimulationOptions = {
    limits: { messageOctets: random.pick([100_000, 2000]) },
    bareNewlines: random.chance(0.2) ? "reject" : "normalize",
  };
  const filter = random.pick(["none", "none", "relay", "mixed"]);
  if (filter !== "none") options.filter = randomFilter(random, filter === "mixed");
  const simulation = new Simulation(options);
  simulation.legTls = random.chance(0.8) ? GOOD_TLS : new Error("no handshake");
  const client = new ModelClient(random, { hostile: random.chance(0.7), pipelines: random.chance(0.6) });
  const servers: ModelServer[] = [];
  await simulation.start();
  for (let move = 0; move < MAX_MOVES && !client.done; move++) {
    const octets = client.move();
    if (octets !== undefined) await feed(random, octets, (piece) => simulation.client.feed(piece));
    await exchange(simulation, client, servers, temper, random);
    if (client.waiting > 0 && octets === undefined) break;
  }
  await end(simulation, random);
  await exchange(simulation, client, servers, temper, random);
  breaches.push(...client.breaches, ...servers.flatMap((server) => server.breaches));
  breaches.push(...falseAcceptances(client, servers));
  if (!simulation.closed) breaches.push("the session did not end");
  if (simulation.connections.length !== 1)
    breaches.push(`${simulation.connections.length} records of the connection`);
  return breaches;
}

function randomFilter(random: Random, mixed: boolean): NonNullable<SimulationOptions["filter"]> {
  return async () => {
    if (random.chance(0.3)) await settle();
    if (!mixed || random.chance(0.5)) return undefined as never;
    const reply = { code: random.pick([451, 550]), enhancedCode: "", text: "filtered" };
    return { kind: "reject", reply, hook: "f", origin: random.pick(["hook", "warp"] as const), outcomes: [] };
  };
}

async function feed(random: Random, octets: string, take: (piece: string) => void): Promise<void> {
  let rest = octets;
  while (rest !== "") {
    const length = random.chance(0.5) ? rest.length : 1 + random.below(Math.min(rest.length, 40));
    take(rest.slice(0, length));
    rest = rest.slice(length);
    if (random.chance(0.2)) await settle();
  }
}

/** Carries octets to and fro until nothing moves any more. */
async function exchange(
  simulation: Simulation,
  client: ModelClient,
  servers: ModelServer[],
  temper: ServerTemper,
  random: Random,
): Promise<void> {
  for (let quiet = 0; quiet < 2; ) {
    await settle();
    let moved = false;
    for (const [index, leg] of simulation.legs.entries()) {
      let server = servers[index];
      if (server === undefined) {
        server = new ModelServer(random, temper);
        server.greet();
        servers.push(server);
        moved = true;
      }
      const octets = leg.take();
      if (leg.encrypted && !secured.has(server)) {
        secured.add(server);
        server.secured();
      }
      if (octets !== "") moved = true;
      server.receive(octets);
      const reply = server.takeOutput();
      if (reply !== "") {
        moved = true;
        await feed(random, reply, (piece) => leg.feed(piece));
      }
      if (server.gone === "fin") leg.fin();
      else if (server.gone === "rst") leg.rst();
    }
    const text = simulation.client.take();
    if (text !== "") moved = true;
    client.receive(text);
    quiet = moved ? 0 : quiet + 1;
  }
}

const secured = new WeakSet<ModelServer>();

async function end(simulation: Simulation, random: Random): Promise<void> {
  if (random.chance(0.5)) simulation.client.fin();
  else simulation.client.rst();
  await settle();
  // Whatever it still waits for has a deadline; none of them is longer than this.
  await simulation.clock.advance(3_600_000);
  simulation.client.rst();
  await settle();
}

/** Law 1: each 2xx for a message has a message of those very octets at the destination. */
function falseAcceptances(client: ModelClient, servers: readonly ModelServer[]): string[] {
  const there = servers.flatMap((server) => server.accepted);
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
  const simulation = new Simulation(random.chance(0.3) ? { filter: randomFilter(random, true) } : {});
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
  await end(simulation, random);
  const breaches: string[] = [];
  for (const leg of simulation.legs) {
    if (/(?<!\r)\n|\r(?!\n|$)/.test(leg.take()))
      breaches.push("a bare CR or LF left towards the destination");
  }
  if (!simulation.closed) breaches.push("the session did not end");
  return breaches;
}
