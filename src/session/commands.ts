/**
 * What each command of the client means on its way: passed on, answered by warp, or both. Transactions begin and end here.
 * The replies that warp makes are the table of docs/transparency.md.
 */
import type { Decision, RouteReply } from "../egress/contract.ts";
import { legFits } from "../egress/fit.ts";
import { judgeTls, type TlsVerdict } from "../egress/tls-policy.ts";
import type { AddressFacts, ReplyFacts, RouteFacts } from "../events/events.ts";
import { type Command, parseBdat, parseCommand, type Verb } from "../smtp/command.ts";
import { OWN } from "../smtp/own-replies.ts";
import { declaredSize, domainOf, type Path, parsePath } from "../smtp/path.ts";
import type { Reply } from "../smtp/reply.ts";
import { chosenReply } from "./chosen-reply.ts";
import { ChunkedBody } from "./chunked-body.ts";
import { Greeting } from "./greeting.ts";
import { HeldBody } from "./held-body.ts";
import type { ExpectationKind, Leg } from "./leg.ts";
import { DialFailed } from "./leg-dialer.ts";
import { LegReplacement, ReplayRefused } from "./leg-replacement.ts";
import { Login } from "./login.ts";
import { PassingOn } from "./passing-on.ts";
import { onceSent, type Slot } from "./reply-queue.ts";
import type { Session } from "./session.ts";
import { StreamedBody } from "./streamed-body.ts";
import { type RecipientRecord, Transaction } from "./transaction.ts";

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

/**
 * Of MAIL and RCPT, with CRLF: more than RFC 5321 §4.5.3.1.4 and all extensions ask for. Of a longer line servers may take
 * the begin for the whole (Postfix cuts at 2,048 octets), and with it another address.
 */
const MAX_ENVELOPE_LINE = 2048;

export class Commands {
  private readonly session: Session;
  private readonly replacement: LegReplacement;
  private readonly up: PassingOn;
  private readonly greeting: Greeting;
  private readonly login: Login;
  private tx: Transaction | undefined;
  /** Those that a RSET or QUIT has ended which has no reply yet, the oldest first. */
  private readonly ending = new Set<Transaction>();
  /** The BDAT message at hand. */
  private chunked: ChunkedBody | HeldBody | undefined;
  /** Time of the last RCPT's reply. */
  private lastRcptAt: number | undefined;
  /** Swallows a chunk that belongs to no message, then answers. */
  private refusedChunk: Slot | undefined;
  /** A chunk was refused: what comes behind it would be a message with a hole, until RSET, MAIL or EHLO. */
  private chunkRefused = false;
  /** MAIL that warp answered itself, until the first recipient decides the route. */
  private heldMail: { readonly command: Command; readonly tx: Transaction } | undefined;

  constructor(session: Session) {
    this.session = session;
    this.replacement = new LegReplacement(session);
    this.up = new PassingOn(session);
    this.greeting = new Greeting(session, this.up, this.replacement, () => this.leaveTransaction());
    this.login = new Login(session, this.up);
  }

  get inTransaction(): boolean {
    return this.tx !== undefined;
  }

  /** A line of the client, with its CRLF. */
  line(wire: Buffer): void {
    if (this.login.awaitsAnswer) return this.login.answer(wire.subarray(0, wire.length - 2));
    const command = parseCommand(wire);
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
    this.up.record(">|", command.line);
    const slot = this.session.open();
    onceSent(slot, () => this.session.close("client", "quit"));
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
      .catch((error: unknown) => this.greeting.replayFailed(session.open(), error))
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
    if (command.verb !== "OTHER") this.up.secretsMayFollow = command.verb === "AUTH";
    if (leg !== undefined && !leg.pipelining && leg.outstanding > 0) {
      // Only a leg that offered PIPELINING gets commands ahead of replies (RFC 2920 §3.1).
      return this.session.whenSettled(() => this.dispatch(command));
    }
    if (!WITHOUT_CONTENT.has(command.verb) && !this.greeting.mayCarryMail()) {
      return this.up.refuse(command, OWN.ehloFirst);
    }
    const { verb, wire } = command;
    if ((verb === "MAIL" || verb === "RCPT") && wire.length > MAX_ENVELOPE_LINE) {
      this.session.env.telemetry.violation("downstream", "line_too_long");
      return this.up.refuse(command, OWN.envelopeLineTooLong, this.tx);
    }
    switch (verb) {
      case "EHLO":
      case "HELO":
        return this.greeting.hello(command);
      case "STARTTLS":
        return this.greeting.starttls(command);
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
        return this.login.begin(command);
      default:
        return this.other(command);
    }
  }

