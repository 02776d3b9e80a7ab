/**
 * What each command of the client means on its way: passed on, answered by warp, or both. Transactions begin and end here.
 * The replies that warp makes are the table of docs/transparency.md.
 */
import { legFits } from "../egress/fit.ts";
import { judgeTls, type TlsVerdict } from "../egress/tls-policy.ts";
import type { AddressFacts } from "../events/events.ts";
import {
  parseCapabilities,
  rewriteEhloReply,
  WITHHELD_ALWAYS,
  WITHHELD_WITH_FILTER,
} from "../smtp/capabilities.ts";
import {
  type Command,
  mayBePipelined,
  parseBdat,
  parseCommand,
  REDACTED_LINE,
  redactAuth,
  type Verb,
} from "../smtp/command.ts";
import { CRLF } from "../smtp/octets.ts";
import { OWN } from "../smtp/own-replies.ts";
import { domainOf, type Path, parsePath } from "../smtp/path.ts";
import { firstLineText, formatReply, type Reply } from "../smtp/reply.ts";
import { AuthExchange } from "./auth-exchange.ts";
import { ChunkedBody } from "./chunked-body.ts";
import { HeldBody } from "./held-body.ts";
import type { ExpectationKind, Leg } from "./leg.ts";
import { LegLost } from "./leg.ts";
import { DialFailed } from "./leg-maker.ts";
import { LegReplacement, ReplayRefused } from "./leg-replacement.ts";
import type { Slot } from "./reply-queue.ts";
import type { Session } from "./session.ts";
import { StreamedBody } from "./streamed-body.ts";
import { Transaction } from "./transaction.ts";

/** Verbs that tell nothing of a mail or a login: they pass before a policy is met, too. (Octets of BDAT are swallowed.) */
const WITHOUT_CONTENT: ReadonlySet<Verb> = new Set<Verb>([
  "EHLO",
  "HELO",
  "STARTTLS",
  "RSET",
  "NOOP",
  "QUIT",
  "HELP",
  "BDAT",
]);

export class Commands {
  private readonly session: Session;
  private readonly replacement: LegReplacement;
  /** Octets for the leg that leave in one write at the end of the turn. */
  private out: Buffer[] = [];
  private tx: Transaction | undefined;
  /** The BDAT message at hand. */
  private chunked: ChunkedBody | HeldBody | undefined;
  private auth: AuthExchange | undefined;
  /** Time of the last RCPT's reply. */
  private lastRcptAt: number | undefined;
  /** Swallows a chunk that belongs to no message, then answers. */
  private refusedChunk: Slot | undefined;
  /** A chunk was refused: what comes behind it would be a message with a hole, until RSET, MAIL or EHLO. */
  private chunkRefused = false;
  /** STARTTLS of the client's: what it said before counts no more. */
  private needsHello = false;
  /** MAIL that warp answered itself, until the first recipient decides the route. */
  private heldMail: { readonly command: Command; readonly tx: Transaction } | undefined;

  constructor(session: Session) {
    this.session = session;
    this.replacement = new LegReplacement(session);
  }

  get inTransaction(): boolean {
    return this.tx !== undefined;
  }

  /** A line of the client, without CRLF. */
  line(line: Buffer): void {
    if (this.auth !== undefined) return this.authAnswer(line);
    const command = parseCommand(line);
    const { session } = this;
    // BDAT needs none to be refused, and its octets have to be swallowed.
    const needsLeg = command.verb !== "STARTTLS" && command.verb !== "BDAT";
    if (session.leg !== undefined || !needsLeg) return this.dispatch(command);
    // The leg before was reset with its message: this command gets a new one (QUIT needs none).
    if (command.verb === "QUIT") return this.quitWithoutLeg(command);
    if (session.pinned) return session.answer(session.open(), OWN.pinnedLegGone);
    this.renewLeg(command);
  }

  private quitWithoutLeg(command: Command): void {
    this.record(">|", command.line);
    const slot = this.session.open();
    slot.sent = () => this.session.close("client", "quit");
    this.session.answer(slot, OWN.goodbye);
  }

