// What answers HTTP requests: one guard before everything, then the routes (app.ts) and the WebSockets (sockets.ts).
// Loaded with the first request (server.ts): a head that nobody looks at does without.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { WebSocketServer } from 'ws';
import { createApp } from './app.js';
import { check, type GuardOptions, ownHosts, type RequestFacts } from './guard.js';
import type { HttpOptions } from './server.js';
import { SOCKET_ROUTES, serveSocket } from './sockets.js';

export interface Handlers extends Disposable {
  request(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

export function createHandlers(options: HttpOptions, port: number): Handlers {
  const guard: GuardOptions = { token: options.token, port, hosts: ownHosts(options.host, port) };
  const listener = getRequestListener(createApp({ ...options, guard }).fetch);
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024, clientTracking: true });
  return {
    request: (request, response) => void listener(request, response),
    upgrade(request, socket, head) {
      const verdict = check(factsOf(request), guard);
      const url = new URL(request.url ?? '/', 'http://raylite');
      const isKnown = SOCKET_ROUTES.some((route) => route.pattern.test(url.pathname));
      if (verdict.kind === 'refused' || !isKnown) {
        const status = verdict.kind === 'refused' ? verdict.status : 404;
        socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
        return;
      }
      sockets.handleUpgrade(request, socket, head, (ws) => serveSocket(options.cluster, ws, url, options.headAddress));
    },
    [Symbol.dispose]() {
      for (const ws of sockets.clients) ws.terminate();
      sockets.close();
    },
  };
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
