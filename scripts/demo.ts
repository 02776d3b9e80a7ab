/**
 * `npm run demo`: two mails on their way through warp, to a mail server that is thrown away afterwards, with everything
 * that warp records of them. As root, with nft, they are really captured, in a network of their own; else warp is told its
 * one destination (also with --loopback). Nothing leaves this machine, and nothing stays on it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addHeader, insert, reject, relay, serveHook } from "../src/sdk/index.ts";
import { Dialogue } from "./demo/dialogue.ts";
import { type Network, openNetwork } from "./demo/network.ts";
import { Program } from "./demo/program.ts";

interface Sent {
  readonly subject: string;
  readonly reply: string;
  readonly ms: number;
}
interface Arrived {
  readonly subject: string;
  readonly tls: string;
  readonly header: string;
}

const folder = mkdtempSync(join(tmpdir(), "warp-demo-"));
const programs: Program[] = [];
const colour = process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
const bold = (text: string): string => (colour ? `\x1b[1m${text}\x1b[0m` : text);
const say = (text = ""): void => void process.stdout.write(`${text}\n`);

let network: Network | undefined;
const cleanUp = (): void => {
  for (const program of programs) program.kill();
  network?.close();
  rmSync(folder, { recursive: true, force: true });
};
process.on("exit", cleanUp);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

function start(words: readonly string[]): Program {
  const program = new Program(words);
  programs.push(program);
  return program;
}

await main();
process.exit(0);

async function main(): Promise<void> {
  network = await openNetwork(process.argv.includes("--loopback"));
  const { address, client, destination, warpFlags, captured } = network;
  say(bold("warp demo"));
  say(network.explanation);
  say();

  const hook = join(folder, "filter.sock");
  // The whole filter. Any language that speaks gRPC will do.
  const filter = await serveHook({
    name: "demo",
    listen: `unix:${hook}`,
    async beforeRelay(_envelope, message) {
      const subject = (await message.header()).get("Subject") ?? "";
      if (/lottery/i.test(subject)) return reject("550 5.7.1 We do not send lottery mail");
      return subject === "" ? relay() : addHeader([insert("X-Checked-By", "the demo's filter")]);
    },
  });
  const server = start([
    ...destination,
    process.execPath,
    file("destination.ts"),
    address.ip,
    String(address.port),
  ]);
  await server.line(/^listening$/);
  const flags = [...warpFlags, "--filter", `demo=unix:${hook}`, "--verbose", "--log-level", "warn"];
  const warp = start([...client, process.execPath, ...mainProgram(), ...flags]);
  const where = /listens to (\S+):(\d+)/.exec(await warp.line(/^warp listens to /)) ?? [];
  if (captured) {
    const rules = start([...client, process.execPath, ...mainProgram(), "rules", "--apply"]);
    if ((await rules.ended) !== 0) throw new Error(`warp rules --apply failed:\n${rules.lines.join("\n")}`);
  }

  const target = captured ? [address.ip, String(address.port)] : [where[1] ?? "", where[2] ?? ""];
  say(bold("What warp recorded"));
  say(
    "  connection  since it began   -> client  <- server  |> |< warp and server  <| warp to client  -- note",
  );
  const dialogue = new Dialogue(colour);
  warp.onLine((line) => dialogue.take(line));
  const sender = start([...client, process.execPath, file("client.ts"), ...target]);
  await sender.ended;
  warp.signal("SIGTERM");
  await warp.ended;
  await filter.close(0);
  const sent = records(sender) as Sent[];
  const arrived = records(server) as Arrived[];
  tell(sent, arrived, captured);
  if (sent.length !== 2 || arrived.length !== 1)
    throw new Error("the demo did not go as it should, see above");
}

function records({ lines }: Program): unknown[] {
  return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

function tell(sent: readonly Sent[], arrived: readonly Arrived[], captured: boolean): void {
  say();
  say(bold("What happened"));
  if (captured) {
    say(
      `  The client connected to the mail server's own address. The kernel handed the connection to warp, which asked`,
    );
    say("  where it was going, connected there itself, and carried the dialogue across.");
  }
  for (const { subject, reply, ms } of sent) {
    say(`  "${subject}" took ${ms} ms; the client was told: ${reply}`);
    const there = arrived.find((mail) => mail.subject === subject);
    if (there === undefined) {
      say(
        "    The filter refused it while warp held it: the mail server saw sender and recipient, and then RSET.",
      );
      continue;
    }
    say(
      `    It arrived over ${there.tls}, although the client knows nothing of TLS: warp upgraded the connection.`,
    );
    say(`    The filter added a header on the way: ${there.header}`);
  }
  say(
    "  (The mail server waits 100 ms before each greeting; the rest of the time is the dialogue, the handshake, the filter.)",
  );
  say(
    "  The filter is ten lines of TypeScript over gRPC, in this program. docs/hooks.md tells how to write one.",
  );
  say("  Next: npm start -- --help");
}

function file(name: string): string {
  return join(import.meta.dirname, "demo", name);
}

function mainProgram(): string[] {
  return [join(import.meta.dirname, "..", "src", "cli", "main.ts")];
}