  private renewLeg(command: Command): void {
    const { session } = this;
    session.block();
    this.replacement
      .renew()
      .then(() => {
        if (!session.isServing) return;
        this.forgetLost();
        this.dispatch(command);
      })
      .catch((error: unknown) => this.replayFailed(session.open(), error))
      .finally(() => session.unblock());
  }

  /** The leg that had the transaction is gone, or the destination was told RSET: a MAIL begins another. */
  private forgetLost(): void {
    if (this.heldMail !== undefined) return; // no leg has that one yet
    const lost = this.leaveTransaction();
    if (lost !== undefined) this.session.report(lost);
  }

  private dispatch(command: Command): void {
    const { leg } = this.session;
    if (leg !== undefined && !leg.pipelining && leg.outstanding > 0) {
      // Only a leg that offered PIPELINING gets commands ahead of replies (RFC 2920 §3.1).
      return this.session.whenSettled(() => this.dispatch(command));
    }
    if (!WITHOUT_CONTENT.has(command.verb) && !this.mayCarryMail()) {
      return this.refuse(command, OWN.ehloFirst);
    }
    switch (command.verb) {
      case "EHLO":
      case "HELO":
        return this.helloCommand(command);
      case "STARTTLS":
        return this.starttls(command);
      case "MAIL":
        return this.mail(command);
      case "RCPT":
        return this.rcpt(command);
      case "DATA":
        return this.data(command);
      case "BDAT":
        return this.bdat(command);
      case "RSET":
        return this.rset(command);
      case "QUIT":
        return this.quit(command);
      case "AUTH":
        return this.authCommand(command);
      default:
        return this.other(command);
    }
  }

  /** False: EHLO has not been said, or was refused, so the leg is not what the policy of the destination asks. */
  private mayCarryMail(): boolean {
    const { leg, env, destination } = this.session;
    const { policy } = env.tls.rules.forDestination(destination.ip);
    if (policy === "none" || policy === "may") return true;
    return leg !== undefined && this.judgeDestination(leg).met;
  }

  // --------------------------------------------------------------------------------------------------- passing on

  /** Passes a command on as it came; `answered` looks at the reply, which then goes down. */
  private forward(
    command: Command,
    answered?: (reply: Reply, latencyMs: number, slot: Slot) => void,
    kind: ExpectationKind = "plain",
    timeoutMs = this.session.env.settings.timeouts.commandMs,
    tx = this.tx,
  ): void {
    const { session } = this;
    const leg = session.leg as Leg;
    const slot = session.open();
    const wait = !mayBePipelined(command.verb);
    const shown = command.verb === "AUTH" ? redactAuth(command) : command.line;
    this.record("->", shown, tx, shown !== command.line);
    this.out.push(command.line, CRLF);
    if (wait) session.block();
    leg.expect(
      (reply, latencyMs) => {
        answered?.(reply, latencyMs, slot);
        session.pass(slot, reply, tx);
        if (wait) session.unblock();
      },
      timeoutMs,
      kind,
    );
  }

  /** Writes what this turn passed on. */
  flush(): void {
    if (this.out.length === 0) return;
    const out = this.out;
    this.out = [];
    const { leg } = this.session;
    if (leg !== undefined && leg.lost === undefined && !leg.write(Buffer.concat(out))) this.session.legFull();
  }

  private record(direction: "->" | ">|", data: Buffer, tx?: Transaction, redacted = false): void {
    const { recorder, leg } = this.session;
    if (!recorder.comm) return;
    recorder.line(direction, data, {
      transactionId: tx?.id ?? "",
      leg: leg?.number ?? 0,
      tls: this.session.client.encrypted,
      redacted,
    });
  }

  private refuse(command: Command, reply: (typeof OWN)[keyof typeof OWN], tx?: Transaction): void {
    const shown = command.verb === "AUTH" ? redactAuth(command) : command.line;
    this.record(">|", shown, tx, shown !== command.line);
    this.session.answer(this.session.open(), reply, tx);
  }

