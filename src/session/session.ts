/**
 * One connection's story, top to bottom: the client is accepted, its leg is dialled, the greeting comes back, commands go
 * up and replies come down in their order, messages pass, and both sides close. The commands' meaning is in `commands.ts`,
 * a message on its way in `…-body.ts`, a leg's coming about in `leg-maker.ts`.
 *
 * Flow: `pump` pulls events from the client's reader while nothing blocks. Whoever needs an answer before the next octet
 * may be looked at calls `block`, and `unblock` when it has it. What was written in one turn leaves in one write.
 */

import { type BadLine, type ClientEvent, ClientReader } from "../dialogue/client-reader.ts";
import type { Decision } from "../egress/contract.ts";
import { endpointText } from "../events/endpoint.ts";
import type {
  AddressFacts,
  Endpoint,
  ReplyFacts,
  RouteFacts,
  SessionFacts,
  TlsFacts,
} from "../events/events.ts";
import { defectFields, type LegReason, type SessionResult } from "../events/telemetry.ts";
import { GivingUp } from "../net/dial.ts";
import type { Transport } from "../net/transport.ts";
import type { Capabilities } from "../smtp/capabilities.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import { enhancedCode, type Reply } from "../smtp/reply.ts";
import { type ChosenReply, chosenReply } from "./chosen-reply.ts";
import { Deadline, type Timer } from "./clock.ts";
import { Commands } from "./commands.ts";
import type { MessageBody, SessionCore } from "./core.ts";
import { guarded, guardedCall } from "./guard.ts";
import type { Leg, LegLost, LegOwner } from "./leg.ts";
import { DialFailed } from "./leg-dialer.ts";
import { type Hello, LegMaker, type Stages } from "./leg-maker.ts";
import { Recorder } from "./recorder.ts";
import { onceSent, ReplyQueue, type Slot } from "./reply-queue.ts";
import type { SessionEnvironment } from "./settings.ts";
import type { Transaction } from "./transaction.ts";

/** dialling → serving → closing (its last reply is out; what still comes is thrown away) → closed. */
type Stage = "dialling" | "serving" | "closing" | "closed";

/** Beyond so many commands without a reply, no more are read. */
const MAX_OUTSTANDING = 1000;
/** So many events of a client are taken in one turn of the event loop: the other sessions wait meanwhile. */
const MAX_EVENTS_A_TURN = 500;
/** So many unread octets of the client are kept while it has to wait. */
const MAX_UNREAD = 16384;
/** Before a stop, a client that has brought no message yet has so long for each command, ms. */
const TURN_MS = 1000;
/** How long a client may take to close after its last reply, ms. */
const LINGER_MS = 5000;

const BAD_LINE_REPLIES: Readonly<Record<BadLine, OwnReply>> = {
  bare_newline: OWN.bareNewlineInCommand,
  nul: OWN.nulInCommand,
  too_long: OWN.lineTooLong,
};

export interface SessionStart {
  readonly transport: Transport;
  readonly destination: Endpoint;
  /** Source address where the decision is "the client's own"; undefined: the system's choice. */
  readonly clientSource: string | undefined;
  /** The session is over; its record was made. */
  readonly closed: () => void;
}

export class Session implements SessionCore, LegOwner {
  readonly id: string;
  readonly env: SessionEnvironment;
  readonly client: Transport;
  readonly destination: Endpoint;
  readonly recorder: Recorder;
  readonly reader: ClientReader;
  readonly maker: LegMaker;
  readonly stages: Stages = {};
  leg: Leg | undefined;
  /** Where the leg at hand leaves from, and why. */
  decision: Decision | undefined;
  hello: Hello | undefined;
  /** What the client was shown in the reply to EHLO. */
  shown: Capabilities | undefined;
  downstreamTls: TlsFacts | undefined;
  authUser = "";
  /** Opaque state was set upstream: no leg replaces this one. */
  pinned = false;
  /** A leg is being introduced: whoever does it meets its loss. */
  settingUp: Leg | undefined;
  body: MessageBody | undefined;
  connectedAt: number | undefined;
  private readonly commands: Commands;
  private readonly replies: ReplyQueue;
  private readonly start: SessionStart;
  private readonly startedAt: number;
  /** While a leg is dialled. */
  private dialling: GivingUp | undefined;
  private readonly deadline: Deadline;
  private lingering: Timer | undefined;
  private stage: Stage = "dialling";
  private holds = 1;
  private pumping = false;
  private settled: (() => void) | undefined;
  private legIsFull = false;
  private clientIsFull = false;
  private clientPaused = false;
  private clientEnded = false;
  private clientClosed = false;
  private draining = false;
  /** Since when the client is waited for. */
  private turnAt = 0;
  /** What the client's deadline is about. */
  private awaited: "nothing" | "command" | "message" | "room" = "nothing";
  private lastTls: TlsFacts | undefined;
  private lastRoute: { sourceIp: string } | undefined;
  private greetingText: Buffer = Buffer.alloc(0);
  private provider = "";
  private octetsIn = 0;
  private octetsOut = 0;
  private transactions = 0;
  private first: Transaction | undefined;
  private closedBy = "";
  private closeReason = "";
  private result: SessionResult = "served";

