/**
 * The seam under which sockets live: what a session and a leg need of a connection, and nothing else. `NodeTransport` is
 * the one over node:net and node:tls; tests put another under it.
 */
import type { Socket } from "node:net";
import * as tls from "node:tls";
import type { Endpoint } from "../events/events.ts";
import { join } from "../smtp/octets.ts";
import { ReadGarbage } from "./read-garbage.ts";
import { ReadSocket } from "./read-socket.ts";
import { type Holder, TurnWrites } from "./turn-writes.ts";

export interface TransportHandler {
  data(chunk: Buffer): void;
  /** What `write` held back has gone out. */
  drained(): void;
  /** The peer sends no more (FIN); writing goes on. */
  ended(): void;
  /** Gone, both ways. Once, and nothing comes after it. */
  closed(cause: Error | undefined): void;
}

export interface SecureFacts {
  readonly version: string;
  readonly cipher: string;
}

/** The server's side of the handshake's end, with what a policy looks at. */
export interface PeerFacts extends SecureFacts {
  /** The chain leads to a trusted root and is in its time; names are not judged here. */
  readonly chainGood: boolean;
  /** Why it is not. */
  readonly chainError: string;
  /** The certificate, for the names in it; undefined where the peer sent none. */
  readonly certificate: tls.DetailedPeerCertificate | undefined;
}

export interface Transport {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly encrypted: boolean;
  /** Octets that were written and that the kernel certainly has not taken yet. */
  readonly unsent: number;
  /** Who is told; set before the first octet is read. */
  handler: TransportHandler;
  /** Small writes leave at the end of the turn. False: more than the high-water mark waits; go on at `drained`. */
  write(chunk: Buffer): boolean;
  pause(): void;
  resume(): void;
  /** FIN, once everything written is out. */
  end(): void;
  /** Finished with: FIN once everything written is out, and nothing more is read. */
  close(): void;
  /** RST: what has no end is no message. */
  reset(): void;
  /** At once; what waits in this process is lost. */
  destroy(): void;
  /** TLS as its client, on the connection as it is. Rejects where the handshake fails; the connection is then of no use. */
  startTls(options: tls.ConnectionOptions): Promise<PeerFacts>;
  /** TLS as its server. */
  acceptTls(context: tls.SecureContext): Promise<SecureFacts>;
}

/** How long `close` waits for a peer that takes nothing, ms. */
const CLOSE_MS = 30_000;

/** Writes up to so many octets wait for the end of the turn: commands, replies, small messages. */
const HELD_OCTETS = 8192;

/** Of all connections of this process. */
const readGarbage = new ReadGarbage();
const turnWrites = new TurnWrites();

const NO_HANDLER: TransportHandler = { data() {}, drained() {}, ended() {}, closed() {} };

/** `ip` without the v4-mapped prefix of a dual-stack listener. */
export function plainIp(ip: string): string {
  return ip.startsWith("::ffff:") && ip.includes(".") ? ip.slice(7) : ip;
}

export class NodeTransport implements Transport, Holder {
  handler: TransportHandler = NO_HANDLER;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  encrypted = false;
  private socket: Socket;
  /** The TCP socket below; the same until TLS starts. */
  private readonly raw: Socket;
  private cause: Error | undefined;
  private gone = false;
  /** A handshake is on: its own listeners say how it ends. */
  private handshaking = false;
  /** Written in this turn, and not handed to the socket yet. */
  private held: Buffer[] = [];
  private heldOctets = 0;