  private other(command: Command): void {
    const { session } = this;
    if (this.withheld().has(command.word)) return this.refuse(command, OWN.notOffered);
    if (command.verb !== "OTHER") return this.forward(command);
    this.forward(command, (reply) => {
      // What a verb that warp doesn't know has done to the session cannot be repeated on another leg.
      if (reply.code < 400) session.pinned = true;
    });
  }

  private withheld(): ReadonlySet<string> {
    return this.session.env.chain.required ? WITHHELD_WITH_FILTER : WITHHELD_ALWAYS;
  }

  private rset(command: Command): void {
    const old = this.leaveTransaction();
    this.forward(command, () => old !== undefined && this.session.report(old), "plain", undefined, old);
  }

  private quit(command: Command): void {
    const old = this.leaveTransaction();
    const { session } = this;
    this.forward(command, (reply, _latencyMs, slot) => {
      if (old !== undefined) session.report(old);
      if (reply.code === 221) slot.sent = () => session.close("client", "quit");
    });
  }

  /** The transaction at hand is over for later commands; its record waits for the replies that are still to come. */
  private leaveTransaction(): Transaction | undefined {
    const old = this.tx;
    this.tx = undefined;
    this.chunked = undefined;
    this.chunkRefused = false;
    this.heldMail = undefined;
    this.lastRcptAt = undefined;
    return old;
  }

  /** The session ends: what is unfinished is on record. */
  end(): void {
    const old = this.leaveTransaction();
    if (old !== undefined) this.session.report(old);
    const { body } = this.session;
    if (body !== undefined) this.session.report(body.tx);
    this.replacement.end();
  }

  // -------------------------------------------------------------------------------------------------- EHLO and TLS

  private helloCommand(command: Command): void {
    const { session } = this;
    session.block();
    session.whenSettled(() => {
      const old = this.leaveTransaction();
      if (old !== undefined) session.report(old);
      const slot = session.open();
      session.hello = { esmtp: command.verb === "EHLO", name: command.argument, line: command.line };
      this.needsHello = false;
      this.introduce(slot)
        .catch((error: unknown) => this.helloFailed(slot, error))
        .finally(() => session.unblock());
    });
  }

  private async introduce(slot: Slot): Promise<void> {
    const { session } = this;
    const hello = session.hello as NonNullable<typeof session.hello>;
    const introduction = await this.replacement.introduceFirst(hello);
    if (!session.isServing) return;
    const leg = session.leg as Leg;
    session.legIntroduced(leg);
    const { reply } = introduction;
    if (reply.code >= 300) {
      session.shown = undefined;
      return session.pass(slot, reply);
    }
    const verdict = this.judgeDestination(leg);
    if (!verdict.met) {
      this.noteShortfall(verdict);
      return session.answer(slot, verdict.shortfall === "not_verified" ? OWN.notVerified : OWN.notEncrypted);
    }
    if (!hello.esmtp) return this.answerHelo(slot, introduction.esmtp, introduction.direct, reply);
    const wire = rewriteEhloReply(reply.wire, {
      withheld: this.withheld(),
      sizeLimit: session.env.settings.limits.messageOctets,
      starttls: session.env.tls.downstream() !== undefined && !session.client.encrypted,
    });
    session.shown = wire === reply.wire ? leg.capabilities : parseCapabilities(wire);
    if (wire === reply.wire && introduction.direct) return session.pass(slot, reply);
    if (introduction.direct) session.recorder.line("|<", reply.wire, { leg: leg.number, tls: leg.encrypted });
    session.passChanged(slot, wire);
  }

  /** HELO has a reply of one line, also where warp said EHLO upstream. */
  private answerHelo(slot: Slot, esmtp: boolean, direct: boolean, reply: Reply): void {
    this.session.shown = undefined;
    if (!esmtp && direct) return this.session.pass(slot, reply);
    this.session.passChanged(slot, formatReply(reply.code, "", firstLineText(reply.wire)));
  }

  private judgeDestination(leg: Leg): TlsVerdict {
    const { rules } = this.session.env.tls;
    return judgeTls(
      rules.forDestination(this.session.destination.ip),
      leg.tlsFacts,
      rules.privateAuthorities,
    );
  }

