/**
 * `/metrics`, `/healthz` and `/readyz`, on an address that the operator names. Healthy: the process serves. Ready: it
 * may be given connections; else 503 with one reason per line. Nothing here asks who is asking: bind it to loopback or
 * to a network of your own. Bounded in connections and time, and one request at a time on each: HTTP allows pipelining,
 * which no scraper uses, and Node would make the answers to thousands of requests in one segment all at once.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface TelemetrySources {
  /** Text of `/metrics`. */
  metrics(): Promise<string>;
  /** Why it isn't ready; empty: it is. */
  notReady(): readonly string[];
}
export interface TelemetryServer {
  readonly address: { readonly ip: string; readonly port: number };
  close(): Promise<void>;
}

const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Resolves when it listens; rejects when it can't (EADDRINUSE, EADDRNOTAVAIL). Port 0: any free one. `fd`: a socket that
 * listens already.
 */
export function serveTelemetry(
  listen: { readonly ip: string; readonly port: number } | { readonly fd: number },
  sources: TelemetrySources,
): Promise<TelemetryServer> {
  const answering = new WeakSet<Socket>();
  const server = createServer((request, response) => {
    const { socket } = request;
    if (answering.has(socket)) {
      socket.destroy();
      return;
    }
    answering.add(socket);
    response.once("finish", () => answering.delete(socket));
    answer(request, response, sources).catch((error: unknown) => {
      // What a scrape runs into is the scraper's to see; it can't harm mail.
      if (response.headersSent) response.destroy();
      else send(response, 500, `${(error as Error).message}\n`);
    });
  });
  server.maxConnections = 64;
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  server.keepAliveTimeout = 75_000;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const options = "fd" in listen ? listen : { port: listen.port, host: listen.ip };
    server.listen(options, () => {
      server.off("error", reject);
      const { address, port } = server.address() as AddressInfo;
      resolve({ address: { ip: address, port }, close: () => close(server) });
    });
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  sources: TelemetrySources,
): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    send(response, 405, "only GET and HEAD\n");
    return;
  }
  const path = (request.url ?? "/").split("?")[0];
  if (path === "/metrics") send(response, 200, await sources.metrics(), CONTENT_TYPE);
  else if (path === "/healthz") send(response, 200, "ok\n");
  else if (path === "/readyz") {
    const reasons = sources.notReady();
    if (reasons.length === 0) send(response, 200, "ready\n");
    else send(response, 503, `${reasons.join("\n")}\n`);
  } else send(response, 404, "there is /metrics, /healthz and /readyz\n");
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) });
  response.end(response.req.method === "HEAD" ? undefined : text);
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