  private other(command: Command): void {
    const { session } = this;
    if (this.greeting.withheld.has(command.word)) return this.up.refuse(command, OWN.notOffered);
    if (command.verb !== "OTHER") return this.forward(command);
    this.forward(command, (reply) => {
      // What a verb that warp doesn't know has done to the session cannot be repeated on another leg.
      if (reply.code < 400) session.pinned = true;
    });
  }

  /** Passes a command on; `tx`: the transaction that it belongs to. */
  private forward(
    command: Command,
    answered?: (reply: Reply, latencyMs: number, slot: Slot) => void,
    kind?: ExpectationKind,
    timeoutMs?: number,
    tx = this.tx,
  ): void {
    this.up.forward(command, tx, answered, kind, timeoutMs);
  }

  /** A line of a login was refused. */
  cancelAuth(): void {
    this.login.cancel();
  }

  private rset(command: Command): void {
    const old = this.leaveWithReply();
    this.forward(
      command,
      (reply, _latencyMs, slot) => this.endAnswered(old, reply, slot),
      undefined,
      undefined,
      old,
    );
  }

  private quit(command: Command): void {
    const old = this.leaveWithReply();
    const { session } = this;
    this.forward(command, (reply, _latencyMs, slot) => {
      this.endAnswered(old, reply, slot);
      // RFC 5321 §4.1.1.10 says 221; a destination that says 250 closes as well.
      if (reply.code < 300) onceSent(slot, () => session.close("client", "quit"));
    });
  }

  /** The transaction at hand is over once the command that ends it is answered, or can be no more. */
  private leaveWithReply(): Transaction | undefined {
    const old = this.leaveTransaction();
    if (old !== undefined) this.ending.add(old);
    return old;
  }

  private endAnswered(old: Transaction | undefined, reply: Reply, slot: Slot): void {
    if (old === undefined) return;
    this.ending.delete(old);
    this.session.ended(old, reply, slot);
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
    for (const old of this.ending) this.session.report(old);
    this.ending.clear();
    const old = this.leaveTransaction();
    if (old !== undefined) this.session.report(old);
    const { body } = this.session;
    // A 421 ends the session while it is passed on: it is an answer all the same.
    if (body?.isDue === true && body.tx.finalReply === undefined) body.tx.outcome ??= "unknown";
    if (body !== undefined) this.session.report(body.tx);
    this.replacement.end();
  }

  // ------------------------------------------------------------------------------------------------------ envelope

  private mail(command: Command): void {
    const { session } = this;
    const { settings } = session.env;
    if (this.greeting.needsHello) return this.up.refuse(command, OWN.ehloFirst);
    const path = this.readPath(command, "FROM");
    if (declaredSize(path.parameters) > settings.limits.messageOctets)
      return this.up.refuse(command, OWN.tooLarge);
    if (path.parameters.get("BODY")?.toUpperCase() === "BINARYMIME" || path.parameters.has("PRDR"))
      return this.up.refuse(command, OWN.notOfferedParameter);
    if (this.chunked?.isLost) this.forgetLost();
    // Whether this one begins a transaction depends on what became of the MAIL before it.
    if (this.tx !== undefined && this.tx.mailReply === undefined && this.heldMail === undefined) {
      return session.whenSettled(() => this.mail(command));
    }
    const { needs } = session.env.router;
    const tx = this.newTransaction(path);
    if (this.nested()) {
      // A leg that took it all the same would carry a sender that nobody routed.
      if (needs.sender || needs.recipient) return this.up.refuse(command, OWN.nestedMail);
      return this.forwardMail(command, tx);
    }
    const failed = this.leaveTransaction(); // its MAIL was refused: only its record was still open
    if (failed !== undefined) session.report(failed);
    if (needs.recipient) return this.holdMail(command, tx);
    if (needs.sender) return this.routeMail(command, tx);
    this.tx = tx;
    this.forwardMail(command, tx);
  }