  constructor(env: SessionEnvironment, start: SessionStart) {
    this.env = env;
    this.start = start;
    this.id = env.newId();
    this.client = start.transport;
    this.destination = start.destination;
    this.startedAt = env.clock.now();
    this.recorder = new Recorder(this.id, env.sinks, env.clock);
    this.reader = new ClientReader(env.settings.limits.commandLineOctets);
    this.replies = new ReplyQueue((wire) => this.writeClient(wire));
    const defect = (error: unknown): void => this.defect(error);
    this.deadline = new Deadline(
      env.clock,
      guardedCall(() => this.clientLate(), defect),
    );
    this.maker = new LegMaker({
      env,
      owner: this,
      recorder: this.recorder,
      client: this.client.remote,
      destination: this.destination,
      clientSource: start.clientSource,
      stages: this.stages,
    });
    this.commands = new Commands(this);
    const handler = {
      data: (chunk: Buffer) => this.fromClient(chunk),
      drained: () => this.clientDrained(),
      ended: () => this.clientHalfClosed(),
      closed: (cause: Error | undefined) => this.clientLeft(cause),
    };
    this.client.handler = guarded(handler, defect);
  }

  /** Dials, and passes the greeting on. Never rejects. */
  async run(): Promise<void> {
    const { client, env } = this;
    env.telemetry.sessionOpened();
    this.recorder.note(
      "connected_from",
      `connected from ${endpointText(client.remote.ip, client.remote.port)}`,
    );
    try {
      const facts = { client: client.remote, destination: this.destination };
      this.decision = await env.router.atConnect(facts);
      if (this.decision.kind === "reply" || this.decision.kind === "none") {
        return this.refuseRoute(this.decision);
      }
      const leg = await this.dial(this.decision, "connect");
      if (this.stage !== "dialling") return leg.abort();
      this.useLeg(leg);
      this.connectedAt = env.clock.now();
      this.greet(leg);
    } catch (error) {
      this.dialFailed(error);
    }
  }

  private refuseRoute(decision: Decision & { kind: "reply" | "none" }): void {
    this.result = "no_route";
    const slot = this.open();
    if (decision.kind === "none") return this.finishWith(slot, OWN.noUsableLeg);
    this.answerChosen(slot, chosenReply(decision.reply));
    this.close("warp", "rule");
  }

  private dialFailed(error: unknown): void {
    this.env.router.failed(this.client.remote, this.destination);
    if (this.stage !== "dialling") return;
    if (!(error instanceof DialFailed)) {
      this.env.telemetry.log(
        "error",
        "session_failed",
        "a session could not be started",
        this.logFields(),
        error,
      );
      return this.finishWith(this.open(), OWN.dialFailed);
    }
    this.env.telemetry.log("warn", "dial_failed", error.message, this.logFields(), error.cause);
    this.recorder.note("dial_failed", `dial failed: ${error.message}`);
    this.result = error.kind === "no_source_ip" ? "no_route" : "served";
    this.finishWith(this.open(), error.kind === "no_source_ip" ? OWN.noUsableLeg : OWN.dialFailed);
  }

