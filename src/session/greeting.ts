/**
 * How the two sides introduce themselves: EHLO and HELO with the upgrade to TLS that happens meanwhile, the client's own
 * STARTTLS (RFC 3207), what of the destination's extensions the client is shown, and whether the policy of the destination
 * is met. Also what a leg that could not be had means for the command at hand.
 */
import { judgeTls, type TlsVerdict } from "../egress/tls-policy.ts";
import type { ReplyFacts } from "../events/events.ts";
import {
  parseCapabilities,
  rewriteEhloReply,
  WITHHELD_ALWAYS,
  WITHHELD_WITH_FILTER,
} from "../smtp/capabilities.ts";
import type { Command } from "../smtp/command.ts";
import { OWN, type OwnReply } from "../smtp/own-replies.ts";
import { firstLineText, formatReply, type Reply } from "../smtp/reply.ts";
import { type Leg, LegLost } from "./leg.ts";
import { DialFailed } from "./leg-dialer.ts";
import { type LegReplacement, ReplayRefused } from "./leg-replacement.ts";
import type { PassingOn } from "./passing-on.ts";
import { onceSent, type Slot } from "./reply-queue.ts";
import type { Session } from "./session.ts";
import type { Transaction } from "./transaction.ts";

export class Greeting {
  /** STARTTLS of the client's: what it said before counts no more. */
  needsHello = false;
  private readonly session: Session;
  private readonly up: PassingOn;
  private readonly replacement: LegReplacement;
  /** The transaction at hand is over for later commands. */
  private readonly endTransaction: () => Transaction | undefined;

  constructor(
    session: Session,
    up: PassingOn,
    replacement: LegReplacement,
    endTransaction: () => Transaction | undefined,
  ) {
    this.session = session;
    this.up = up;
    this.replacement = replacement;
    this.endTransaction = endTransaction;
  }

  /** False: EHLO has not been said, or was refused, so the leg is not what the policy of the destination asks. */
  mayCarryMail(): boolean {
    const { leg, env, destination } = this.session;
    const { policy } = env.tls.rules.forDestination(destination.ip);
    if (policy === "none" || policy === "may") return true;
    return leg !== undefined && this.judgeDestination(leg).met;
  }

  /** Keywords that the client isn't shown, and verbs that it may not use. */
  get withheld(): ReadonlySet<string> {
    return this.session.env.chain.required ? WITHHELD_WITH_FILTER : WITHHELD_ALWAYS;
  }

  /** EHLO or HELO. */
  hello(command: Command): void {
    const { session } = this;
    session.block();
    session.whenSettled(() => {
      const old = this.endTransaction();
      if (old !== undefined) session.report(old);
      const slot = session.open();
      // What the parked leg was told and has offered is another introduction's.
      this.replacement.end();
      session.hello = { esmtp: command.verb === "EHLO", name: command.argument, line: command.line };
      this.needsHello = false;
      this.introduce(slot, old)
        .catch((error: unknown) => this.helloFailed(slot, error))
        .finally(() => session.unblock());
    });
  }

  private async introduce(slot: Slot, old: Transaction | undefined): Promise<void> {
    const { session } = this;
    const hello = session.hello as NonNullable<typeof session.hello>;
    const introduction = await this.replacement.introduceFirst(hello);
    if (!session.isServing) return;
    const leg = session.leg as Leg;
    session.legIntroduced(leg);
    const { reply } = introduction;
    if (reply.code >= 300) {
      session.shown = undefined;
      if (old !== undefined) session.ended(old, reply, slot);
      return session.pass(slot, reply);
    }
    const verdict = this.judgeDestination(leg);
    if (!verdict.met) {
      this.noteShortfall(verdict);
      if (introduction.direct)
        session.recorder.line("|<", reply.wire, { leg: leg.number, tls: leg.encrypted });
      return session.answer(slot, verdict.shortfall === "not_verified" ? OWN.notVerified : OWN.notEncrypted);
    }
    if (!hello.esmtp) return this.answerHelo(slot, introduction.esmtp, introduction.direct, reply);
    const wire = rewriteEhloReply(reply.wire, {
      withheld: this.withheld,
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

  noteShortfall(verdict: TlsVerdict): void {
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

  /**
   * A leg could not be had, or its destination refused what was replayed: answers the command at hand, which is `tx`'s.
   * `record` is told what the answer is before it leaves.
   */
  replayFailed(slot: Slot, error: unknown, tx?: Transaction, record?: (answer: ReplyFacts) => void): void {
    const { session } = this;
    if (!session.isServing) return; // nobody waits for it any more
    const answer = this.failureAnswer(error);
    if ("reason" in answer) {
      record?.(session.ownFacts(answer));
      session.answer(slot, answer, tx);
    } else {
      record?.(session.upstreamFacts(answer, undefined));
      session.pass(slot, answer, tx);
    }
  }

  private failureAnswer(error: unknown): OwnReply | Reply {
    const { session } = this;
    if (error instanceof ReplayRefused) return error.own ?? (error.reply as Reply);
    if (error instanceof DialFailed) {
      session.env.telemetry.log("warn", "dial_failed", error.message, session.logFields(), error.cause);
      session.recorder.note("dial_failed", `dial failed: ${error.message}`);
      return error.kind === "no_source_ip" ? OWN.noUsableLeg : OWN.dialFailed;
    }
    if (error instanceof LegLost) {
      session.noteLoss(error);
      session.dropLostLeg();
      return OWN.legLost;
    }
    session.env.telemetry.log(
      "error",
      "session_failed",
      "a command failed in warp",
      session.logFields(),
      error,
    );
    session.dropLostLeg();
    return OWN.legLost;
  }

  /** The client's own STARTTLS. */
  starttls(command: Command): void {
    const { session } = this;
    const context = session.env.tls.downstream();
    if (context === undefined || session.client.encrypted) return this.up.refuse(command, OWN.notOffered);
    session.block();
    session.whenSettled(() => {
      this.up.record(">|", command.line);
      const slot = session.open();
      if (session.reader.buffered > 0) {
        // RFC 3207 §4.2: whoever put it there is not the one that TLS will speak with.
        session.env.telemetry.violation("downstream", "injected_plaintext");
        session.answer(slot, OWN.pipelinedStarttls);
        return session.unblock();
      }
      this.forgetPlaintext();
      onceSent(slot, () => this.acceptTls(context));
      session.answer(slot, OWN.readyForTls);
    });
  }

  /** What was said in plaintext counts no more (RFC 3207 §4.2), upstream neither. */
  private forgetPlaintext(): void {
    const { session } = this;
    // A login, say, that anybody may have put before the client's STARTTLS: the next command gets a leg without it.
    if (session.pinned) session.leavePinnedLeg();
    const old = this.endTransaction();
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
}