  /** MAIL within a transaction: upstream will refuse it (RFC 5321 §4.1.4), and the transaction goes on. */
  private nested(): boolean {
    return this.heldMail !== undefined || this.tx?.isOpenUpstream === true;
  }

  private newTransaction(path: Path): Transaction {
    const { env } = this.session;
    return new Transaction(
      env.newId(),
      addressOf(path),
      {
        declaredOctets: declaredSize(path.parameters),
        smtputf8: path.parameters.has("SMTPUTF8"),
        eightBit: path.parameters.get("BODY")?.toUpperCase() === "8BITMIME",
      },
      env.clock.now(),
    );
  }

  private readPath(command: Command, word: "FROM" | "TO"): Path {
    const path = parsePath(command.argument, word);
    const { session } = this;
    if (!path.unreadable && !path.spacing && !oddSpacing(command)) return path;
    session.env.telemetry.violation("downstream", "bad_path");
    const shown = command.line.toString("latin1").slice(0, 512);
    const what = path.unreadable ? "no path" : "spaces not permitted around colon";
    session.recorder.note("rfc5321_violation", `RFC 5321 violation: "${shown}" (${what})`);
    return path;
  }

  private forwardMail(command: Command, tx: Transaction): void {
    const { session } = this;
    const isNested = this.tx !== tx;
    // Whose recipients follow is only known with the reply.
    if (isNested) session.block();
    else session.began(tx);
    this.forward(
      command,
      (reply, latencyMs) => {
        tx.mailMs = latencyMs;
        tx.mailReply = session.upstreamFacts(reply, latencyMs);
        if (!isNested) return;
        if (tx.isOpenUpstream) this.replaceTransaction(tx);
        session.unblock();
      },
      "plain",
      undefined,
      tx,
    );
  }

  /** Taken although a transaction was open: it is the one at hand now. */
  private replaceTransaction(tx: Transaction): void {
    const { session } = this;
    const old = this.leaveTransaction();
    if (old !== undefined) session.report(old);
    this.tx = tx;
    session.began(tx);
  }

  private routeMail(command: Command, tx: Transaction): void {
    const { session } = this;
    const decision = this.decide(tx, undefined);
    // Nearly always both are at hand: the decision, and a leg that fits it.
    if (!(decision instanceof Promise) && this.legServes(decision)) {
      this.adopt(decision);
      this.tx = tx;
      return this.forwardMail(command, tx);
    }
    session.block();
    this.carryOut(decision, tx)
      .then((refusal) => {
        if (refusal !== undefined) return this.refuseRoute(command, tx, refusal);
        this.tx = tx;
        this.forwardMail(command, tx);
      })
      .catch((error: unknown) => this.routeFailed(command, tx, error))
      .finally(() => session.unblock());
  }

  /** The source IP for the transaction. */
  private decide(tx: Transaction, recipient: AddressFacts | undefined): Decision | Promise<Decision> {
    const { session } = this;
    return session.env.router.forTransaction({
      client: session.client.remote,
      destination: session.destination,
      transactionId: tx.id,
      session: () => session.facts(),
      mailFrom: tx.mailFrom,
      recipient,
      authUser: session.authUser,
      ownLegs: this.replacement.ownIps,
    });
  }

