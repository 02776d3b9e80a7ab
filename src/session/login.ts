/**
 * AUTH (RFC 4954): the exchange is the client's secret, passed on as it is and shown to nobody. A 334 makes the client's next
 * line an answer, whatever it looks like.
 */
import { type Command, REDACTED_LINE } from "../smtp/command.ts";
import { OWN } from "../smtp/own-replies.ts";
import type { Reply } from "../smtp/reply.ts";
import { AuthExchange } from "./auth-exchange.ts";
import type { PassingOn } from "./passing-on.ts";
import type { Session } from "./session.ts";

export class Login {
  private readonly session: Session;
  private readonly up: PassingOn;
  private exchange: AuthExchange | undefined;

  constructor(session: Session, up: PassingOn) {
    this.session = session;
    this.up = up;
  }

  /** The client's next line is an answer. */
  get awaitsAnswer(): boolean {
    return this.exchange !== undefined;
  }

  /** AUTH. */
  begin(command: Command): void {
    const exchange = new AuthExchange(command);
    this.up.forward(command, undefined, (reply) => this.replied(exchange, reply), "auth");
  }

  /** A line of the exchange: it is the client's secret (RFC 4954), passed on and shown to nobody. */
  answer(line: Buffer): void {
    const { session } = this;
    const { leg } = session;
    const exchange = this.exchange as AuthExchange;
    if (leg === undefined) return session.answer(session.open(), OWN.pinnedLegGone);
    this.exchange = undefined;
    session.reader.expectCommand();
    exchange.answered(line);
    this.up.record("->", REDACTED_LINE, undefined, true);
    const slot = session.open();
    session.block();
    leg.expect(
      (reply) => {
        this.replied(exchange, reply);
        session.pass(slot, reply);
        session.unblock();
      },
      session.env.settings.timeouts.commandMs,
      "auth",
    );
    this.up.line(leg, line);
  }

  /** A line of the exchange was refused by warp: upstream, too, has to know that there is none (RFC 4954 §4). */
  cancel(): void {
    const { session } = this;
    if (this.exchange === undefined) return;
    this.exchange = undefined;
    session.reader.expectCommand();
    const leg = session.leg;
    if (leg === undefined) return;
    leg.expect((reply) => {
      if (reply.code === 334) leg.lose("unexpected_reply", "334 to a cancelled AUTH");
    }, session.env.settings.timeouts.commandMs);
    this.up.line(leg, Buffer.from("*"));
  }

  private replied(exchange: AuthExchange, reply: Reply): void {
    const { session } = this;
    if (reply.code < 400) session.pinned = true;
    if (reply.code < 300) this.up.secretsMayFollow = false;
    if (reply.code === 334) {
      this.exchange = exchange;
      session.reader.expectExchange();
    } else if (reply.code < 300) session.authUser = exchange.user;
  }
}
