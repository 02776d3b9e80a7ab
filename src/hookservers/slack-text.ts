/**
 * Text for Slack's mrkdwn. Slack's three characters `&`, `<`, `>` are escaped, so that no data can mention a channel
 * (`<!channel>`), a user, or make a link; what a peer said stands in a code span, where `*`, `_` and `~` mean nothing, and
 * its own backticks are replaced, so that it cannot end the span.
 */

import type { AfterConn } from "../gen/warp/hook/v1/hook_pb.ts";
import { addressText, senderWord } from "./rows.ts";
import { cutCharacters, printable } from "./text.ts";

const longest = 200;

/** `` `text` ``, safe whatever it is, at most about 200 characters. */
export function code(text: string): string {
  const short = cutCharacters(text, longest);
  const shown = printable(short.length < text.length ? `${short}…` : short).replaceAll("`", "ˋ");
  // An empty span would show its backticks.
  return shown.trim() === "" ? "` `" : `\`${escapeMarkup(shown)}\``;
}

export function escapeMarkup(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** The original's notice of a connection: `` `from` => `to` (n msec) ``. */
export function connectionNotice(conn: AfterConn): string {
  const to = conn.mailTo[0] === undefined ? "unknown" : addressText(conn.mailTo[0]);
  return `${code(senderWord(conn.mailFrom))} => ${code(to)} (${conn.elapseMs} msec)`;
}
