// The HTTP door of the head: one guard before everything, then the routes (app.ts) and the WebSockets (sockets.ts).
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { WebSocketServer } from 'ws';
import type { Cluster } from '../cluster.js';
import { listenError } from '../listen-error.js';
import type { PackageStore } from '../packages.js';
import { createApp } from './app.js';
import { check, type GuardOptions, ownHosts, type RequestFacts } from './guard.js';
import { SOCKET_ROUTES, serveSocket } from './sockets.js';

export interface HttpDoor extends AsyncDisposable {
  readonly port: number;
}

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly cluster: Cluster;
  readonly packages: PackageStore;
  readonly pageDir: string;
  readonly headAddress: () => string;
}

/** Headers that a slow or hostile client may send, and how long it may take. */
const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 600_000; // an upload of 500 MiB over a slow link

/** Listens; rejects with a ConfigError when the port is taken. */
export async function serveHttp(options: HttpOptions): Promise<HttpDoor> {
  const server = createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_MS_MAX,
    requestTimeout: REQUEST_MS_MAX,
  });
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  const guard: GuardOptions = { token: options.token, port, hosts: ownHosts(options.host, port) };
  const app = createApp({ ...options, guard });
  server.on('request', getRequestListener(app.fetch));
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024, clientTracking: true });
  server.on('upgrade', (request, socket, head) => {
    const verdict = check(factsOf(request), guard);
    const url = new URL(request.url ?? '/', 'http://raylite');
    const isKnown = SOCKET_ROUTES.some((route) => route.pattern.test(url.pathname));
    if (verdict.kind === 'refused' || !isKnown) {
      const status = verdict.kind === 'refused' ? verdict.status : 404;
      socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (ws) => serveSocket(options.cluster, ws, url, options.headAddress));
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const ws of sockets.clients) ws.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function listen(server: Server, at: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError('dashboard-port', at, cause)));
    server.listen(at.port, at.host, resolve);
  });
}

function factsOf(request: IncomingMessage): RequestFacts {
  const one = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(',') : value;
  };
  return {
    method: request.method ?? 'GET',
    host: one('host'),
    origin: one('origin'),
    secFetchSite: one('sec-fetch-site'),
    authorization: one('authorization'),
    cookie: one('cookie'),
  };
}