  private noteShortfall(verdict: TlsVerdict): void {
    const { session } = this;
    session.recorder.note("tls_policy_unmet", `tls policy unmet: ${verdict.reason}`);
    session.env.telemetry.log("warn", "tls_policy_unmet", verdict.reason, {
      ...session.logFields(),
      tls: session.leg?.tls?.version ?? "",
    });
  }

  private helloFailed(slot: Slot, error: unknown): void {
    const { session } = this;
    if (!session.isServing) return;
    const { rules } = session.env.tls;
    const required = rules.forDestination(session.destination.ip).policy;
    const insists = required === "encrypt" || required === "verify";
    if (error instanceof LegLost && insists && session.leg?.tlsBegun === true) {
      session.noteLoss(error);
      session.dropLostLeg();
      return session.answer(slot, OWN.notEncrypted);
    }
    this.replayFailed(slot, error);
  }

  /** A leg could not be had, or its destination refused what was replayed: the answer to the command at hand. */
  private replayFailed(slot: Slot, error: unknown): void {
    const { session } = this;
    if (!session.isServing) return; // nobody waits for it any more
    if (error instanceof ReplayRefused) {
      if (error.own !== undefined) return session.answer(slot, error.own);
      return session.pass(slot, error.reply as Reply);
    }
    if (error instanceof DialFailed) {
      session.env.telemetry.log("warn", "dial_failed", error.message, session.logFields(), error.cause);
      session.recorder.note("dial_failed", `dial failed: ${error.message}`);
      return session.answer(slot, error.kind === "no_source_ip" ? OWN.noUsableLeg : OWN.dialFailed);
    }
    if (error instanceof LegLost) {
      session.noteLoss(error);
      session.dropLostLeg();
      return session.answer(slot, OWN.legLost);
    }
    session.env.telemetry.log(
      "error",
      "session_failed",
      "a command failed in warp",
      session.logFields(),
      error,
    );
    session.dropLostLeg();
    session.answer(slot, OWN.legLost);
  }

  private starttls(command: Command): void {
    const { session } = this;
    const context = session.env.tls.downstream();
    if (context === undefined || session.client.encrypted) return this.refuse(command, OWN.notOffered);
    session.block();
    session.whenSettled(() => {
      this.record(">|", command.line);
      const slot = session.open();
      if (session.reader.buffered > 0) {
        // RFC 3207 §4.2: whoever put it there is not the one that TLS will speak with.
        session.env.telemetry.violation("downstream", "injected_plaintext");
        session.answer(slot, OWN.pipelinedStarttls);
        return session.unblock();
      }
      this.forgetPlaintext();
      slot.sent = () => this.acceptTls(context);
      session.answer(slot, OWN.readyForTls);
    });
  }

  /** What was said in plaintext counts no more (RFC 3207 §4.2), upstream neither. */
  private forgetPlaintext(): void {
    const { session } = this;
    const old = this.leaveTransaction();
    if (old !== undefined) {
      session.report(old);
      session.resetUpstream();
    }
    session.hello = undefined;
    session.shown = undefined;
    this.needsHello = true;
  }

  private acceptTls(context: NonNullable<ReturnType<Session["env"]["tls"]["downstream"]>>): void {
    const { session } = this;
    const { telemetry, clock, settings } = session.env;
    // The 220 leaves first: TLS takes the socket over behind it.
    queueMicrotask(() => {
      const timer = clock.after(settings.timeouts.tlsMs, () => session.client.reset());
      session.client
        .acceptTls(context)
        .then((facts) => {
          telemetry.tlsHandshake("downstream", "", facts.version, "ok");
          session.downstreamTls = {
            encrypted: true,
            ...facts,
            peerName: "",
            verified: false,
            reason: "",
            policy: "",
          };
          session.recorder.note("client_tls", `tls with client ${facts.version} ${facts.cipher}`, {
            tls: true,
          });
          session.unblock();
        })
        .catch((error: unknown) => {
          telemetry.tlsHandshake("downstream", "", "", "failed");
          telemetry.log("info", "client_tls_failed", (error as Error).message, session.logFields());
          session.close("warp", "tls handshake failed");
        })
        .finally(() => timer.cancel());
    });
  }

