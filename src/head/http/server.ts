// The HTTP door of the head: listens at once, and loads what answers (handlers.ts) with the first request.
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createDoor, type Server as Door, type Socket } from 'node:net';
import { secureDoor, tlsOf } from '../../protocol/tls/index.js';
import type { Cluster } from '../cluster.js';
import { listenError } from '../listen-error.js';
import type { PackageStore } from '../packages.js';
import type { Handlers } from './handlers.js';

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
  // One port for both: the parts of the cluster come by TLS, browsers (which do not know its certificate) by plain HTTP.
  const enter = (socket: Socket): boolean => server.emit('connection', socket);
  const tls = tlsOf(options.host, options.token);
  const door = createDoor(tls ? secureDoor(tls, { secure: enter, plain: enter }) : enter);
  await listen(door, options);
  const { port } = door.address() as AddressInfo;
  let handlers: Promise<Handlers> | null = null;
  const load = (): Promise<Handlers> => {
    handlers ??= import('./handlers.js').then(({ createHandlers }) => createHandlers(options, port));
    return handlers;
  };
  server.on('request', async (request, response) => (await load()).request(request, response));
  server.on('upgrade', async (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    (await load()).upgrade(request, socket, head);
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      (await handlers)?.[Symbol.dispose]();
      server.closeAllConnections();
      await new Promise<void>((resolve) => door.close(() => resolve()));
    },
  };
}

function listen(server: Door, at: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError('dashboard-port', at, cause)));
    server.listen(at.port, at.host, resolve);
  });
}