  /** Brings about the leg that was decided on. A reply: the rule refuses. */
  private async carryOut(
    awaited: Decision | Promise<Decision>,
    tx: Transaction,
  ): Promise<RouteReply | undefined> {
    const { session } = this;
    const decision = await awaited;
    this.stillServing();
    const { rule, pool, tier } = decision;
    const route: RouteFacts = { sourceIp: "", pool, rule, tier, pinned: session.pinned };
    // Unless a leg is had for it, this is what the transaction came to nothing with.
    tx.route = route;
    if (decision.kind === "reply") return decision.reply;
    if (!this.legServes(decision)) {
      // Replies of the leg before, to what was pipelined ahead of this, have to come before it is left.
      await new Promise<void>((resolve) => session.whenSettled(resolve));
      await this.replacement.route(decision, tx.declaredOctets).catch((error: unknown) => {
        if (error instanceof ReplayRefused) tx.route = { ...route, sourceIp: error.sourceIp };
        throw error;
      });
      this.stillServing();
    }
    this.adopt(decision);
    tx.route = undefined;
    return undefined;
  }

  private legServes(decision: Decision): boolean {
    const { pinned, leg } = this.session;
    if (decision.kind === "reply") return false;
    return pinned || (decision.kind !== "none" && leg !== undefined && legFits(decision, leg.origin));
  }

  private adopt(decision: Decision): void {
    const { session } = this;
    const { pinned, leg, decision: before } = session;
    session.env.router.used(session.client.remote, session.destination, decision);
    // A pinned leg stays where another rule put it: that is how its IP was chosen.
    const stays =
      pinned && (decision.kind === "none" || (leg !== undefined && !legFits(decision, leg.origin)));
    session.decision = stays && before !== undefined ? { ...before, tier: decision.tier } : decision;
  }

  /** The client, or the leg, may have gone while the decision or another leg was waited for. */
  private stillServing(): void {
    if (!this.session.isServing) throw new DialFailed("aborted", "the session ended meanwhile");
  }

  private refuseRoute(command: Command, tx: Transaction, reply: RouteReply): void {
    const { session } = this;
    const chosen = chosenReply(reply);
    this.up.record(">|", command.line, tx);
    session.began(tx);
    tx.finalReply = chosen.facts;
    session.answerChosen(session.open(), chosen, tx);
    session.report(tx);
  }

  private routeFailed(command: Command, tx: Transaction, error: unknown): void {
    const { session } = this;
    if (!session.isServing) return;
    this.up.record(">|", command.line, tx);
    session.began(tx);
    this.greeting.replayFailed(session.open(), error, tx, (answer) => {
      tx.finalReply = answer;
      session.report(tx);
    });
  }

  /** The route waits for the first recipient: warp takes MAIL itself, and sends it with that one. */
  private holdMail(command: Command, tx: Transaction): void {
    this.tx = tx;
    this.heldMail = { command, tx };
    this.session.began(tx);
    this.up.refuse(command, OWN.mailHeld, tx);
  }

  private rcpt(command: Command): void {
    // The destination, which has not seen a chunk yet, would take a recipient that no filter sees.
    if (this.chunked instanceof HeldBody) return this.up.refuse(command, OWN.bdatOutOfOrder, this.tx);
    const address = addressOf(this.readPath(command, "TO"));
    if (this.heldMail !== undefined) return this.routeHeldMail(command, address);
    this.forwardRcpt(command, address);
  }

  private routeHeldMail(command: Command, address: AddressFacts): void {
    const { session } = this;
    const held = this.heldMail as NonNullable<typeof this.heldMail>;
    const record = this.addRecipient(held.tx, address);
    session.block();
    this.sendHeldMail(held, address)
      .then((refusal) => {
        if (refusal === undefined) return this.forwardRcpt(command, address, record);
        this.up.record(">|", command.line, held.tx);
        const chosen = chosenReply(refusal);
        held.tx.replied(record, chosen.facts);
        session.answerChosen(session.open(), chosen, held.tx);
      })
      .catch((error: unknown) => {
        if (!session.isServing) return;
        this.up.record(">|", command.line, held.tx);
        this.greeting.replayFailed(session.open(), error, held.tx, (answer) => {
          held.tx.replied(record, answer);
        });
      })
      .finally(() => session.unblock());
  }