  // ------------------------------------------------------------------------------------------------------ envelope

  private mail(command: Command): void {
    const { session } = this;
    const { settings } = session.env;
    if (this.needsHello) return this.refuse(command, OWN.ehloFirst);
    const path = this.readPath(command, "FROM");
    const size = Number(path?.parameters.get("SIZE") ?? 0);
    if (size > settings.limits.messageOctets) return this.refuse(command, OWN.tooLarge);
    if (path?.parameters.get("BODY")?.toUpperCase() === "BINARYMIME")
      return this.refuse(command, OWN.notOfferedParameter);
    if (this.chunked?.isLost) this.forgetLost();
    // Whether this one begins a transaction depends on what became of the MAIL before it.
    if (this.tx !== undefined && this.tx.mailReply === undefined && this.heldMail === undefined) {
      return session.whenSettled(() => this.mail(command));
    }
    const { needs } = session.env.router;
    const tx = this.newTransaction(command, path);
    if (this.nested()) {
      // A leg that took it all the same would carry a sender that nobody routed.
      if (needs.sender || needs.recipient) return this.refuse(command, OWN.nestedMail);
      return this.forwardMail(command, tx);
    }
    const failed = this.leaveTransaction(); // its MAIL was refused: only its record was still open
    if (failed !== undefined) session.report(failed);
    if (needs.recipient && !session.pinned) return this.holdMail(command, tx);
    if (needs.sender) return this.routeMail(command, tx);
    this.tx = tx;
    this.forwardMail(command, tx);
  }

  /** MAIL within a transaction: upstream will refuse it (RFC 5321 §4.1.4), and the transaction goes on. */
  private nested(): boolean {
    return this.heldMail !== undefined || (this.tx?.mailReply !== undefined && this.tx.mailReply.code < 300);
  }

  private newTransaction(command: Command, path: Path | undefined): Transaction {
    const { env } = this.session;
    const body = path?.parameters.get("BODY")?.toUpperCase();
    const address: AddressFacts = path ?? { address: "", raw: command.argument };
    return new Transaction(
      env.newId(),
      { address: address.address, raw: address.raw },
      { smtputf8: path?.parameters.has("SMTPUTF8") ?? false, eightBit: body === "8BITMIME" },
      env.clock.now(),
    );
  }

  private readPath(command: Command, word: "FROM" | "TO"): Path | undefined {
    const path = parsePath(command.argument, word);
    const { session } = this;
    if (path !== undefined && !path.spacing && !oddSpacing(command)) return path;
    session.env.telemetry.violation("downstream", "bad_path");
    const shown = command.line.toString("latin1").slice(0, 512);
    const what = path === undefined ? "no path" : "spaces not permitted around colon";
    session.recorder.note("rfc5321_violation", `RFC 5321 violation: "${shown}" (${what})`);
    return path;
  }

  private forwardMail(command: Command, tx: Transaction): void {
    const { session } = this;
    if (this.tx === tx) session.began(tx);
    this.forward(
      command,
      (reply, latencyMs) => {
        tx.mailMs = latencyMs;
        tx.mailReply = session.upstreamFacts(reply, latencyMs);
        if (this.tx === tx || reply.code >= 300) return;
        // Taken although a transaction was open: it is the one at hand now.
        const old = this.leaveTransaction();
        if (old !== undefined) session.report(old);
        this.tx = tx;
        session.began(tx);
      },
      "plain",
      undefined,
      tx,
    );
  }

  private routeMail(command: Command, tx: Transaction): void {
    const { session } = this;
    session.block();
    this.routed(tx, undefined)
      .then((refusal) => {
        if (refusal !== undefined) return this.refuseRoute(command, tx, refusal);
        this.tx = tx;
        this.forwardMail(command, tx);
      })
      .catch((error: unknown) => this.routeFailed(command, tx, error))
      .finally(() => session.unblock());
  }