  /** The greeting of the first leg is the client's greeting, byte for byte. */
  private greet(leg: Leg): void {
    this.stage = "serving";
    if (this.reader.buffered > 0) this.env.telemetry.violation("downstream", "early_talk");
    const slot = this.open();
    leg.expect((reply, latencyMs) => {
      this.stages.greetingMs = latencyMs;
      this.greetingText = reply.wire.subarray(0, reply.wire.length - 2);
      this.provider = this.env.router.provider(this.destination.ip, this.greetingText);
      if (reply.code >= 400) this.env.router.failed(this.client.remote, this.destination);
      this.pass(slot, reply);
      this.unblock();
    }, this.env.settings.timeouts.greetingMs);
  }

  /** From now on this is the leg. */
  useLeg(leg: Leg): void {
    this.leg = leg;
    this.lastRoute = { sourceIp: leg.sourceIp };
    if (leg.tls !== undefined) this.lastTls = leg.tls;
  }

  /** TLS facts and provider are known anew. */
  legIntroduced(leg: Leg): void {
    this.lastTls = leg.tls;
    if (leg.encrypted && leg.tls?.peerName) {
      this.provider = this.env.router.provider(this.destination.ip, undefined, [leg.tls.peerName]);
    }
  }

  // ------------------------------------------------------------------------------------------------- from the client

  private fromClient(chunk: Buffer): void {
    this.octetsIn += chunk.length;
    if (this.stage === "closing" || this.stage === "closed") return; // swallowed until the client closes
    this.reader.feed(chunk);
    this.pump();
  }