  /** What the rule refuses with. Rejects with ReplayRefused where upstream refuses the MAIL that was held: RCPT is told. */
  private async sendHeldMail(
    held: { command: Command; tx: Transaction },
    address: AddressFacts,
  ): Promise<RouteReply | undefined> {
    const { session } = this;
    const { tx, command } = held;
    const refusal = await this.carryOut(this.decide(tx, address), tx);
    if (refusal !== undefined) return refusal;
    const startedAt = session.env.clock.now();
    const reply = await session.maker.say(
      session.leg as Leg,
      command.line,
      session.env.settings.timeouts.commandMs,
      { line: "|>", reply: "|<", transactionId: tx.id },
    );
    tx.mailMs = session.env.clock.now() - startedAt;
    if (reply.code >= 300) throw new ReplayRefused({ reply });
    tx.mailReply = session.upstreamFacts(reply, tx.mailMs);
    this.heldMail = undefined;
    return undefined;
  }

  private addRecipient(tx: Transaction, address: AddressFacts): RecipientRecord {
    return tx.addRecipient(address, this.session.env.settings.limits.recipientsRecorded);
  }

  private forwardRcpt(
    command: Command,
    address: AddressFacts,
    record = this.tx && this.addRecipient(this.tx, address),
  ): void {
    const { session, tx } = this;
    const verdict = this.judgeRecipient(address.address);
    if (verdict !== undefined && !verdict.met) {
      this.greeting.noteShortfall(verdict);
      const own = verdict.shortfall === "not_verified" ? OWN.recipientNotVerified : OWN.recipientNotEncrypted;
      if (record !== undefined) tx?.replied(record, session.ownFacts(own));
      return this.up.refuse(command, own, tx);
    }
    if (tx === undefined || record === undefined) return this.forward(command);
    const reserved = tx.reserve(address);
    if (!reserved && session.env.chain.required) {
      tx.replied(record, session.ownFacts(OWN.tooManyRecipients));
      return this.up.refuse(command, OWN.tooManyRecipients, tx);
    }
    this.forward(command, (reply, latencyMs) => {
      tx.replied(record, session.upstreamFacts(reply, latencyMs));
      tx.answered(address, reply.code < 300, reserved);
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
    if (this.chunked !== undefined) return this.up.refuse(command, OWN.bdatOutOfOrder);
    // No leg has its MAIL: upstream, DATA would belong to nothing, or to something else.
    if (this.heldMail !== undefined) return this.up.refuse(command, OWN.noRecipient, this.tx);
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
    const tx = this.tx ?? this.newTransaction(parsePath(command.argument, "FROM"));
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
    this.up.record(">|", command.line, tx);
    session.answer(session.open(), OWN.startMessage, tx);
    session.reader.expectData();
    session.body = new HeldBody(session, tx, "data");
  }

  private bdat(command: Command): void {
    const { session } = this;
    const argument = parseBdat(command.argument);
    if (argument === undefined) return this.up.refuse(command, OWN.badBdat);
    const continues = this.chunked !== undefined;
    const begin = (): void => {
      if (!this.chunkRefused) this.chunked ??= this.newChunked();
      const passesOn = this.chunked !== undefined && !session.env.chain.required;
      this.up.record(passesOn ? "->" : ">|", command.line, this.tx);
      session.reader.expectChunk(argument.octets);
      const slot = session.open();
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
    if (session.env.chain.required) return new HeldBody(session, tx, "bdat", this.lastRcptAt);
    if (!leg.capabilities.has("CHUNKING")) return undefined;
    tx.dataAt = this.lastRcptAt;
    return new ChunkedBody(session, tx, leg);
  }

  /** The leg is lost, and the client told `reply`: the transaction at hand comes to nothing with it. */
  legLost(reply: ReplyFacts): void {
    this.tx?.legLost(reply);
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
}

/** Blanks between MAIL and FROM beyond the one that the grammar has. */
function oddSpacing(command: Command): boolean {
  return command.line.length - command.argument.length !== 5;
}

function addressOf({ address, raw, unreadable }: Path): AddressFacts {
  return { address, raw, unreadable };
}