  /** Decides the source IP for the transaction and brings its leg about. A reply: the rule refuses. */
  private async routed(tx: Transaction, recipient: AddressFacts | undefined) {
    const { session } = this;
    const decision = await session.env.router.forTransaction({
      client: session.client.remote,
      destination: session.destination,
      transactionId: tx.id,
      session: session.facts(),
      mailFrom: tx.mailFrom,
      recipient,
      authUser: session.authUser,
      ownLegs: this.replacement.ownIps,
    });
    this.stillServing();
    if (decision.kind === "reply") return decision.reply;
    const leg = session.leg;
    if (
      !session.pinned &&
      (decision.kind === "none" || leg === undefined || !legFits(decision, leg.origin))
    ) {
      // Replies of the leg before, to what was pipelined ahead of this, have to come before it is left.
      await new Promise<void>((resolve) => session.whenSettled(resolve));
      await this.replacement.route(decision, declaredSize(tx));
      this.stillServing();
    }
    session.decision = decision;
    session.env.router.used(session.client.remote, session.destination, decision);
    return undefined;
  }

  /** The client, or the leg, may have gone while the decision or another leg was waited for. */
  private stillServing(): void {
    if (!this.session.isServing) throw new DialFailed("aborted", "the session ended meanwhile");
  }

  private refuseRoute(command: Command, tx: Transaction, reply: RouteRefusal): void {
    const { session } = this;
    const wire = formatReply(reply.code, reply.enhancedCode, reply.text);
    const facts = {
      code: reply.code,
      enhancedCode: reply.enhancedCode,
      text: wire.subarray(0, wire.length - 2),
      origin: reply.origin,
      replyClass: "",
      latencyMs: undefined,
      hook: reply.hook,
    };
    this.record(">|", command.line, tx);
    session.began(tx);
    tx.finalReply = facts;
    session.answerVerdict(session.open(), wire, tx);
    session.report(tx);
  }

  private routeFailed(command: Command, tx: Transaction, error: unknown): void {
    if (!this.session.isServing) return;
    this.record(">|", command.line, tx);
    this.replayFailed(this.session.open(), error);
  }

  /** The route waits for the first recipient: warp takes MAIL itself, and sends it with that one. */
  private holdMail(command: Command, tx: Transaction): void {
    this.tx = tx;
    this.heldMail = { command, tx };
    this.session.began(tx);
    this.refuse(command, OWN.mailHeld, tx);
  }

  private rcpt(command: Command): void {
    const path = this.readPath(command, "TO");
    const address: AddressFacts = path ?? { address: "", raw: command.argument };
    if (this.heldMail !== undefined)
      return this.routeHeldMail(command, { address: address.address, raw: address.raw });
    this.forwardRcpt(command, { address: address.address, raw: address.raw });
  }

  private routeHeldMail(command: Command, address: AddressFacts): void {
    const { session } = this;
    const held = this.heldMail as NonNullable<typeof this.heldMail>;
    session.block();
    this.sendHeldMail(held, address)
      .then((refusal) => {
        if (refusal === undefined) return this.forwardRcpt(command, address);
        this.record(">|", command.line, held.tx);
        held.tx.addRecipient(address, session.env.settings.limits.recipientsRecorded).reply = refusal.facts;
        session.answerVerdict(session.open(), refusal.wire, held.tx);
      })
      .catch((error: unknown) => {
        if (!session.isServing) return;
        const record = held.tx.addRecipient(address, session.env.settings.limits.recipientsRecorded);
        if (error instanceof ReplayRefused) {
          record.reply =
            error.own === undefined
              ? session.upstreamFacts(error.reply as Reply, undefined)
              : session.ownFacts(error.own);
        }
        this.routeFailed(command, held.tx, error);
      })
      .finally(() => session.unblock());
  }