  /** A connected socket with `allowHalfOpen`. `remote`: where it is known already, since asking is a system call. */
  constructor(socket: Socket, remote?: Endpoint) {
    this.raw = socket;
    this.socket = socket;
    this.local = { ip: plainIp(socket.localAddress ?? ""), port: socket.localPort ?? 0 };
    this.remote = remote ?? { ip: plainIp(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    this.listen(socket);
  }

  private listen(socket: Socket): void {
    if (socket instanceof ReadSocket) socket.received = this.onData;
    else socket.on("data", this.onData);
    socket.on("drain", this.onDrain);
    socket.on("end", this.onEnd);
    socket.on("error", this.onError);
    socket.on("close", this.onClose);
  }

  private readonly onData = (chunk: Buffer): void => {
    readGarbage.add(chunk.length);
    this.handler.data(chunk);
  };
  private readonly onDrain = (): void => this.handler.drained();
  private readonly onEnd = (): void => this.handler.ended();
  private readonly onError = (error: Error): void => {
    this.cause ??= error;
  };
  private readonly onClose = (): void => {
    if (this.gone || this.handshaking) return;
    this.gone = true;
    const { handler } = this;
    this.handler = NO_HANDLER;
    handler.closed(this.cause);
  };

  get unsent(): number {
    // Node counts what TLS wrote as unwritten for another turn of the loop, in which the peer may well answer it.
    return this.heldOctets + (this.encrypted ? 0 : this.socket.writableLength);
  }

  write(chunk: Buffer): boolean {
    if (this.socket.writableNeedDrain || this.heldOctets + chunk.length > HELD_OCTETS) {
      // Large messages make a turn long: nobody's replies wait for them.
      turnWrites.flush();
      return this.socket.write(chunk);
    }
    if (this.held.length === 0) turnWrites.add(this);
    this.held.push(chunk);
    this.heldOctets += chunk.length;
    return true;
  }

  /** Hands what was written to the socket. */
  flush(): void {
    const { socket } = this;
    if (this.held.length === 0) return;
    const held = this.takeHeld();
    if (!socket.destroyed) socket.write(join(held));
  }

  private takeHeld(): readonly Buffer[] {
    const { held } = this;
    this.held = [];
    this.heldOctets = 0;
    return held;
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.flush();
    this.socket.end();
  }

  close(): void {
    this.flush();
    // Everything has been handed to the kernel: closing both at once spares a turn of the loop and its events.
    if (!this.encrypted && this.socket.writableLength === 0) this.socket.destroy();
    else {
      // A peer that reads nothing must not keep the connection for ever.
      this.socket.setTimeout(CLOSE_MS, () => this.destroy());
      this.socket.end(() => this.destroy());
    }
  }

  reset(): void {
    // The TLS socket has no reset of its own, and a close_notify would be an end: the TCP socket below is reset.
    if (this.raw.destroyed) return;
    this.takeHeld();
    this.raw.resetAndDestroy();
    if (this.socket !== this.raw) this.socket.destroy();
  }

  destroy(): void {
    this.flush();
    this.socket.destroy();
    if (this.socket !== this.raw) this.raw.destroy();
  }

  async startTls(options: tls.ConnectionOptions): Promise<PeerFacts> {
    const secure = await this.handshake("secureConnect", (socket) =>
      // The chain is judged here, names by the policy: `checkServerIdentity` would compare with "localhost".
      tls.connect({ ...options, socket, rejectUnauthorized: false, checkServerIdentity: () => undefined }),
    );
    const certificate = secure.getPeerCertificate(true);
    return {
      ...secureFacts(secure),
      chainGood: secure.authorized,
      chainError: secure.authorized ? "" : String(secure.authorizationError ?? "no certificate"),
      certificate: Object.keys(certificate ?? {}).length > 0 ? certificate : undefined,
    };
  }

  async acceptTls(context: tls.SecureContext): Promise<SecureFacts> {
    // "secure" is what a TLS socket says of itself; a tls.Server makes its own event of it.
    return secureFacts(
      await this.handshake(
        "secure",
        (socket) => new tls.TLSSocket(socket, { isServer: true, secureContext: context }),
      ),
    );
  }

  private handshake(doneEvent: string, start: (socket: Socket) => tls.TLSSocket): Promise<tls.TLSSocket> {
    const raw = this.raw;
    this.flush();
    raw.removeListener("data", this.onData);
    if (raw instanceof ReadSocket) raw.hearsOut = false;
    // "drain" stays: what was written before TLS may still be on its way out.
    raw.removeListener("end", this.onEnd);
    raw.removeListener("close", this.onClose);
    this.handshaking = true;
    return new Promise((resolve, reject) => {
      const secure = start(raw);
      // Made without allowHalfOpen: a FIN of the peer would end our side, and replies have to go on behind it.
      secure.allowHalfOpen = true;
      const fail = (error?: Error): void => {
        if (!this.handshaking) return;
        this.handshaking = false;
        this.gone = true;
        raw.destroy();
        secure.destroy();
        const cause = error ?? this.cause ?? new Error("connection closed during the TLS handshake");
        reject(cause);
        // Whoever waits for the handshake is told first.
        setImmediate(() => this.handler.closed(cause));
      };
      const closed = (): void => fail();
      secure.on("error", fail);
      secure.on("close", closed);
      secure.on("end", closed);
      raw.on("close", closed);
      secure.once(doneEvent, () => {
        if (!this.handshaking) return;
        this.handshaking = false;
        this.encrypted = true;
        this.socket = secure;
        secure.removeListener("error", fail);
        secure.removeListener("close", closed);
        secure.removeListener("end", closed);
        raw.removeListener("close", closed);
        this.listen(secure);
        resolve(secure);
      });
    });
  }
}

function secureFacts(secure: tls.TLSSocket): SecureFacts {
  return { version: secure.getProtocol() ?? "", cipher: secure.getCipher()?.standardName ?? "" };
}
