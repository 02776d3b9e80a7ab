/**
 * `warp/hook`: write a filter or an observer for warp in TypeScript.
 *
 *     import { addHeader, insert, reject, relay, serveHook } from "warp/hook";
 *
 *     await serveHook({
 *       name: "no-invoices",
 *       listen: "unix:/run/warp/no-invoices.sock",
 *       async beforeRelay(envelope, message) {
 *         const header = await message.header();
 *         if (/invoice/i.test(header.get("Subject") ?? "")) return reject("550 5.7.1 Send invoices by the portal");
 *         return envelope.recipients.length > 50 ? addHeader([insert("X-Bulk", "yes")]) : relay();
 *       },
 *     });
 *
 * and start the proxy with `--filter no-invoices=unix:/run/warp/no-invoices.sock`. docs/hooks.md tells the rest; the
 * protocol itself is proto/warp/hook/v1/hook.proto.
 */
export {
  type Address,
  type AfterComm,
  type AfterConn,
  type AfterTransaction,
  Direction,
  type Endpoint,
  type Envelope,
  type Event,
  type FilterOutcome,
  type Gap,
  type Notice,
  Origin,
  Outcome,
  type Recipient,
  type Reply,
  type Route,
  type SelectRouteRequest,
  type Session,
  type Source,
  type Timing,
  type Tls,
} from "../gen/warp/hook/v1/hook_pb.ts";
export { type HookAddress, isLocal, parseAddress } from "./address.ts";
export type { Pem, ServerTls } from "./credentials.ts";
export type { FilterContext, FilterHandler } from "./filter.ts";
export { type HeaderField, type HeaderSection, parseHeader } from "./header.ts";
export type { HookMessage } from "./message.ts";
export type { EventHandler, EventHandlers, ObserveContext, ObserveHandler } from "./observe.ts";
export {
  type HookOptions,
  type HookServer,
  type ObservedKind,
  type RouteChoice,
  type RouteHandler,
  serveHook,
} from "./server.ts";
export {
  add,
  addHeader,
  asFieldValue,
  asReplyText,
  cutOctets,
  discard,
  type Edit,
  type Findings,
  insert,
  type RejectReply,
  reject,
  relay,
  remove,
  replace,
  set,
  type Verdict,
} from "./verdict.ts";