  /** A refusal: of the rule, or of upstream's to the MAIL that was held; it becomes the reply to RCPT. */
  private async sendHeldMail(held: { command: Command; tx: Transaction }, address: AddressFacts) {
    const { session } = this;
    const { tx, command } = held;
    const refusal = await this.routed(tx, address);
    if (refusal !== undefined) {
      const wire = formatReply(refusal.code, refusal.enhancedCode, refusal.text);
      const { code, enhancedCode, origin, hook } = refusal;
      return {
        wire,
        facts: { code, enhancedCode, text: wire, origin, replyClass: "", latencyMs: undefined, hook },
      };
    }
    const startedAt = session.env.clock.now();
    const reply = await session.maker.say(
      session.leg as Leg,
      command.line,
      session.env.settings.timeouts.commandMs,
      { line: "|>", reply: "|<" },
    );
    tx.mailMs = session.env.clock.now() - startedAt;
    const facts = session.upstreamFacts(reply, tx.mailMs);
    if (reply.code >= 300) return { wire: reply.wire, facts };
    tx.mailReply = facts;
    this.heldMail = undefined;
    return undefined;
  }

  private forwardRcpt(command: Command, address: AddressFacts): void {
    const { session, tx } = this;
    const record = tx?.addRecipient(address, session.env.settings.limits.recipientsRecorded);
    const verdict = this.judgeRecipient(address.address);
    if (verdict !== undefined && !verdict.met) {
      this.noteShortfall(verdict);
      const own = verdict.shortfall === "not_verified" ? OWN.recipientNotVerified : OWN.recipientNotEncrypted;
      if (record !== undefined) record.reply = session.ownFacts(own);
      return this.refuse(command, own, tx);
    }
    if (tx === undefined || record === undefined) return this.forward(command);
    this.forward(command, (reply, latencyMs) => {
      record.reply = session.upstreamFacts(reply, latencyMs);
      if (reply.code < 300) tx.accepted++;
      tx.rcptMs = Math.max(tx.rcptMs ?? 0, latencyMs);
      this.lastRcptAt = session.env.clock.now();
    });
  }

  private judgeRecipient(address: string): TlsVerdict | undefined {
    const { session } = this;
    const { rules } = session.env.tls;
    const required = rules.forRecipient(session.destination.ip, domainOf(address));
    if (required === undefined || session.leg === undefined) return undefined;
    return judgeTls(required, session.leg.tlsFacts, rules.privateAuthorities);
  }

  // ------------------------------------------------------------------------------------------------------- message

  private data(command: Command): void {
    const { session } = this;
    if (this.chunked !== undefined) return this.refuse(command, OWN.bdatOutOfOrder);
    if (!session.env.chain.required) return this.forwardData(command);
    session.block();
    session.whenSettled(() => {
      // Replies are known now: only a message that somebody may get is worth holding.
      if ((this.tx?.accepted ?? 0) > 0) this.holdData(command);
      else this.forwardData(command, true);
      session.unblock();
    });
  }

  private forwardData(command: Command, hold = false): void {
    const { session } = this;
    const tx = this.tx ?? this.newTransaction(command, undefined);
    this.forward(
      command,
      (reply, latencyMs) => {
        tx.dataMs = latencyMs;
        tx.dataReply = session.upstreamFacts(reply, latencyMs);
        if (reply.code !== 354) return;
        tx.dataAt = session.env.clock.now();
        session.reader.expectData();
        session.body = hold
          ? new HeldBody(session, tx, "data_waiting")
          : new StreamedBody(session, tx, session.leg as Leg);
      },
      "data",
      session.env.settings.timeouts.dataStartMs,
      tx,
    );
  }

  private holdData(command: Command): void {
    const { session } = this;
    const tx = this.tx as Transaction;
    this.record(">|", command.line, tx);
    session.answer(session.open(), OWN.startMessage, tx);
    session.reader.expectData();
    session.body = new HeldBody(session, tx, "data");
  }