  /** Looks at what the client sent, as far as it may be looked at now. */
  pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    let events = 0;
    while (this.mayRead()) {
      const event = this.reader.next();
      if (event === undefined) break;
      this.take(event);
      if (++events === MAX_EVENTS_A_TURN) {
        // Held meanwhile, so that what the client goes on to send is not kept without a bound.
        this.block();
        setImmediate(
          guardedCall(
            () => this.unblock(),
            (error) => this.defect(error),
          ),
        );
        break;
      }
    }
    this.pumping = false;
    const progress = events > 0;
    if (this.stage === "serving" || this.stage === "dialling") this.setFlow(progress);
  }

  private mayRead(): boolean {
    return (
      this.stage === "serving" &&
      this.holds === 0 &&
      !this.legIsFull &&
      !this.clientIsFull &&
      this.replies.waiting < MAX_OUTSTANDING
    );
  }

  private take(event: ClientEvent): void {
    switch (event.kind) {
      case "line":
        this.commands.line(event.wire);
        break;
      case "bad_line":
        this.badLine(event.reason);
        break;
      case "data":
        this.body?.take(event.wire, event.end);
        break;
      case "chunk":
        this.commands.chunk(event.octets, event.end);
        break;
    }
  }

  private badLine(reason: BadLine): void {
    this.env.telemetry.violation("downstream", reason === "too_long" ? "line_too_long" : reason);
    this.recorder.note(reason, `command line refused: ${reason.replace("_", " ")}`);
    this.commands.cancelAuth();
    this.answer(this.open(), BAD_LINE_REPLIES[reason]);
  }

  /** Pauses and resumes the client, sets its deadline, and serves the end of a half-closed connection. */
  private setFlow(progress: boolean): void {
    const wait =
      this.legIsFull || this.clientIsFull || (!this.mayRead() && this.reader.buffered > MAX_UNREAD);
    if (wait !== this.clientPaused) {
      this.clientPaused = wait;
      if (wait) this.client.pause();
      else this.client.resume();
    }
    const idle = this.holds === 0 && this.replies.waiting === 0;
    this.setDeadline(idle, progress);
    // A chunk that breaks off has its place among the replies, and will have none.
    const isServed = idle || (this.reader.inMessage && this.replies.waiting === 1);
    if (this.clientEnded && isServed && this.mayRead()) this.halfClosedServed();
  }

  /** How long the client may be silent now. Octets that complete nothing (a line sent byte by byte) gain it no time. */
  private setDeadline(idle: boolean, progress: boolean): void {
    const { dataBlockMs, idleMs } = this.env.settings.timeouts;
    const before = this.awaited;
    const reading = this.reader.inMessage && this.holds === 0 && !this.legIsFull;
    if (this.clientIsFull)
      this.awaited = "room"; // runs since it took nothing more
    else this.awaited = reading ? "message" : idle ? "command" : "nothing";
    if (this.awaited === before && !progress) return;
    if (this.awaited === "message") this.deadline.set(dataBlockMs);
    else if (this.awaited === "nothing") this.deadline.clear();
    else if (this.awaited === "command") {
      this.turnAt = this.env.clock.now();
      this.awaitCommand(idleMs);
    }
  }

  private awaitCommand(idleMs: number): void {
    if (!this.draining || this.commands.inTransaction) return this.deadline.set(idleMs);
    // Sent away on its way to its first message (by a slow greeting, say), a client would have come for nothing.
    const left = this.transactions > 0 ? 0 : this.turnAt + TURN_MS - this.env.clock.now();
    if (left > 0) this.deadline.set(left);
    else this.finishWith(this.open(), OWN.stopping);
  }

  private clientHalfClosed(): void {
    this.clientEnded = true;
    if (this.stage === "dialling") {
      // A client that only half-closed still waits for its greeting; one that left is told by `closed`.
      return;
    }
    if (this.stage === "closing") return this.client.destroy();
    this.pump();
  }

  /** Everything that the client sent was answered, and it sends no more. */
  private halfClosedServed(): void {
    if (this.body !== undefined && !this.body.ended) this.body.clientGone();
    this.close("client", "closed");
  }

  private clientLeft(cause: Error | undefined): void {
    if (this.clientClosed) return;
    this.clientClosed = true;
    this.dialling?.giveUp();
    if (this.stage === "closed") return;
    const by = this.stage === "closing" ? this.closedBy : "client";
    const reason = this.stage === "closing" ? this.closeReason : (cause?.message ?? "closed");
    const wait = this.stage === "serving" && (this.body?.clientGone() ?? false) && this.leg !== undefined;
    this.stage = "closing";
    this.closedBy ||= by;
    this.closeReason ||= reason;
    if (!wait) this.finish();
  }

  private clientLate(): void {
    if (this.draining && this.awaited === "command") return this.finishWith(this.open(), OWN.stopping);
    const stalled = this.body !== undefined && !this.body.ended;
    this.env.telemetry.log("info", "client_timeout", "the client did not go on in time", this.logFields());
    if (stalled) this.body?.clientGone();
    if (this.clientIsFull) {
      this.client.reset();
      return this.clientLeft(new Error("the client reads nothing"));
    }
    // A chunk that it did not finish, or the one before it, has its place in the order already.
    this.finishWith(this.replies.oldest() ?? this.open(), OWN.clientIdle);
  }

  // ----------------------------------------------------------------------------------------------------- from the leg

  legTurn(leg: Leg): void {
    if (leg === this.leg && leg.outstanding === 0 && this.settled !== undefined) {
      const run = this.settled;
      this.settled = undefined;
      this.holds--;
      run();
    }
    this.pump();
  }

  legDrained(leg: Leg): void {
    if (leg !== this.leg) return;
    this.legIsFull = false;
    this.pump();
  }

  legFull(): void {
    this.legIsFull = true;
  }

  /** A 421 that nobody asked for: the destination closes (RFC 5321 §3.8). The client is told the same. */
  legClosing(leg: Leg, reply: Reply): void {
    if (leg !== this.leg || this.settingUp === leg) return leg.lose("closed", "421 while nothing was asked");
    if (this.body !== undefined) return leg.lose("closed", "421 while a message was held");
    this.recorder.line("<-", reply.wire, { leg: leg.number, tls: leg.encrypted });
    this.dropLeg();
    leg.close();
    this.replies.fill(this.replies.oldest() ?? this.open(), reply.wire);
    this.destinationCloses(reply);
  }

  /** Its 421 went to the client: the last word also to what the transaction at hand had no answer to. */
  private destinationCloses(reply: Reply): void {
    this.commands.legLost(this.upstreamFacts(reply, undefined));
    this.close("upstream", "421");
  }

  legLost(leg: Leg, loss: LegLost): void {
    if (leg === this.settingUp || leg !== this.leg) return;
    this.violated(loss);
    const waited = this.settled !== undefined;
    this.dropLeg();
    if (this.stage === "closing") {
      if (this.body?.legLost(loss) !== true) this.finish();
      return;
    }
    if (this.body?.legLost(loss) !== true) this.noteLoss(loss);
    else if (!this.isServing) return;
    // The message has its answer; commands behind it that went to the leg, or waited for it, have none.
    else if (this.replies.waiting === 0 && !waited) return this.pump();
    this.commands.legLost(this.ownFacts(OWN.legLost));
    const slot = this.replies.oldest() ?? this.open();
    this.finishWith(slot, OWN.legLost, "upstream");
  }

  private violated(loss: LegLost): void {
    if (loss.reason === "unsolicited_reply" || loss.reason === "early_reply") {
      this.env.telemetry.violation("upstream", "unsolicited_reply");
    } else if (loss.reason === "reply_too_long") this.env.telemetry.violation("upstream", "line_too_long");
  }

  noteLoss(loss: LegLost): void {
    this.recorder.note("leg_lost", `connection to the destination lost: ${loss.reason}: ${loss.message}`);
    this.env.telemetry.log("warn", "leg_lost", loss.message, { ...this.logFields(), cause: loss.reason });
  }

  /** There is no leg any more; what waited for its replies is forgotten (`legLost` answers it). */
  dropLeg(): void {
    this.leg = undefined;
    this.legIsFull = false;
    if (this.settled !== undefined) {
      this.settled = undefined;
      this.holds--;
    }
  }

  /** Of two legs, one may have been lost while the other, which it was to replace, is still there. */
  dropLostLeg(): void {
    if (this.leg?.lost !== undefined) this.dropLeg();
  }

  /** Opaque state that was set on the leg can't be taken back there (RFC 3207 §4.2): both are forgotten. */
  leavePinnedLeg(): void {
    const { leg } = this;
    this.dropLeg();
    leg?.quit(LINGER_MS);
    this.pinned = false;
    this.authUser = "";
  }

  abortLeg(reason: string): void {
    const { leg } = this;
    if (leg === undefined) return;
    this.recorder.note("leg_reset", `connection to the destination reset: ${reason}`, { leg: leg.number });
    this.dropLeg();
    leg.abort();
  }

  resetUpstream(): void {
    const { leg } = this;
    if (leg === undefined) return;
    const about = { leg: leg.number, tls: leg.encrypted };
    this.recorder.line("|>", Buffer.from("RSET"), { ...about, origin: "warp" });
    leg.expect((reply) => {
      this.recorder.line("|<", reply.wire, about);
      if (reply.code >= 300) loseTransaction(leg, reply);
    }, this.env.settings.timeouts.commandMs);
    leg.write(Buffer.from("RSET\r\n"));
  }

  /** What ends a transaction for the client was answered. */
  ended(old: Transaction, reply: Reply, slot: Slot): void {
    const { leg } = this;
    if (leg !== undefined && old.isOpenUpstream && reply.code >= 300 && reply.code !== 421)
      onceSent(slot, () => loseTransaction(leg, reply));
    this.report(old);
  }

  whenSettled(run: () => void): void {
    if (this.leg === undefined || this.leg.outstanding === 0) return run();
    this.holds++;
    this.settled = run;
  }

  block(): void {
    this.holds++;
  }

  unblock(): void {
    this.holds--;
    this.pump();
  }

  // ------------------------------------------------------------------------------------------------------- replies

  open(): Slot {
    return this.replies.open();
  }

  pass(slot: Slot, reply: Reply, tx?: Transaction): void {
    const { leg } = this;
    if (this.recorder.comm) {
      this.recorder.line("<-", reply.wire, {
        transactionId: tx?.id ?? "",
        leg: leg?.number ?? this.maker.count,
        tls: leg?.encrypted ?? false,
      });
    }
    // Whoever says 421 closes (RFC 5321 §4.2.3): nothing that was sent behind it will be answered.
    if (reply.code === 421) onceSent(slot, () => this.destinationCloses(reply));
    this.replies.fill(slot, reply.wire);
  }

  /** An EHLO reply that warp changed. */
  passChanged(slot: Slot, wire: Buffer): void {
    this.recorder.line("<|", wire, { leg: this.leg?.number ?? 0, origin: "warp" });
    this.replies.fill(slot, wire);
  }

  answer(slot: Slot, reply: OwnReply, tx?: Transaction): void {
    this.recorder.line("<|", reply.wire, {
      transactionId: tx?.id ?? "",
      leg: this.leg?.number ?? 0,
      origin: "warp",
    });
    this.env.telemetry.ownReply(reply.code, reply.reason);
    if (reply.closes) {
      // Replies to earlier commands go first; nothing that the client sent behind this one counts.
      this.holds++;
      onceSent(slot, () => this.close("warp", reply.reason));
    }
    this.replies.fill(slot, reply.wire);
  }

  answerChosen(slot: Slot, reply: ChosenReply, tx?: Transaction): void {
    this.recorder.line("<|", reply.wire, {
      transactionId: tx?.id ?? "",
      leg: this.leg?.number ?? 0,
      origin: reply.facts.origin,
    });
    this.replies.fill(slot, reply.wire);
  }

  ownFacts(reply: OwnReply): ReplyFacts {
    return {
      code: reply.code,
      enhancedCode: reply.enhancedCode,
      text: reply.wire.subarray(0, reply.wire.length - 2),
      origin: "warp",
      replyClass: "",
      latencyMs: undefined,
      hook: "",
    };
  }

  upstreamFacts(reply: Reply, latencyMs: number | undefined): ReplyFacts {
    const enhanced = enhancedCode(reply.wire);
    const text = reply.wire.subarray(0, reply.wire.length - 2);
    return {
      code: reply.code,
      enhancedCode: enhanced,
      text,
      origin: "upstream",
      replyClass: this.env.classify(reply.code, enhanced, text, this.provider),
      latencyMs,
      hook: "",
    };
  }

  private writeClient(wire: Buffer): void {
    if (this.clientClosed) return;
    this.octetsOut += wire.length;
    if (this.client.write(wire) || this.clientIsFull) return;
    this.clientIsFull = true;
    this.leg?.transport.pause();
    this.deadline.set(this.env.settings.timeouts.dataBlockMs);
  }

  private clientDrained(): void {
    if (!this.clientIsFull) return;
    this.clientIsFull = false;
    this.leg?.transport.resume();
    this.pump();
  }

  // -------------------------------------------------------------------------------------------- messages and records

  messageRead(): void {
    this.commands.messageRead();
  }

  /** A transaction was begun: the first one is the one of the connection's record. */
  began(tx: Transaction): void {
    this.transactions++;
    this.first ??= tx;
    if (this.leg !== undefined) this.leg.used = true;
  }

  report(tx: Transaction): void {
    if (this.body?.tx === tx) {
      this.body.left?.();
      this.body = undefined;
    }
    const record = tx.report(this.facts(), this.stages, tx === this.first ? this.connectedAt : undefined);
    if (record !== undefined) this.recorder.transaction(record);
    if (this.stage === "closing" && this.clientClosed) this.finish();
  }

  facts(): SessionFacts {
    return {
      connectionId: this.id,
      client: this.client.remote,
      destination: this.destination,
      helo: this.hello?.name ?? Buffer.alloc(0),
      esmtp: this.hello?.esmtp ?? false,
      downstreamTls: this.downstreamTls,
      upstreamTls: this.lastTls,
      authUser: this.authUser,
      route: this.route(),
      greeting: this.greetingText,
      provider: this.provider,
    };
  }

  private route(): RouteFacts {
    const { decision } = this;
    return {
      sourceIp: this.lastRoute?.sourceIp ?? "",
      pool: decision?.pool ?? "",
      rule: decision?.rule ?? "",
      tier: decision?.tier ?? "",
      pinned: this.pinned,
    };
  }

  logFields() {
    return {
      conn: this.id,
      client: this.client.remote.ip,
      dest: `${endpointText(this.destination.ip, this.destination.port)}`,
    };
  }

  // --------------------------------------------------------------------------------------------------------- the end

  get isServing(): boolean {
    return this.stage === "serving";
  }

  /** Dials a leg; given up where the client leaves meanwhile. Rejects with DialFailed. */
  async dial(decision: Decision, reason: LegReason): Promise<Leg> {
    const dialling = new GivingUp();
    this.dialling = dialling;
    try {
      return await this.maker.dial(decision, reason, dialling);
    } finally {
      this.dialling = undefined;
    }
  }

  /** The leg at hand, or the one before it where it is gone, was encrypted. */
  get upstreamEncrypted(): boolean {
    return this.lastTls?.encrypted === true;
  }

  /** No new transactions; an idle client is told at once. */
  drain(): void {
    this.draining = true;
    if (this.stage === "serving" && this.awaited === "command")
      this.awaitCommand(this.env.settings.timeouts.idleMs);
  }

  /** At once, whatever is going on: what is unfinished is reset on both sides. */
  kill(reason = "drain timeout"): void {
    if (this.stage === "closed") return;
    this.leg?.abort();
    this.dropLeg();
    this.client.reset();
    this.closedBy ||= "warp";
    this.closeReason ||= reason;
    this.finish();
  }

  /** An error of warp itself: this session ends, and the log says where it was. */
  defect(error: unknown): void {
    const fields = { ...this.logFields(), ...defectFields(error) };
    this.env.telemetry.log("error", "defect", "a defect of warp itself: this session ends", fields);
    this.kill("defect");
  }

  private finishWith(slot: Slot, reply: OwnReply, by = "warp"): void {
    this.closedBy ||= by;
    this.answer(slot, reply);
    if (!reply.closes) this.close(by, reply.reason);
  }

  /** The last reply was given: both sides close, the rest of the input is thrown away. */
  close(by: string, reason: string): void {
    if (this.stage === "closing" || this.stage === "closed") return;
    this.stage = "closing";
    this.closedBy ||= by;
    this.closeReason ||= reason;
    this.replies.abandon();
    const { leg } = this;
    if (leg !== undefined) {
      this.dropLeg();
      if (this.body !== undefined && !this.body.ended) leg.abort();
      else if (by === "warp") leg.quit(LINGER_MS);
      else leg.close();
    }
    this.commands.end();
    this.closeClient();
  }

  private closeClient(): void {
    if (this.clientClosed) return this.finish();
    if (this.reader.buffered === 0 && (this.closeReason === "quit" || this.clientEnded)) {
      this.client.close();
      return this.finish();
    }
    // Octets that nobody read would turn the close into a reset, which overtakes the reply: they are read and dropped.
    this.client.end();
    if (this.clientPaused) this.client.resume();
    this.deadline.stop();
    this.lingering = this.env.clock.after(LINGER_MS, () => this.client.destroy());
  }

  private finish(): void {
    if (this.stage === "closed") return;
    this.stage = "closed";
    this.deadline.stop();
    this.lingering?.cancel();
    this.dialling?.giveUp();
    const { leg, settingUp } = this;
    this.dropLeg();
    for (const open of [leg, settingUp]) if (open !== undefined && open.lost === undefined) open.close();
    this.commands.end();
    this.record();
    this.start.closed();
  }

  private record(): void {
    const { env, first } = this;
    const durationMs = env.clock.now() - this.startedAt;
    this.recorder.note("closed", "connections closed");
    this.recorder.emit({
      kind: "after_conn",
      at: env.clock.wall(),
      connectionId: this.id,
      session: this.facts(),
      mailFrom: first?.mailFrom,
      mailTo: first?.recipients.map((recipient): AddressFacts => recipient.address) ?? [],
      elapseMs: this.connectedAt === undefined ? -1 : (first?.elapseMs(this.connectedAt) ?? -2),
      transactions: this.transactions,
      legs: this.maker.count,
      octetsIn: this.octetsIn,
      octetsOut: this.octetsOut,
      durationMs,
      closedBy: this.closedBy || "client",
      closeReason: this.closeReason,
    });
    env.telemetry.octets("in", this.octetsIn);
    env.telemetry.octets("out", this.octetsOut);
    env.telemetry.sessionClosed(this.result, durationMs);
  }
}

/**
 * A refused command changes nothing (RFC 5321 §4.1.4): the destination would go on with a transaction that is over here, and
 * take a message for recipients that no filter and no rule is told of.
 */
function loseTransaction(leg: Leg, reply: Reply): void {
  leg.lose("unexpected_reply", `${reply.code} to the command that ends a transaction`);
}