  private bdat(command: Command): void {
    const { session } = this;
    const argument = parseBdat(command.argument);
    if (argument === undefined) return this.refuse(command, OWN.badBdat);
    const continues = this.chunked !== undefined;
    const begin = (): void => {
      this.record(session.env.chain.required ? ">|" : "->", command.line, this.tx);
      this.flush(); // a chunk's octets go out at once, behind what was said before
      session.reader.expectChunk(argument.octets);
      const slot = session.open();
      if (!this.chunkRefused) this.chunked ??= this.newChunked();
      if (this.chunked === undefined) {
        this.chunkRefused = true;
        this.refusedChunk = slot;
        return;
      }
      this.chunked.begin(slot, argument.last);
      session.body = this.chunked;
    };
    if (continues) return begin();
    session.block();
    session.whenSettled(() => {
      begin();
      session.unblock();
    });
  }

  /** A message by BDAT; undefined where none can be: no recipient, or a leg that would not know the octets for data. */
  private newChunked(): ChunkedBody | HeldBody | undefined {
    const { session, tx } = this;
    const { leg } = session;
    if (tx === undefined || tx.accepted === 0 || leg === undefined) return undefined;
    tx.bdat = true;
    if (session.env.chain.required) return new HeldBody(session, tx, "bdat");
    if (!leg.capabilities.has("CHUNKING")) return undefined;
    tx.dataAt = this.lastRcptAt;
    return new ChunkedBody(session, tx, leg);
  }

  /** Octets of a chunk. */
  chunk(octets: Buffer, end: boolean): void {
    if (this.refusedChunk === undefined) return this.chunked?.take([octets], end);
    if (!end) return;
    const slot = this.refusedChunk;
    this.refusedChunk = undefined;
    this.session.answer(slot, OWN.bdatOutOfOrder, this.tx);
  }

  /** The whole message was read: later commands belong to the next transaction. */
  messageRead(): void {
    this.leaveTransaction();
  }

  // ---------------------------------------------------------------------------------------------------------- AUTH

  private authCommand(command: Command): void {
    const exchange = new AuthExchange(command);
    this.forward(command, (reply) => this.authReplied(exchange, reply), "auth");
  }

  /** A line of the exchange: it is the client's secret (RFC 4954), passed on and shown to nobody. */
  private authAnswer(line: Buffer): void {
    const { session } = this;
    const exchange = this.auth as AuthExchange;
    if (session.leg === undefined) return session.answer(session.open(), OWN.pinnedLegGone);
    this.auth = undefined;
    session.reader.expectCommand();
    exchange.answered(line);
    this.record("->", REDACTED_LINE, undefined, true);
    const slot = session.open();
    this.out.push(line, CRLF);
    session.block();
    session.leg.expect(
      (reply) => {
        this.authReplied(exchange, reply);
        session.pass(slot, reply);
        session.unblock();
      },
      session.env.settings.timeouts.commandMs,
      "auth",
    );
  }

  /** A line of the exchange was refused by warp: upstream, too, has to know that there is none (RFC 4954 §4). */
  cancelAuth(): void {
    const { session } = this;
    if (this.auth === undefined) return;
    this.auth = undefined;
    session.reader.expectCommand();
    const leg = session.leg;
    if (leg === undefined) return;
    leg.expect((reply) => {
      if (reply.code === 334) leg.lose("unexpected_reply", "334 to a cancelled AUTH");
    }, session.env.settings.timeouts.commandMs);
    this.out.push(Buffer.from("*\r\n"));
  }

  private authReplied(exchange: AuthExchange, reply: Reply): void {
    const { session } = this;
    if (reply.code < 400) session.pinned = true;
    if (reply.code === 334) {
      this.auth = exchange;
      session.reader.expectExchange();
    } else if (reply.code < 300) session.authUser = exchange.user;
  }
}

interface RouteRefusal {
  readonly code: number;
  readonly enhancedCode: string;
  readonly text: string;
  readonly origin: "warp" | "hook";
  readonly hook: string;
}

/** Blanks between MAIL and FROM beyond the one that the grammar has. */
function oddSpacing(command: Command): boolean {
  return command.line.length - command.argument.length !== 5;
}

function declaredSize(tx: Transaction): number {
  const size = /(?:^|[ \t])SIZE=(\d{1,15})/i.exec(tx.mailFrom.raw.toString("latin1"))?.[1];
  return size === undefined ? 0 : Number(size);
}
